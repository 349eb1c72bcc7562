"""Tables as data frames: their columns, their groups, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from profiler.analysis.regression import Floats
from profiler.errors import UserError
from profiler.records.reading import NAME, read
from profiler.records.table import frame


def source_names(sources: Sequence[Path]) -> list[str]:
    """A short name for each source; the whole path where short ones coincide."""
    short = [source.resolve().parent.name if source.suffix == ".jsonl" else source.stem for source in sources]
    return short if len(set(short)) == len(short) else [str(source) for source in sources]


class Proxy(NamedTuple):
    """A complexity that may predict latency: its name in prose, and the unit slopes are stated in."""

    name: str
    scale: float
    unit: str


PROXIES = {
    "acts": Proxy("activations", 1e6, "M acts"),
    "flops": Proxy("flops", 1e9, "GF"),
    "params": Proxy("parameters", 1e6, "M params"),
}
#: Further counts, of our own tables alone.
MORE = ("layers", "padding_flops")
ALL_TERMS = (*PROXIES, *MORE)

GROUP_KEYS = ("run", "host", "backend", "device", "precision", "memory_format", "threads", "batch", "mode")
SHOWN_WHEN_SEVERAL = ("run", "host", "memory_format")
MEASURED = ("ok", "unstable")
UNITS = {"ms": "ms", "us": "µs", "s": "s", "mib": "MiB", "mb": "MB", "bytes": "bytes", "hr": "h", "h": "h"}
SECONDS = {"µs": 1e-6, "ms": 1e-3, "s": 1.0, "h": 3600.0}
#: Bytes of one activation.
BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
NOT_LATENCIES = frozenset((*PROXIES, "model", "family", "resolution", *GROUP_KEYS, "factor"))
LATENCY_NAME = re.compile(r"(?:^|[_ ])(?:ms|us|latency|time|infer|inference)(?:$|[_ (])", re.IGNORECASE)


def grouping(frame: pd.DataFrame) -> list[str]:
    """The grouping columns that this table has; run, host and memory format only where there are several."""
    return [
        key
        for key in GROUP_KEYS
        if key in frame and (key not in SHOWN_WHEN_SEVERAL or frame[key].dropna().nunique() > 1)
    ]


def group_label(group: Mapping[str, str]) -> str:
    """A group as people say it: ``onnxruntime · cpu · fp32 · 1 thread · batch 1 · infer``."""
    say = {
        "threads": lambda v: f"{v} thread" if v == "1" else f"{v} threads",
        "batch": lambda v: f"batch {v}",
        "host": lambda v: f"host {v}",
    }
    return " · ".join(say.get(key, str)(value) for key, value in group.items() if value) or "all networks"


def unit_of(column: str) -> str:
    """Unit of a column, read off the end of its name; empty where it does not tell."""
    return UNITS.get(re.split(r"[_ (]", column.lower().rstrip(")"))[-1], "")


def prose(column: str) -> str:
    """A column as people say it, without its unit: ``latency`` for ``latency_ms``."""
    name, _, end = column.rpartition("_")
    return (name if name and unit_of(end) else column).replace("_", " ")


def network_names(frame: pd.DataFrame) -> list[str]:
    """The network of each row as people say it: ``regnety_4.0gf dWr x4``."""
    scaling = frame["scaling"] if "scaling" in frame else [""] * len(frame)
    factor = frame["factor"] if "factor" in frame else [""] * len(frame)
    return [
        f"{model} {rule} x{plain(s)}" if plain(rule) else plain(model)
        for model, rule, s in zip(frame["model"], scaling, factor, strict=True)
    ]


def measured(frame: pd.DataFrame) -> pd.Series[bool]:
    """Which rows hold a measurement: all of them where the table has no column ``status``."""
    if "status" not in frame:
        return pd.Series([True] * len(frame), index=frame.index)
    return frame["status"].isin(MEASURED)


def rows_of(frame: pd.DataFrame, group: Mapping[str, str]) -> pd.DataFrame:
    """The rows of one group, measured or not, in their order."""
    keep = np.ones(len(frame), dtype=bool)
    for key, value in group.items():
        keep &= np.array([plain(v) == value for v in frame[key]], dtype=bool)
    return frame[keep]


def latency_column(frame: pd.DataFrame, asked: str | None) -> str:
    """The column to explain: the one asked for, else ``latency_ms``, else the only one named like a latency.

    Raises:
        UserError: There is no such column, or more than one.
    """
    have = ", ".join(map(str, frame.columns))
    if asked is not None:
        if asked not in frame:
            raise UserError(f"no column {asked!r}: the table has {have}")
        return asked
    if "latency_ms" in frame:
        return "latency_ms"
    found = [str(c) for c in frame if c not in NOT_LATENCIES and LATENCY_NAME.search(str(c))]
    if len(found) != 1:
        what = f"several columns look like a latency ({', '.join(found)})" if found else "no latency column"
        raise UserError(f"{what}: name one with --y; the table has {have}")
    return found[0]


def checked_rows(frame: pd.DataFrame, y: str) -> pd.DataFrame:
    """The columns that are needed, numbers as floats, texts without holes; plus some of its own.

    Those are ``network``; ``why``, which says why a row cannot be used and is empty where it can; ``spread``, the
    relative standard deviation of its measured y, 0 where nothing tells; and the columns of
    ``MORE``, NaN where the table has none.

    Raises:
        UserError: No rows, a missing column, or text where a number belongs.
    """
    missing = [c for c in ("model", *PROXIES, y) if c not in frame]
    if missing:
        have = ", ".join(map(str, frame.columns)) or "no columns"
        raise UserError(f"missing column {', '.join(missing)}: the table has {have}")
    if frame.empty:
        raise UserError("the table has no rows: expected one row per network, as `profiler run` writes them")
    table = frame.reset_index(drop=True)
    checked = pd.DataFrame({key: [plain(v) for v in table[key]] for key in grouping(frame)}, index=table.index)
    checked["family"] = [plain(v) for v in table["family"]] if "family" in table else ""
    checked["network"] = network_names(table)
    use = measured(table)
    for column in (*PROXIES, y):
        checked[column] = _numbers(table, column, use)
    for column in MORE:
        checked[column] = pd.to_numeric(table[column], errors="coerce").astype(float) if column in table else np.nan
    checked["why"] = _reasons(table, checked, use, y)
    checked["spread"] = _spread(table, y)
    return checked


def _spread(table: pd.DataFrame, y: str) -> Floats:
    """Relative standard deviation of each measured y, read off its 95% interval; 0 where the table has none.

    A row without an interval among rows with one counts as the median of those.
    """
    unit = y.rpartition("_")[2]
    low, high = (f"{y.removesuffix(f'_{unit}')}_ci_{end}_{unit}" for end in ("low", "high"))
    if low not in table or high not in table:
        return np.zeros(len(table))
    ends = [pd.to_numeric(table[end], errors="coerce").astype(float) for end in (low, high)]
    wide = (ends[1] / ends[0]).where((ends[0] > 0) & (ends[1] >= ends[0])).to_numpy(dtype=np.float64)
    spread: Floats = np.log(wide) / (2 * 1.96)
    known = np.isfinite(spread)
    return np.where(known, spread, np.median(spread[known]) if known.any() else 0.0)


def _numbers(table: pd.DataFrame, column: str, use: pd.Series[bool]) -> pd.Series[float]:
    """A column as floats, NaN where a cell is empty or its row failed.

    Raises:
        UserError: A measured row holds text.
    """
    values = pd.to_numeric(table[column], errors="coerce").astype(float)
    blank = table[column].isna() | (table[column].astype(str).str.strip() == "")
    bad = use & values.isna() & ~blank
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise UserError(
            f"column {column!r} holds {table[column].iloc[row]!r} in row {row + 1} "
            f"({table['model'].iloc[row]}): expected a number or an empty cell"
        )
    return values


def _reasons(table: pd.DataFrame, checked: pd.DataFrame, use: pd.Series[bool], y: str) -> list[str]:
    """Why each row is left out; empty for those that are used."""
    reason = [plain(v) for v in table["reason"]] if "reason" in table else [""] * len(table)
    whys = []
    for row, ok in enumerate(use):
        values = {c: float(checked[c].iloc[row]) for c in (*PROXIES, y)}
        holes = [c for c, v in values.items() if not np.isfinite(v)]
        if not ok:
            status = plain(table["status"].iloc[row]) or "no status"
            whys.append(f"{status}: {reason[row]}" if reason[row] else status)
        elif holes:
            whys.append(f"no number in {', '.join(holes)}")
        else:
            whys.append("" if values[y] > 0 else f"{y} is {values[y]:g}, not positive")
    return whys


def groups_of(table: pd.DataFrame, keys: list[str]) -> Iterable[tuple[dict[str, str], pd.DataFrame]]:
    """Rows of a checked table that may be compared, with the values of ``keys`` that they share."""
    if not keys:
        return [({}, table)]
    grouped = table.groupby(keys, sort=False, dropna=False)
    return [
        (dict(zip(keys, map(str, value if isinstance(value, tuple) else (value,)), strict=True)), rows)
        for value, rows in grouped
    ]


def scale_of(proxy: str, counts: Floats) -> tuple[float, str]:
    """What to divide a column by, and the unit then.

    Counts become millions or GF. A column that never reaches 10,000 is no count (published tables give flops
    in billions): it keeps its own unit, which the table alone knows.
    """
    if np.max(counts, initial=0) < 1e4:
        return 1.0, f"unit of {proxy}"
    return PROXIES[proxy].scale, PROXIES[proxy].unit


def plain(value: object) -> str:
    """A cell as text: a hole is empty, 4.0 is ``4``."""
    if value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA:
        return ""
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value).strip()


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
    """The table itself, if its counts are counts.

    Raises:
        UserError: They are in thousands or billions, so that a network counted here cannot be compared.
    """
    for proxy in ("acts", "flops"):
        column = frame[proxy] if proxy in frame else pd.Series(dtype=float)
        counts = pd.to_numeric(column, errors="coerce").dropna().to_numpy(dtype=np.float64)
        if len(counts) and scale_of(proxy, counts)[1].startswith("unit"):
            raise UserError(
                f"column {proxy!r} never reaches 10,000, so it is no count of {PROXIES[proxy].name}: "
                "write exact counts, such as 4e9 flops, to predict from this table"
            )
    return frame


#: What a foreign table must have to be fitted, beside a latency.
NEEDED = ("model", "flops", "params", "acts")


def read_table(path: Path) -> pd.DataFrame:
    """A table for fitting: a run folder, a journal, or any CSV with model, flops, params, acts and a latency.

    Raises:
        UserError: The file does not exist, is no table, or lacks a column.
    """
    import pandas as pd

    if path.is_dir() or path.suffix == Path(NAME).suffix:
        return frame(read(path))
    try:
        table = pd.read_csv(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); expected a run folder, a journal or a CSV."
        ) from error
    except (ValueError, UnicodeDecodeError) as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{path} is not a CSV table ({str(error).splitlines()[0]}).") from error
    missing = [name for name in NEEDED if name not in table.columns]
    if missing:
        raise UserError(
            f"{path} lacks {', '.join(missing)}; a table to fit has the columns {', '.join(NEEDED)} and a latency."
        )
    return table
