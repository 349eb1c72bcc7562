"""What predicts latency here: activations, flops or parameters, and how surely.

Everything is computed per group: rows that share machine, backend, device, precision, threads, batch and
mode. ``acts``, ``flops`` and ``params`` are counts for *one image*; latency is that of a whole batch. As
groups never mix batches this changes no correlation, but a slope at batch 8 is the time of eight images per
million activations of one.
"""

from __future__ import annotations

import json as jsonlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from profiler.errors import UserError
from profiler.models.complexity import CHANNEL_BLOCK
from profiler.regression import (
    CONFIDENCE,
    LEAST_NETWORKS,
    Coefficient,
    Floats,
    Interval,
    bca_interval,
    coefficient,
    fisher_interval,
    held_out_mape,
    mape,
    non_negative_fit,
    precision_weights,
    resample_weights,
    slope_interval,
    weighted_correlations,
)
from profiler.table import read_table
from profiler.units import format_count, format_flops


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
#: More than two terms are fitted to so many networks at least.
LEAST_FOR_MORE = 12
GROUP_KEYS = ("run", "host", "backend", "device", "precision", "memory_format", "threads", "batch", "mode")
SHOWN_WHEN_SEVERAL = ("run", "host", "memory_format")
MEASURED = ("ok", "unstable")
UNITS = {"ms": "ms", "us": "µs", "s": "s", "mib": "MiB", "mb": "MB", "bytes": "bytes", "hr": "h", "h": "h"}
SECONDS = {"µs": 1e-6, "ms": 1e-3, "s": 1.0, "h": 3600.0}
#: Bytes of one activation.
BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
NOT_LATENCIES = frozenset((*PROXIES, "model", "family", "resolution", *GROUP_KEYS, "factor"))
LATENCY_NAME = re.compile(r"(?:^|[_ ])(?:ms|us|latency|time|infer|inference)(?:$|[_ (])", re.IGNORECASE)

LEAST_FOR_BOOTSTRAP = 5
RESAMPLES = 4000
SEED = 20210311


@dataclass(frozen=True, slots=True)
class Line:
    """Least squares of y on one proxy: ``y = intercept + slope · x``.

    Attributes:
        proxy: ``acts``, ``flops`` or ``params``.
        x_unit: What one unit of x is: ``M acts``, ``GF``, ``M params``.
        slope: Units of y per unit of x.
        slope_se: HC3 standard error of the slope; None where one network alone sets the slope.
        slope_interval: 95% interval of the slope, see :func:`slope_interval`.
        intercept: In units of y.
        r: Pearson correlation.
        r_fisher: 95% interval of r by Fisher's z.
        r_bootstrap: 95% BCa interval of r over resampled networks; None below 5 networks. In simulations with
            noise in proportion to latency and 10 to 40 networks spread evenly in log x it covers 84 to 88%,
            Fisher's 81 to 84%: read both as somewhat too narrow.
        r2: Share of the variance explained.
        rmse: Root mean square residual, in units of y.
        mape: Mean of ``|residual| / y``, as a fraction.
        exponent: Of ``y ∝ x^exponent``, least squares in logarithms: 1 where y is in proportion.
        exponent_interval: Its 95% interval, as that of the slope.
        within_slope: The slope when each family has an intercept of its own; None below two families.
        within_interval: Its 95% interval, as that of the slope.
    """

    proxy: str
    x_unit: str
    slope: float
    slope_se: float | None
    slope_interval: Interval | None
    intercept: float
    r: float
    r_fisher: Interval
    r_bootstrap: Interval | None
    r2: float
    rmse: float
    mape: float
    exponent: float | None = None
    exponent_interval: Interval | None = None
    within_slope: float | None = None
    within_interval: Interval | None = None

    @property
    def r_interval(self) -> Interval:
        """The interval to quote: over resampled networks where there are enough of them, else Fisher's."""
        return self.r_bootstrap or self.r_fisher


@dataclass(frozen=True, slots=True)
class Winner:
    """The proxy with the largest ``|r|``.

    Attributes:
        proxy: Its column.
        probability: Share of the paired resamples of networks in which it still has the largest ``|r|``, ties
            counted by half; None below 5 networks.
    """

    proxy: str
    probability: float | None


@dataclass(frozen=True, slots=True)
class TwoTerm:
    """``y = t0 + per_acts · acts + per_flops · flops``, no term negative, squared *relative* errors least.

    Rows are weighted by :func:`profiler.regression.precision_weights` where the table has their intervals.

    Attributes:
        t0: In units of y.
        per_acts: Units of y per million activations.
        per_flops: Units of y per GF.
        mape: Mean relative error on the networks it was fitted to, as a fraction.
        loo_mape: The same on each network when fitted without it; None below 4 networks.
        lofo_mape: The same on each family when fitted without it; None below two families, or where the rest
            is fewer than 3 networks.
        weighted: Whether rows were weighted by how surely they were measured.
    """

    t0: float
    per_acts: float
    per_flops: float
    mape: float
    loo_mape: float | None
    lofo_mape: float | None
    weighted: bool = False


@dataclass(frozen=True, slots=True)
class FullModel:
    """The two-term model with terms for parameters, layers and padding beside them, none of them negative.

    Weights must be read, every layer costs a launch, and narrow groups waste arithmetic where channels are kept in
    blocks; see :func:`profiler.models.complexity.padding`. Fields that :class:`TwoTerm` has mean the same.

    Attributes:
        per_params: Units of y per million parameters.
        per_layer: Units of y per convolution or linear layer.
        per_padding: Units of y per GF of padding.
    """

    t0: float
    per_acts: float
    per_flops: float
    per_params: float
    per_layer: float
    per_padding: float
    mape: float
    loo_mape: float | None
    lofo_mape: float | None


@dataclass(frozen=True, slots=True)
class Outlier:
    """A network that the two-term model gets wrong by far more than the others.

    Attributes:
        network: Its name.
        measured: In units of y.
        predicted: In units of y.
    """

    network: str
    measured: float
    predicted: float

    @property
    def excess(self) -> float:
        """How much slower it is than predicted, relative: 0.2 is 20% slower."""
        return self.measured / self.predicted - 1


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that could not be used, and why."""

    network: str
    why: str


@dataclass(frozen=True, slots=True)
class Fit:
    """The regressions of one group, pooled or for one family.

    Attributes:
        group: Values of the grouping columns the table has.
        family: None where families are pooled.
        y: Column that is explained.
        unit: Its unit, empty where the name does not tell.
        n: Networks used.
        lines: One per proxy that could be fitted, in the order acts, flops, params.
        unfit: For every other proxy, why not.
        winner: None where fewer than two proxies could be fitted.
        two_term: None where acts or flops could not be used.
        left_out: Rows of the group that were not used.
        reason: Why there are no numbers at all; None where there are some.
        outliers: Networks far off the two-term model, the farthest first; see :func:`_outliers`.
        full: None where y is no time, the table lacks a count, or networks are too few for so many terms.
    """

    group: dict[str, str]
    family: str | None
    y: str
    unit: str
    n: int
    lines: tuple[Line, ...]
    unfit: dict[str, str]
    winner: Winner | None
    two_term: TwoTerm | None
    left_out: tuple[LeftOut, ...]
    reason: str | None
    outliers: tuple[Outlier, ...] = ()
    full: FullModel | None = None

    @property
    def label(self) -> str:
        """The group as people say it: ``onnxruntime · cpu · fp32 · 1 thread · batch 1 · infer``."""
        return group_label(self.group)

    def line(self, proxy: str) -> Line | None:
        """The regression on one proxy, or None."""
        return next((line for line in self.lines if line.proxy == proxy), None)


# --- From table to fits ------------------------------------------------------------------------------------


def fit(frame: pd.DataFrame, y: str = "latency_ms", *, weighted: bool = False) -> list[Fit]:
    """Regress a column on activations, flops and parameters, per group: pooled first, then each family.

    Args:
        frame: One row per network and group, with the columns model, flops, params, acts (counts for one
            image) and ``y``. Grouping columns, family, scaling, factor, status and reason are used where
            present.
        y: Column to explain.
        weighted: Weigh the networks of a line by how surely they were measured, relative to their y, instead
            of all alike. Correlations stay those of the networks alike. The two-term model always does.

    Returns:
        For each group a pooled fit and one for each of its families (where it has more than one). A fit that
        cannot be made says why in ``reason`` or ``unfit`` and holds no number in its place.

    Raises:
        UserError: No rows, a missing column, or text where a number belongs.
    """
    table = checked_rows(frame, y)
    keys = grouping(frame)
    fits: list[Fit] = []
    for group, rows in groups_of(table, keys):
        fits.append(_fit_rows(rows, group, None, y, weighted=weighted))
        families = sorted(set(rows["family"]) - {""})
        if len(families) > 1:
            parts = {name: rows[rows["family"] == name] for name in families}
            fits += [_fit_rows(part, group, name, y, weighted=weighted) for name, part in parts.items()]
    return fits


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
    :data:`MORE`, NaN where the table has none.

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


def _fit_rows(rows: pd.DataFrame, group: dict[str, str], family: str | None, y: str, *, weighted: bool) -> Fit:
    used = rows[rows["why"] == ""]
    left_out = tuple(LeftOut(network, why) for network, why in zip(rows["network"], rows["why"], strict=True) if why)
    networks = pd.factorize(used["network"])[0].astype(np.int64)
    n = int(networks.max()) + 1 if len(networks) else 0
    target = used[y].to_numpy(dtype=np.float64)
    columns = {p: used[p].to_numpy(dtype=np.float64) for p in PROXIES}
    reason = _no_fit(n, target, len(rows), y)
    unfit = {p: why for p, x in columns.items() if (why := reason or _constant(p, x))}
    fitted = {p: x for p, x in columns.items() if p not in unfit}
    draws: dict[str, Floats] = {}
    if fitted and n >= LEAST_FOR_BOOTSTRAP:
        resampled = resample_weights(networks, RESAMPLES, SEED)
        draws = {p: weighted_correlations(x, target, resampled) for p, x in fitted.items()}
    families = pd.factorize(used["family"])[0].astype(np.int64)
    weights: Floats | None = None
    two_term: TwoTerm | None = None
    full: FullModel | None = None
    outliers: tuple[Outlier, ...] = ()
    if {"acts", "flops"} <= fitted.keys():
        acts, flops = (columns[p] / scale_of(p, columns[p])[0] for p in ("acts", "flops"))
        weights = _weights(acts, flops, target, used["spread"].to_numpy(dtype=np.float64))
        two_term = _two_term(acts, flops, target, networks, families, weights)
        if n >= LEAST_FOR_MORE and unit_of(y) in SECONDS and used[[*MORE]].notna().all(axis=None):
            full = _full(used, target, networks, families, weights)
        outliers = _outliers(two_term, acts, flops, target, list(used["network"]))
    ours = weights / target**2 if weighted and weights is not None else None
    lines = tuple(_line(p, x, target, networks, families, draws.get(p), ours) for p, x in fitted.items())
    reason = reason or (None if lines else "; ".join(unfit.values()))
    winner = _winner(lines, draws)
    return Fit(group, family, y, unit_of(y), n, lines, unfit, winner, two_term, left_out, reason, outliers, full)


def _no_fit(n: int, target: Floats, rows: int, y: str) -> str | None:
    if n == 0:
        return f"none of the {rows} cases has a measurement"
    if n < LEAST_NETWORKS:
        return f"only {n} {'network' if n == 1 else 'networks'} measured: a line needs at least {LEAST_NETWORKS}"
    return _constant(y, target)


def _constant(column: str, values: Floats) -> str | None:
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return f"{column} is the same for all networks"
    return None


def _line(
    proxy: str,
    counts: Floats,
    y: Floats,
    networks: NDArray[np.int64],
    families: NDArray[np.int64],
    draws: Floats | None,
    weights: Floats | None,
) -> Line:
    scale, unit = scale_of(proxy, counts)
    x = counts / scale
    n = int(networks.max()) + 1
    share = np.full(len(y), 1 / len(y)) if weights is None else weights / weights.sum()
    centred = x - share @ x
    slope = float((share * centred) @ y / ((share * centred) @ centred))
    intercept = float(share @ y - slope * (share @ x))
    fitted = intercept + slope * x
    r = float(weighted_correlations(x, y, np.ones((1, len(x))))[0])
    se = slope_interval(x, y, weights)
    without = (networks[None, :] != np.arange(n)[:, None]).astype(np.float64)
    bootstrap = None if draws is None else bca_interval(r, draws, weighted_correlations(x, y, without))
    power = coefficient(np.column_stack([np.ones_like(x), np.log(x)]), np.log(y)) if x.min() > 0 else None
    within = _within(x, y, families, weights)
    return Line(
        proxy=proxy,
        x_unit=unit,
        slope=slope,
        slope_se=se[0] if se else None,
        slope_interval=se[1] if se else None,
        intercept=intercept,
        r=r,
        r_fisher=fisher_interval(r, n),
        r_bootstrap=bootstrap,
        r2=r * r,
        rmse=float(np.sqrt(np.mean((y - fitted) ** 2))),
        mape=mape(fitted, y),
        exponent=power.value if power else None,
        exponent_interval=power.interval if power else None,
        within_slope=within.value if within else None,
        within_interval=within.interval if within else None,
    )


def _within(x: Floats, y: Floats, families: NDArray[np.int64], weights: Floats | None) -> Coefficient | None:
    """The slope that all families share when each has an intercept of its own."""
    kinds = np.unique(families)
    own = (families[:, None] == kinds).astype(np.float64)
    centred = x - own @ (own.T @ x / own.sum(axis=0))
    if len(kinds) < 2 or np.abs(centred).max() <= 1e-9 * np.abs(x).max():
        return None
    return coefficient(np.column_stack([own, x]), y, weights)


def scale_of(proxy: str, counts: Floats) -> tuple[float, str]:
    """What to divide a column by, and the unit then.

    Counts become millions or GF. A column that never reaches 10,000 is no count (published tables give flops
    in billions): it keeps its own unit, which the table alone knows.
    """
    if np.max(counts, initial=0) < 1e4:
        return 1.0, f"unit of {proxy}"
    return PROXIES[proxy].scale, PROXIES[proxy].unit


def _winner(lines: tuple[Line, ...], draws: dict[str, Floats]) -> Winner | None:
    if len(lines) < 2:
        return None
    best = max(lines, key=lambda line: abs(line.r)).proxy
    if not draws:
        return Winner(best, None)
    # Rounded, so that proxies in exact proportion tie instead of winning by the last bit.
    strength = {p: np.round(np.abs(d), 9) for p, d in draws.items()}
    rival = np.max([d for p, d in strength.items() if p != best], axis=0)
    valid = np.isfinite(rival) & np.isfinite(strength[best])
    won = (strength[best] > rival) + (strength[best] == rival) / 2
    return Winner(best, float(np.mean(won[valid])) if valid.any() else None)


def _weights(acts: Floats, flops: Floats, y: Floats, spread: Floats) -> Floats | None:
    """Weights for relative errors by how surely each y was measured; None where nothing tells."""
    if not spread.any():
        return None
    t0, per_acts, per_flops = non_negative_fit(np.column_stack([acts, flops]), y)
    return precision_weights(spread, (t0 + per_acts * acts + per_flops * flops) / y - 1)


def _two_term(
    acts: Floats,
    flops: Floats,
    y: Floats,
    networks: NDArray[np.int64],
    families: NDArray[np.int64],
    weights: Floats | None,
) -> TwoTerm:
    counts = np.column_stack([acts, flops])
    t0, per_acts, per_flops = (float(v) for v in non_negative_fit(counts, y, weights))
    return TwoTerm(
        t0=t0,
        per_acts=per_acts,
        per_flops=per_flops,
        mape=mape(t0 + per_acts * acts + per_flops * flops, y),
        loo_mape=held_out_mape(counts, y, networks, weights),
        lofo_mape=held_out_mape(counts, y, families, weights),
        weighted=weights is not None,
    )


def _full(
    used: pd.DataFrame, y: Floats, networks: NDArray[np.int64], families: NDArray[np.int64], weights: Floats | None
) -> FullModel:
    units = {p: proxy.scale for p, proxy in PROXIES.items()} | {"padding_flops": PROXIES["flops"].scale}
    counts = np.column_stack([used[c].to_numpy(dtype=np.float64) / units.get(c, 1.0) for c in ALL_TERMS])
    t0, *slopes = (float(v) for v in non_negative_fit(counts, y, weights))
    per_acts, per_flops, per_params, per_layer, per_padding = slopes
    return FullModel(
        t0=t0,
        per_acts=per_acts,
        per_flops=per_flops,
        per_params=per_params,
        per_layer=per_layer,
        per_padding=per_padding,
        mape=mape(t0 + counts @ np.array(slopes), y),
        loo_mape=held_out_mape(counts, y, networks, weights),
        lofo_mape=held_out_mape(counts, y, families, weights),
    )


def _outliers(model: TwoTerm, acts: Floats, flops: Floats, y: Floats, networks: Sequence[str]) -> tuple[Outlier, ...]:
    """Networks whose log residual is more than 3.5 robust standard deviations, and 10%, from the median.

    3.5 is the limit of Iglewicz and Hoaglin (1993) for scores by the median absolute deviation; below five
    networks that deviation says nothing.
    """
    predicted = model.t0 + model.per_acts * acts + model.per_flops * flops
    if len(y) < LEAST_FOR_BOOTSTRAP or predicted.min() <= 0:
        return ()
    residuals = np.log(y / predicted)
    off = np.abs(residuals - np.median(residuals))
    far = (off > 3.5 * 1.4826 * np.median(off)) & (off > np.log(1.1))
    order = [int(i) for i in np.argsort(-off) if far[i]]
    return tuple(Outlier(networks[i], float(y[i]), float(predicted[i])) for i in order)


def plain(value: object) -> str:
    """A cell as text: a hole is empty, 4.0 is ``4``."""
    if value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA:
        return ""
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value).strip()


# --- Words, tables, JSON -----------------------------------------------------------------------------------


def sentence(one: Fit) -> str:
    """What a fit says, in a sentence: the best proxy with r, its interval and n, then the others."""
    what = "latency" if "latency" in one.y or one.y == "latency_ms" else one.y
    if one.reason or not one.lines:
        return f"No fit: {one.reason}."
    best = max(one.lines, key=lambda line: abs(line.r))
    low, high = best.r_interval
    text = (
        f"{PROXIES[best.proxy].name.capitalize()} predict {what} best: "
        f"r = {best.r:.3f} [{low:.3f}, {high:.3f}] over {one.n} networks"
    )
    others = [f"{PROXIES[line.proxy].name} {line.r:.3f}" for line in one.lines if line is not best]
    text += f"; {', '.join(others)}" if others else ""
    if one.winner and one.winner.probability is not None:
        text += f"; best in {one.winner.probability:.0%} of resamples"
    return text + "."


def two_term_sentence(one: Fit) -> str | None:
    """The two-term model in a sentence, with its errors on networks and families it has not seen."""
    m = one.two_term
    if m is None:
        return None
    acts, flops = one.line("acts"), one.line("flops")
    units = [line.x_unit if line else "" for line in (acts, flops)]
    unit = f" {one.unit}" if one.unit else ""
    text = f"{one.y} ≈ {m.t0:.3g}{unit} + {m.per_acts:.3g} per {units[0]} + {m.per_flops:.3g} per {units[1]}"
    return f"{text}; error {_errors(m)}."


def _errors(m: TwoTerm | FullModel) -> str:
    errors = [("fitted", m.mape), ("network left out", m.loo_mape), ("family left out", m.lofo_mape)]
    return ", ".join(f"{name} {e:.1%}" for name, e in errors if e is not None)


def full_sentence(one: Fit) -> str | None:
    """What everything costs that is counted, and how much better that foretells."""
    m = one.full
    if m is None:
        return None
    terms = [
        (m.per_acts, "M acts"),
        (m.per_flops, "GF"),
        (m.per_params, "M params"),
        (m.per_layer, "layer"),
        (m.per_padding, f"GF that padding groups to {CHANNEL_BLOCK} channels would add"),
    ]
    told = " + ".join(f"{slope:.3g} per {what}" for slope, what in terms if slope > 0)
    return f"With all that is counted: {m.t0:.3g} {one.unit} + {told}; error {_errors(m)}."


class Rates(NamedTuple):
    """The two slopes as speeds: of memory that activations pass through, and of arithmetic; None at slope 0."""

    acts_per_s: float | None
    flops_per_s: float | None


def rates(one: Fit) -> Rates | None:
    """What the slopes of the two-term model say of the machine; None where y is no latency or counts have no unit.

    Slopes are time per count of one image, and y is the time of a batch, so that a batch counts times its size.
    """
    m, seconds = one.two_term, SECONDS.get(one.unit)
    lines = [one.line("acts"), one.line("flops")]
    if (
        m is None
        or seconds is None
        or not LATENCY_NAME.search(one.y)
        or any(line is None or line.x_unit.startswith("unit") for line in lines)
    ):
        return None
    batch = float(one.group.get("batch") or 1)
    scales = [PROXIES[p].scale * batch for p in ("acts", "flops")]
    speeds = [
        scale / (slope * seconds) if slope > 0 else None
        for scale, slope in zip(scales, (m.per_acts, m.per_flops), strict=True)
    ]
    return Rates(*speeds)


def rates_sentence(one: Fit) -> str | None:
    """The speeds in a sentence: figures to compare machines with, not measured bandwidths."""
    found = rates(one)
    if found is None:
        return None
    size = BYTES.get(one.group.get("precision", "fp32"))
    parts = []
    if found.acts_per_s:
        memory = f", {format_count(found.acts_per_s * size)}B/s written once" if size else ""
        parts.append(f"{format_count(found.acts_per_s)} activations/s{memory}")
    if found.flops_per_s:
        parts.append(f"{format_flops(found.flops_per_s)}/s of multiply-adds")
    zero = [name for name, speed in zip(("activations", "flops"), found, strict=True) if speed is None]
    if zero:
        parts.append(f"{' and '.join(zero)} add nothing")
    return f"As speeds, each term alone: {'; '.join(parts)}."


def outliers_sentence(one: Fit) -> str | None:
    """The networks far off the two-term model, by name."""
    if not one.outliers:
        return None
    told = ", ".join(f"{o.network} {o.excess:+.0%}" for o in one.outliers)
    return f"Far from the two-term model: {told}."


def to_json(fits: list[Fit]) -> str:
    """All fits as JSON: intervals as pairs, what is not known as null, never NaN."""
    rows = [{"label": one.label, **asdict(one)} for one in fits]
    return jsonlib.dumps({"confidence": CONFIDENCE, "seed": SEED, "fits": rows}, indent=2, allow_nan=False)


def run(source: Path, json: bool, y: str | None, chart: Path | None, *, weighted: bool = False) -> None:
    """Print the fits of a run folder, journal or CSV; ``profiler fit``.

    Args:
        source: Run folder, journal or any CSV with the columns model, flops, params, acts and a latency.
        json: Print JSON instead of tables.
        y: Column to explain; None finds the latency.
        chart: Where to write the chart (.html, .png or .svg), or None.
        weighted: Weigh networks by how surely they were measured, see :func:`fit`.

    Raises:
        UserError: The file or its columns cannot be used.
    """
    frame = read_table(source)
    fits = fit(frame, latency_column(frame, y), weighted=weighted)
    if chart is not None:
        from profiler import charts  # altair takes a second, and charts imports this module

        charts.save(charts.latency(frame, fits), chart)
    if json:
        print(to_json(fits))
    else:
        print_fits(fits, Console())


def print_fits(fits: Sequence[Fit], console: Console, *, brief: bool = False) -> None:
    """Print fits, pooled first, in no more than 80 columns.

    Args:
        fits: Of one table, as :func:`fit` returns them.
        console: Where to print.
        brief: Leave out families, exponents and slopes within families.
    """
    for pooled in (one for one in fits if one.family is None):
        console.print(escape(pooled.label), style="bold", soft_wrap=True)
        if pooled.lines:
            console.print(_lines_table(pooled))
        told = (sentence, two_term_sentence, full_sentence, rates_sentence, outliers_sentence)
        for text in (*(tell(pooled) for tell in told), *_footnotes(pooled)):
            if text:
                console.print(escape(text), highlight=False)
        if not brief:
            _print_more(pooled, [one for one in fits if one.group == pooled.group and one.family], console)
        console.print()


def _print_more(pooled: Fit, families: Sequence[Fit], console: Console) -> None:
    if pooled.lines:
        console.print(_exponents_table(pooled))
    if any(one.lines for one in families):
        console.print(_families_table([one for one in families if one.lines]))
    for one in families:
        if one.reason and pooled.lines:
            console.print(escape(f"{one.family}: {one.reason}."), highlight=False)


def plain_table(first: str, *numbers: str, title: str = "") -> Table:
    """A table without frame: one column of names, then columns of numbers."""
    table = Table(title=title or None, title_justify="left", title_style="", box=None, pad_edge=False)
    # Folded where a log is narrow: a cell that is cut off is a lost number.
    table.add_column(first, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _lines_table(one: Fit) -> Table:
    unit = f" ({one.unit})" if one.unit else ""
    table = plain_table("pooled on", f"slope{unit}", "95%", "intercept", "r [95%]", "MAPE")
    for line in one.lines:
        low, high = line.r_interval
        table.add_row(
            f"per {line.x_unit}",
            _number(line.slope),
            escape(_interval(line.slope_interval)),
            _number(line.intercept),
            escape(f"{line.r:.3f} [{low:.2f}, {high:.2f}]"),
            f"{line.mape:.1%}",
        )
    return table


def _exponents_table(one: Fit) -> Table:
    unit = f" ({one.unit})" if one.unit else ""
    table = plain_table("on", "exponent", "95%", f"slope within families{unit}", "95%")
    for line in one.lines:
        within = "" if line.within_slope is None else _number(line.within_slope)
        exponent = "" if line.exponent is None else f"{line.exponent:.3f}"
        ends = [escape(_interval(pair)) for pair in (line.exponent_interval, line.within_interval)]
        table.add_row(line.proxy, exponent, ends[0], within, ends[1])
    return table


def _families_table(families: Sequence[Fit]) -> Table:
    table = plain_table("per family", "n", *(f"r {p}" for p in PROXIES), "two-term MAPE, left out")
    for one in families:
        lines = [one.line(proxy) for proxy in PROXIES]
        left_out = one.two_term.loo_mape if one.two_term else None
        error = "" if left_out is None else f"{left_out:.1%}"
        table.add_row(one.family, str(one.n), *("" if line is None else f"{line.r:.3f}" for line in lines), error)
    return table


def _interval(pair: Interval | None) -> str:
    return f"[{_number(pair[0])}, {_number(pair[1])}]" if pair else ""


def _number(value: float) -> str:
    """Three digits, and all of a whole part: exponents are hard to compare at a glance."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def _footnotes(one: Fit) -> list[str]:
    """What was left out of a fit, by name."""
    notes = [] if one.reason else [f"No line on {proxy}: {why}." for proxy, why in one.unfit.items()]
    if one.left_out:
        cases = "case" if len(one.left_out) == 1 else "cases"
        names: dict[str, list[str]] = {}
        for out in one.left_out:
            names.setdefault(out.why, []).append(out.network)
        told = "; ".join(f"{', '.join(networks)} ({why})" for why, networks in names.items())
        notes.append(f"Left out {len(one.left_out)} {cases}: {told}")
    return notes
