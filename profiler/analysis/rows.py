"""Rows of a table checked for use: what is a number, what is left out and why, what may be compared."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from profiler.analysis.frame import (
    PROXIES,
    SECONDS,
    TERMS,
    grouping,
    measured,
    network_names,
    plain,
    unit_of,
    unstable,
)
from profiler.analysis.regression import Floats
from profiler.errors import UserError
from profiler.records.columns import interval_columns

#: The upper end of an interval over its lower end from which a row tells nothing of its latency.
_UNSURE = 3.0
#: What ``why`` says of such a row at its end.
TOO_WIDE = "too wide to fit"


def checked_rows(frame: pd.DataFrame, y: str) -> pd.DataFrame:
    """The columns that are needed, numbers as floats, texts without holes; plus some of its own.

    Those are ``network``; ``measured``; ``unstable``, of a y that is a time; ``why``, which says why a row cannot be
    used and is empty where it can;
    ``spread``, the relative standard deviation of its measured y, 0 where nothing tells; and the columns of
    ``TERMS``, NaN where the table has none.

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
    checked["measured"] = use = measured(table)
    checked["unstable"] = unstable(table) & (unit_of(y) in SECONDS)
    for column in (*PROXIES, y):
        checked[column] = checked_numbers(table, column, use)
    for column in TERMS.keys() - PROXIES:
        checked[column] = pd.to_numeric(table[column], errors="coerce").astype(float) if column in table else np.nan
    checked["why"] = _reasons(table, checked, use, y)
    checked["spread"] = _spread(table, y)
    return checked


def uncounted(checked: pd.DataFrame, y: str) -> pd.Series[bool]:
    """Which rows of a checked table have a measured y, and lack a count to explain it with."""
    return checked["measured"] & checked[list(PROXIES)].isna().any(axis="columns") & (checked[y] > 0)


def _spread(table: pd.DataFrame, y: str) -> Floats:
    """Relative standard deviation of each measured y, read off its 95% interval; 0 where the table has none.

    A row without an interval among rows with one counts as the median of those.
    """
    low, high = _ends(table, y)
    with np.errstate(divide="ignore", invalid="ignore"):
        wide = np.where((low > 0) & (high >= low), high / low, np.nan)
    spread: Floats = np.log(wide) / (2 * 1.96)
    known = np.isfinite(spread)
    return np.where(known, spread, np.median(spread[known]) if known.any() else 0.0)


def _ends(table: pd.DataFrame, y: str) -> tuple[Floats, Floats]:
    """The ends of the 95% interval of each y; NaN where the table has none."""
    low, high = (
        pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
        if name in table
        else np.full(len(table), np.nan)
        for name in interval_columns(y)
    )
    return low, high


def checked_numbers(table: pd.DataFrame, column: str, use: pd.Series[bool]) -> pd.Series[float]:
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
    reason, uncounted = (
        [plain(v) for v in table[column]] if column in table else [""] * len(table)
        for column in ("reason", "uncounted")
    )
    low, high = _ends(table, y)
    whys = []
    for row, ok in enumerate(use):
        values = {c: float(checked[c].iloc[row]) for c in (*PROXIES, y)}
        holes = [c for c, v in values.items() if not np.isfinite(v)]
        if not ok:
            status = plain(table["status"].iloc[row]) or "no status"
            whys.append(f"{status}: {reason[row]}" if reason[row] else status)
        elif holes:
            whys.append(uncounted[row] or f"no number in {', '.join(holes)}")
        elif values[y] <= 0:
            whys.append(f"{y} is {values[y]:g}, not positive")
        else:
            unsure = high[row] > _UNSURE * low[row] > 0
            whys.append(f"its 95% interval is [{low[row]:.3g}, {high[row]:.3g}], {TOO_WIDE}" if unsure else "")
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
