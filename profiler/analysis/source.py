"""Where tables come from, and which of their rows a question is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from profiler.analysis.frame import (
    GROUP_KEYS,
    PROXIES,
    group_label,
    grouping,
    measured,
    network_names,
    plain,
    scale_of,
)
from profiler.errors import UserError
from profiler.records import table
from profiler.records.outside import is_folder
from profiler.records.reading import NAME, read
from profiler.records.sheets import read_csv

#: What a foreign table must have to be fitted, beside a latency.
_NEEDED = ("model", "flops", "params", "acts")
#: What tells rows apart, beside the network and its setting.
_APART = ("inputs", "content", "case")


def read_table(
    path: Path, say: Callable[[str], None] = lambda _: None, needed: Sequence[str] = _NEEDED
) -> pd.DataFrame:
    """A table for fitting: a run, layer costs, or any CSV with model, flops, params, acts and a latency.

    Args:
        path: The source.
        say: Is told what could not be read of a journal, a sentence at a time.
        needed: Columns that a CSV must have.

    Raises:
        UserError: The file does not exist, is no table, lacks a column, or has unlike rows of one case.
    """
    if is_folder(path) and not (path / NAME).exists() and (tables := sorted(path.glob("*.csv"))):
        raise UserError(f"{path} holds no run, which has a {NAME}; name the table in it: {tables[0]}")
    if is_folder(path) or path.suffix == Path(NAME).suffix:
        run = read(path)
        for notice in run.notices:
            say(notice)
        return table.frame(run)
    if path.suffix == ".json":
        from profiler.analysis.layer_file import costs_frame, read_costs  # which counts layers, with onnx

        return costs_frame(read_costs(path))
    found = read_csv(path)
    missing = [name for name in needed if name not in found.columns]
    if missing:
        raise UserError(
            f"{path} lacks {', '.join(missing)}; a table to fit has the columns {', '.join(needed)} and a latency."
        )
    return _each_once(found, path, say)


def _each_once(found: pd.DataFrame, path: Path, say: Callable[[str], None]) -> pd.DataFrame:
    """The table without rows that stand there twice.

    Raises:
        UserError: Two unlike rows hold a measurement of one network in one setting.
    """
    twice = int(found.duplicated().sum())
    if twice:
        rows = "1 row stands there twice, and counts" if twice == 1 else f"{twice} rows stand there twice, and count"
        say(f"{path}: {rows} once.")
    kept = found.drop_duplicates()
    keys = [key for key in (*grouping(kept), *_APART) if key in kept]
    cells = zip(network_names(kept), *([plain(value) for value in kept[key]] for key in keys), strict=True)
    first: dict[tuple[str, ...], int] = {}
    for at, (case, good) in enumerate(zip(cells, measured(kept), strict=True)):
        if good and first.setdefault(case, at) != at:
            group = {key: value for key, value in zip(keys, case[1:], strict=True) if key in GROUP_KEYS}
            said = f"{case[0]} ({group_label(group)})" if group else case[0]
            raise UserError(_two_of_one(kept.iloc[[first[case], at]], said, path))
    return kept.reset_index(drop=True)


def _two_of_one(rows: pd.DataFrame, said: str, path: Path) -> str:
    differs = [str(name) for name in rows if len({plain(value) for value in rows[name]}) > 1]
    one, other = (number + 1 for number in rows.index)
    return (
        f"{path}: rows {one} and {other} are both of {said}, and differ in {', '.join(differs)}: give one row per "
        f"network and setting, such as the mean of its rows, or tell them apart in one of the columns "
        f"{', '.join(GROUP_KEYS)}"
    )


def in_one(sources: Sequence[Path], frames: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """The tables of several sources, each with a column ``run``; a table that tells its runs apart keeps them so."""
    several = len(sources) > 1
    made = []
    for name, frame in zip(source_names(sources), frames, strict=True):
        own = [plain(value) for value in frame["run"]] if "run" in frame else [""] * len(frame)
        made.append(frame.assign(run=[f"{name}/{run}" if several and run else run or name for run in own]))
    return made


def source_names(sources: Sequence[Path]) -> list[str]:
    """A short name for each source: its own, or what of its path tells it from the others.

    ``a/run/cases.csv`` and ``b/run/cases.csv`` are ``a`` and ``b``.

    Raises:
        UserError: A source is named twice, and would count as two.
    """
    files = [source.resolve() / NAME if is_folder(source) else source.resolve() for source in sources]
    if twice := next((source for source, file in zip(sources, files, strict=True) if files.count(file) > 1), None):
        raise UserError(f"{twice} is named twice: expected sources that differ, each named once")
    short = [source.resolve().parent.name if source.suffix == ".jsonl" else source.stem for source in sources]
    if len(set(short)) == len(short):
        return short
    paths = [source.resolve().parts for source in sources]
    most = max(map(len, paths))
    tail = next(number for number in range(1, most + 1) if len({parts[-number:] for parts in paths}) == len(paths))
    same = next(number for number in range(tail) if len({parts[-number - 1 :][:1] for parts in paths}) > 1)
    return [str(Path(*parts[-tail : len(parts) - same])) for parts in paths]


def chosen_rows(frame: pd.DataFrame, backend: str | None, where: str | None) -> pd.DataFrame:
    """The rows that ``--backend`` and ``--where`` choose; all of them where neither is given.

    Args:
        frame: The table.
        backend: A value of the column ``backend``, or None.
        where: Values of other grouping columns, as ``batch=8,threads=1``, or None.

    Raises:
        UserError: A condition is not of that form, or no row meets it.
    """
    wanted = ([("backend", backend)] if backend else []) + _conditions(where or "")
    for key, value in wanted:
        have = [plain(v) for v in frame[key]] if key in frame else []
        if value not in have:
            told = ", ".join(sorted(set(have) - {""})) or f"no column {key}"
            raise UserError(f"no row of {key} {value!r}: the table has {told}")
        frame = frame[np.array(have) == value]
    return frame


def _conditions(text: str) -> list[tuple[str, str]]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    pairs = [(key.strip(), value.strip()) for key, _, value in (part.partition("=") for part in parts)]
    for part, (key, value) in zip(parts, pairs, strict=True):
        if key not in GROUP_KEYS or not value:
            raise UserError(f"--where {part!r}: expected KEY=VALUE, such as batch=8; keys are {', '.join(GROUP_KEYS)}")
    return pairs


def exact_counts(frame: pd.DataFrame) -> pd.DataFrame:
    """The table itself, if its counts are counts; this program writes nothing else, of tiny networks too.

    Raises:
        UserError: They look like thousands or billions, so that a network counted here cannot be compared.
    """
    if "content" in frame and frame["content"].notna().any():
        return frame
    for proxy in ("acts", "flops"):
        column = frame[proxy] if proxy in frame else pd.Series(dtype=float)
        counts = pd.to_numeric(column, errors="coerce").dropna().to_numpy(dtype=np.float64)
        if len(counts) and scale_of(proxy, counts)[1].startswith("unit"):
            raise UserError(
                f"column {proxy!r} never reaches 10,000, so it is taken for millions or billions of "
                f"{PROXIES[proxy].name}: write exact counts, such as 4e9 flops, to predict from this table"
            )
    return frame
