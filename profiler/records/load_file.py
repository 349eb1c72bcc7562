"""A folder of loads: ``load.jsonl`` with every call, appended load by load, and ``load.csv`` made from it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pydantic

from profiler.errors import UserError
from profiler.records.columns import Row, write_csv
from profiler.records.load import LOAD_COLUMNS, LoadRecord
from profiler.records.outside import checked, file_bytes, json_of, problem
from profiler.records.reading import NAME as JOURNAL

NAME, TABLE = "load.jsonl", "load.csv"


class _Line(pydantic.BaseModel):
    """One line of the file: what is known, or a load."""

    facts: dict[str, Any] = {}
    load: LoadRecord | None = None


@dataclass(frozen=True, slots=True)
class LoadRun:
    """What a folder of loads holds.

    Attributes:
        facts: What is known of the machine and the command.
        records: The loads in their order.
        notices: What could not be read, a sentence each.
    """

    facts: Mapping[str, Any]
    records: tuple[LoadRecord, ...]
    notices: tuple[str, ...] = ()


def holds_loads(path: Path) -> bool:
    """Whether ``path`` is a folder of loads, or the file in one."""
    return path.name == NAME or os.path.isfile(path / NAME)  # noqa: PTH113 - a name may be too long to ask for


def start_loads(folder: Path, facts: Mapping[str, Any]) -> None:
    """Make ``folder`` and write what is known of the machine and the command.

    Raises:
        UserError: It holds loads or a run already, or cannot be written.
    """
    for name in (NAME, JOURNAL):
        if os.path.lexists(folder / name):
            raise UserError(f"{folder} already holds {name}: choose another folder with --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}): choose another folder with --out") from error
    _append(folder / NAME, {"facts": dict(facts)})


def append_load(folder: Path, record: LoadRecord) -> None:
    """Add one load; when this returns it is on the disk. Raises UserError where it is not."""
    _append(folder / NAME, {"load": asdict(record)})


def write_load_table(folder: Path, table: Iterable[Row]) -> None:
    """Write ``load.csv`` into ``folder`` from rows of ``profiler.records.load.load_row``."""
    write_csv(table, folder / TABLE, LOAD_COLUMNS)


def _append(path: Path, line: Mapping[str, Any]) -> None:
    try:
        with path.open("ab") as file:
            file.write((json.dumps(line, separators=(",", ":")) + "\n").encode(errors="replace"))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}): make room, or choose another folder with --out; "
            "what it holds is kept"
        ) from error


def read_loads(path: Path) -> LoadRun:
    """Read a folder of loads; a line that is damaged is left out and told.

    Raises:
        UserError: It cannot be read.
    """
    path = path if path.name == NAME else path / NAME
    try:
        lines = file_bytes(path).splitlines()
    except OSError as error:
        why = f"{path} cannot be read ({error.strerror}): name a folder that `profiler load` wrote"
        raise UserError(why) from error
    facts: dict[str, Any] = {}
    records: list[LoadRecord] = []
    notices = []
    for number, line in enumerate(lines, start=1):
        try:
            found = checked(_Line, json_of(line))
        except pydantic.ValidationError as error:
            notices.append(f"{path}: line {number} is left out ({problem(error)})")
        except ValueError as error:
            notices.append(f"{path}: line {number} is left out ({error})")
        else:
            facts |= found.facts
            records += [found.load] if found.load else []
    return LoadRun(facts, tuple(records), tuple(notices))
