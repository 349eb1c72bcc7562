"""Read journals, those cut short included."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pydantic

from profiler.errors import UserError
from profiler.records.types import SCHEMA, Case, Record

NAME = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class RunSession:
    """One start of ``profiler run`` in this folder.

    Attributes:
        pid: Process that wrote the line.
        facts: What the run knew then: host, versions, argv, seed, plan, digest, started, cases, budget.
        schema: Version of the format, as in ``Record``.
    """

    pid: int
    facts: Mapping[str, Any]
    schema: int = SCHEMA

    @property
    def host(self) -> Mapping[str, Any]:
        """Facts of the machine; empty when they were not recorded."""
        host = self.facts.get("host")
        return host if isinstance(host, Mapping) else {}


@dataclass(frozen=True, slots=True)
class Run:
    """All that a journal says.

    Attributes:
        path: The journal.
        sessions: In the order of their start.
        records: In the order in which they were measured.
        notices: One sentence for each line that could not be read.
        size: Bytes up to the end of the last whole line; what follows is torn.
    """

    path: Path
    sessions: tuple[RunSession, ...] = ()
    records: tuple[Record, ...] = ()
    notices: tuple[str, ...] = ()
    size: int = 0

    @property
    def by_case(self) -> dict[str, tuple[Record, ...]]:
        """Visits of each case under its key, cases in the order of their first visit."""
        groups: dict[str, list[Record]] = {}
        for record in self.records:
            groups.setdefault(record.case.key, []).append(record)
        return {key: tuple(group) for key, group in groups.items()}

    @property
    def planned(self) -> tuple[Case, ...]:
        """Cases of the last session, in plan order, measured or not."""
        return _cases().validate_python(self.sessions[-1].facts.get("cases", ())) if self.sessions else ()


@cache
def _records() -> pydantic.TypeAdapter[Record]:
    return pydantic.TypeAdapter(Record)


@cache
def _cases() -> pydantic.TypeAdapter[tuple[Case, ...]]:
    return pydantic.TypeAdapter(tuple[Case, ...])


def dump(record: Record) -> str:
    """One record as JSON text without line breaks; floats keep every digit, also NaN and the infinities."""
    return json.dumps(asdict(record), ensure_ascii=False, separators=(",", ":"))


def _parse(text: str | bytes) -> Record:
    """The record that ``dump`` wrote, equal to the last bit.

    Raises:
        ValueError: The text is no JSON, or a field is missing or of another type.
    """
    return _records().validate_json(text, strict=True)


def _journal_path(path: Path) -> Path:
    """The journal of a run, given its folder or the file itself.

    Raises:
        UserError: There is none.
    """
    journal = path / NAME if path.is_dir() else path
    if journal.is_file():
        return journal
    raise UserError(f"{path} holds no run: expected a folder with {NAME} in it, as `profiler run` leaves one.")


def read(path: Path) -> Run:
    """Read a run while it grows or after it ended; takes no lock.

    A torn last line is left out, and so is a line in the middle that cannot be read; each gives a notice.

    Raises:
        UserError: There is no journal, or a newer version of this program wrote it.
    """
    journal = _journal_path(path)
    try:
        data = journal.read_bytes()
    except OSError as error:
        raise UserError(f"{journal} cannot be read ({error.strerror}); check its permissions.") from error
    size = data.rfind(b"\n") + 1
    sessions: list[RunSession] = []
    records: list[Record] = []
    notices: list[str] = []
    for number, line in enumerate(data[:size].split(b"\n")[:-1], 1):
        try:
            entry = _entry(line, f"{journal}:{number}")
        except ValueError as error:
            notices.append(f"{journal}:{number}: this line is damaged and was skipped ({_first_line(error)}).")
            continue
        (sessions if isinstance(entry, RunSession) else records).append(entry)  # type: ignore[arg-type]
    if size < len(data):
        torn = len(data) - size
        notices.append(f"{journal}: the last line was cut off after {torn} bytes and was left out.")
    return Run(journal, tuple(sessions), tuple(records), tuple(notices), size)


def _entry(line: bytes, where: str) -> RunSession | Record:
    """One whole line. Raises ValueError for a damaged one, UserError for one from the future."""
    raw = json.loads(line.decode())
    if not isinstance(raw, dict):
        raise ValueError("not an object")  # noqa: TRY004 - damaged data, handled like any other
    body = raw.get("record") if raw.get("kind") == "visit" else raw
    schema = body.get("schema") if isinstance(body, dict) else None
    if not isinstance(schema, int):
        raise ValueError("no schema version")  # noqa: TRY004
    if schema > SCHEMA:
        raise UserError(
            f"{where} was written with schema {schema}, and this version reads up to {SCHEMA}; "
            "upgrade latency-profiler to read it."
        )
    if raw.get("kind") == "visit":
        return _parse(json.dumps(body))
    if raw.get("kind") == "session" and isinstance(raw.get("facts"), dict) and isinstance(raw.get("pid"), int):
        return RunSession(raw["pid"], raw["facts"], schema)
    raise ValueError(f"neither a session nor a visit: kind {raw.get('kind')!r}")


def _first_line(error: ValueError) -> str:
    if isinstance(error, pydantic.ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error).partition("\n")[0]
