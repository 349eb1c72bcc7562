"""What predicts latency here: activations, flops or parameters, and how surely.

Everything is computed per group: rows that share machine, backend, device, precision, threads, batch and
mode. ``acts``, ``flops`` and ``params`` are counts for *one image*; latency is that of a whole batch. As
groups never mix batches this changes no correlation, but a slope at batch 8 is the time of eight images per
million activations of one.
"""

from __future__ import annotations

import json as jsonlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from scipy import optimize, stats

from profiler.errors import UserError
from profiler.table import read_table

Floats: TypeAlias = NDArray[np.float64]
Interval: TypeAlias = tuple[float, float]


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
GROUP_KEYS = ("run", "host", "backend", "device", "precision", "memory_format", "threads", "batch", "mode")
SHOWN_WHEN_SEVERAL = ("run", "host", "memory_format")
MEASURED = ("ok", "unstable")
UNITS = {"ms": "ms", "us": "µs", "s": "s", "mib": "MiB", "mb": "MB", "bytes": "bytes", "hr": "h", "h": "h"}
NOT_LATENCIES = frozenset((*PROXIES, "model", "family", "resolution", *GROUP_KEYS, "factor"))
LATENCY_NAME = re.compile(r"(?:^|[_ ])(?:ms|us|latency|time|infer|inference)(?:$|[_ (])", re.IGNORECASE)

LEAST_NETWORKS = 3
LEAST_FOR_BOOTSTRAP = 5
RESAMPLES = 4000
SEED = 20210311
CONFIDENCE = 0.95


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

    Attributes:
        t0: In units of y.
        per_acts: Units of y per million activations.
        per_flops: Units of y per GF.
        mape: Mean relative error on the networks it was fitted to, as a fraction.
        loo_mape: The same on each network when fitted without it; None below 4 networks.
        lofo_mape: The same on each family when fitted without it; None below two families, or where the rest
            is fewer than 3 networks.
    """

    t0: float
    per_acts: float
    per_flops: float
    mape: float
    loo_mape: float | None
    lofo_mape: float | None


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

    @property
    def label(self) -> str:
        """The group as people say it: ``onnxruntime · cpu · fp32 · 1 thread · batch 1 · infer``."""
        return group_label(self.group)

    def line(self, proxy: str) -> Line | None:
        """The regression on one proxy, or None."""
        return next((line for line in self.lines if line.proxy == proxy), None)


# --- Pure statistics ---------------------------------------------------------------------------------------


def fisher_interval(r: float, n: int) -> Interval:
    """95% interval of a Pearson correlation: ``tanh(atanh r ± z / sqrt(n - 3))`` (Fisher 1921).

    Args:
        r: Correlation of the sample.
        n: Size of the sample. With three or fewer it says nothing: the interval is (-1, 1).
    """
    if n <= 3:
        return (-1.0, 1.0)
    if abs(r) >= 1:
        return (r, r)
    half = float(stats.norm.ppf(0.5 + CONFIDENCE / 2)) / np.sqrt(n - 3)
    centre = np.arctanh(r)
    return (float(np.tanh(centre - half)), float(np.tanh(centre + half)))


def slope_interval(x: Floats, y: Floats) -> tuple[float, Interval] | None:
    """HC3 standard error of a least-squares slope, and its 95% interval.

    The error is that of MacKinnon and White (1985): residuals divided by 1 - leverage. Student's t has the
    degrees of freedom of Bell and McCaffrey (2002) for this estimator instead of n - 2: complexities of
    networks span decades, a few large networks set the slope, and with noise in proportion to latency n - 2
    covers only 86 to 91% (10 to 40 networks spread evenly in log x) where this covers 94 to 96%. With even
    noise it is somewhat wider than need be.

    Args:
        x: Shape (n,), not constant.
        y: Shape (n,).

    Returns:
        The error and the interval; None where one point alone sets the slope (leverage 1).
    """
    centred = x - x.mean()
    pull = centred / (centred @ centred)
    leverage = 1 / len(x) + pull * centred
    if len(x) < LEAST_NETWORKS or leverage.max() > 1 - 1e-9:
        return None
    slope = float(pull @ y)
    residuals = y - y.mean() - slope * centred
    error = float(np.sqrt(np.sum((pull * residuals / (1 - leverage)) ** 2)))
    half = error * float(stats.t.ppf(0.5 + CONFIDENCE / 2, _bell_mccaffrey(centred, pull, leverage)))
    return error, (slope - half, slope + half)


def _bell_mccaffrey(centred: Floats, pull: Floats, leverage: Floats) -> float:
    """Satterthwaite degrees of freedom of the HC3 variance under even noise: tr(G)² / tr(G²)."""
    maker = np.eye(len(pull)) - 1 / len(pull) - np.outer(pull, centred)
    rows = (pull / (1 - leverage))[:, None] * maker
    gram = rows @ rows.T
    return float(np.trace(gram) ** 2 / np.sum(gram**2))


def weighted_correlations(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Pearson correlations of the same points under many weightings.

    Args:
        x: Shape (n,), not constant.
        y: Shape (n,), not constant.
        weights: Shape (resamples, n), not negative.

    Returns:
        Shape (resamples,); NaN where a weighting leaves x or y constant.
    """
    share = weights / weights.sum(axis=1, keepdims=True)
    x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    mean_x, mean_y = share @ x, share @ y
    spread = (share @ x**2 - mean_x**2, share @ y**2 - mean_y**2)
    flat = np.minimum(*spread) < 1e-12
    scale = np.sqrt(np.where(flat, np.nan, spread[0] * spread[1]))
    return cast("Floats", np.clip((share @ (x * y) - mean_x * mean_y) / scale, -1, 1))


def resample_weights(networks: NDArray[np.int64], resamples: int, seed: int) -> Floats:
    """How often each row is drawn when whole networks are drawn with replacement.

    Args:
        networks: Shape (n,), the number of the network of each row, 0 to m - 1.
        resamples: Number of draws of m networks.
        seed: Same seed, same draws.

    Returns:
        Shape (resamples, n).
    """
    count = int(networks.max()) + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return draws[:, networks].astype(np.float64)


def bca_interval(estimate: float, draws: Floats, jackknife: Floats) -> Interval:
    """95% bias-corrected and accelerated bootstrap interval (Efron 1987).

    Args:
        estimate: On the whole sample.
        draws: Shape (resamples,), on each resample; NaN is ignored.
        jackknife: Shape (n,), with each unit left out; NaN is ignored.
    """
    draws, jackknife = draws[np.isfinite(draws)], jackknife[np.isfinite(jackknife)]
    if len(draws) == 0 or np.ptp(draws) < 1e-12:
        return (estimate, estimate)
    below = np.mean(draws < estimate) + np.mean(draws == estimate) / 2
    bias = stats.norm.ppf(np.clip(below, 1 / (len(draws) + 1), len(draws) / (len(draws) + 1)))
    skew = jackknife.mean() - jackknife if len(jackknife) else np.zeros(1)
    cube = 6 * np.sum(skew**2) ** 1.5
    acceleration = np.sum(skew**3) / cube if cube > 0 else 0.0
    z = bias + stats.norm.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    low, high = np.quantile(draws, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    return (float(low), float(high))


def non_negative_fit(acts: Floats, flops: Floats, y: Floats) -> Floats:
    """Coefficients (t0, per acts, per flops), none negative, that minimise ``sum(((fit - y) / y)²)``.

    Relative errors, because the noise of a latency is in proportion to it and a small network matters as much
    as a large one; with absolute errors the largest networks alone would set all three terms.

    Args:
        acts: Shape (n,).
        flops: Shape (n,).
        y: Shape (n,), positive.
    """
    terms = np.column_stack([np.ones_like(y), acts, flops])
    scale = terms.max(axis=0)
    scale[scale <= 0] = 1
    solution, _ = optimize.nnls(terms / scale / y[:, None], np.ones_like(y))
    return cast("Floats", solution / scale)


def mape(predicted: Floats, y: Floats) -> float:
    """Mean absolute relative error, as a fraction."""
    return float(np.mean(np.abs(predicted - y) / y))


def held_out_mape(acts: Floats, flops: Floats, y: Floats, parts: NDArray[np.int64]) -> float | None:
    """Error of :func:`non_negative_fit` on each part when fitted to the others; mean over all rows.

    Args:
        acts: Shape (n,).
        flops: Shape (n,).
        y: Shape (n,), positive.
        parts: Shape (n,), the number of the part of each row.

    Returns:
        A fraction; None with fewer than two parts, or where fewer than 3 rows would be left to fit.
    """
    errors = np.empty_like(y)
    kinds = np.unique(parts)
    for part in kinds:
        out = parts == part
        if np.sum(~out) < LEAST_NETWORKS:
            return None
        t0, per_acts, per_flops = non_negative_fit(acts[~out], flops[~out], y[~out])
        errors[out] = np.abs(t0 + per_acts * acts[out] + per_flops * flops[out] - y[out]) / y[out]
    return float(errors.mean()) if len(kinds) > 1 else None


# --- From table to fits ------------------------------------------------------------------------------------


def fit(frame: pd.DataFrame, y: str = "latency_ms") -> list[Fit]:
    """Regress a column on activations, flops and parameters, per group: pooled first, then each family.

    Args:
        frame: One row per network and group, with the columns model, flops, params, acts (counts for one
            image) and ``y``. Grouping columns, family, scaling, factor, status and reason are used where
            present.
        y: Column to explain.

    Returns:
        For each group a pooled fit and one for each of its families (where it has more than one). A fit that
        cannot be made says why in ``reason`` or ``unfit`` and holds no number in its place.

    Raises:
        UserError: No rows, a missing column, or text where a number belongs.
    """
    table = _checked(frame, y)
    keys = grouping(frame)
    fits: list[Fit] = []
    for group, rows in _groups(table, keys):
        fits.append(_fit_rows(rows, group, None, y))
        families = sorted(set(rows["family"]) - {""})
        if len(families) > 1:
            fits += [_fit_rows(rows[rows["family"] == name], group, name, y) for name in families]
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


def _checked(frame: pd.DataFrame, y: str) -> pd.DataFrame:
    """The columns that are needed, numbers as floats, texts without holes; plus ``network`` and ``why``."""
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
    checked["why"] = _reasons(table, checked, use, y)
    return checked


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


def _groups(table: pd.DataFrame, keys: list[str]) -> Iterable[tuple[dict[str, str], pd.DataFrame]]:
    if not keys:
        return [({}, table)]
    grouped = table.groupby(keys, sort=False, dropna=False)
    return [
        (dict(zip(keys, map(str, value if isinstance(value, tuple) else (value,)), strict=True)), rows)
        for value, rows in grouped
    ]


def _fit_rows(rows: pd.DataFrame, group: dict[str, str], family: str | None, y: str) -> Fit:
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
        weights = resample_weights(networks, RESAMPLES, SEED)
        draws = {p: weighted_correlations(x, target, weights) for p, x in fitted.items()}
    lines = tuple(_line(p, x, target, networks, draws.get(p)) for p, x in fitted.items())
    families = pd.factorize(used["family"])[0].astype(np.int64)
    both = {"acts", "flops"} <= fitted.keys()
    two_term = _two_term(columns, target, networks, families) if both else None
    reason = reason or (None if lines else "; ".join(unfit.values()))
    return Fit(group, family, y, unit_of(y), n, lines, unfit, _winner(lines, draws), two_term, left_out, reason)


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


def _line(proxy: str, counts: Floats, y: Floats, networks: NDArray[np.int64], draws: Floats | None) -> Line:
    scale, unit = scale_of(proxy, counts)
    x = counts / scale
    n = int(networks.max()) + 1
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    intercept = float(y.mean() - slope * x.mean())
    fitted = intercept + slope * x
    r = float(weighted_correlations(x, y, np.ones((1, len(x))))[0])
    se = slope_interval(x, y)
    without = (networks[None, :] != np.arange(n)[:, None]).astype(np.float64)
    bootstrap = None if draws is None else bca_interval(r, draws, weighted_correlations(x, y, without))
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
    )


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


def _two_term(
    columns: Mapping[str, Floats], y: Floats, networks: NDArray[np.int64], families: NDArray[np.int64]
) -> TwoTerm:
    acts = columns["acts"] / scale_of("acts", columns["acts"])[0]
    flops = columns["flops"] / scale_of("flops", columns["flops"])[0]
    t0, per_acts, per_flops = (float(v) for v in non_negative_fit(acts, flops, y))
    return TwoTerm(
        t0=t0,
        per_acts=per_acts,
        per_flops=per_flops,
        mape=mape(t0 + per_acts * acts + per_flops * flops, y),
        loo_mape=held_out_mape(acts, flops, y, networks),
        lofo_mape=held_out_mape(acts, flops, y, families),
    )


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
    errors = [("fitted", m.mape), ("network left out", m.loo_mape), ("family left out", m.lofo_mape)]
    return f"{text}; error {', '.join(f'{name} {e:.1%}' for name, e in errors if e is not None)}."


def to_json(fits: list[Fit]) -> str:
    """All fits as JSON: intervals as pairs, what is not known as null, never NaN."""
    rows = [{"label": one.label, **asdict(one)} for one in fits]
    return jsonlib.dumps({"confidence": CONFIDENCE, "seed": SEED, "fits": rows}, indent=2, allow_nan=False)


def _rich_table(fits: list[Fit], title: str) -> Table:
    unit = f" ({fits[0].unit})" if fits[0].unit else ""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("networks", no_wrap=True)
    for name in (f"slope{unit}", f"intercept{unit}", "r [95%]", "MAPE", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in fits:
        for k, line in enumerate(one.lines):
            low, high = line.r_interval
            name = (one.family or "pooled") if k == 0 else ""
            slope = f"{line.slope:.4g} per {line.x_unit:8}"
            r = f"{line.r:.3f} [{low:.3f}, {high:.3f}]"
            table.add_row(name, slope, f"{line.intercept:.4g}", escape(r), f"{line.mape:.1%}", str(one.n))
    return table


def run(source: Path, json: bool, y: str | None, chart: Path | None) -> None:
    """Print the fits of a run folder, journal or CSV; ``profiler fit``.

    Args:
        source: Run folder, journal or any CSV with the columns model, flops, params, acts and a latency.
        json: Print JSON instead of tables.
        y: Column to explain; None finds the latency.
        chart: Where to write the chart (.html, .png or .svg), or None.

    Raises:
        UserError: The file or its columns cannot be used.
    """
    frame = read_table(source)
    fits = fit(frame, latency_column(frame, y))
    if chart is not None:
        from profiler import charts  # altair takes a second, and charts imports this module

        charts.save(charts.latency(frame, fits), chart)
    if json:
        print(to_json(fits))
    else:
        _print(fits)


def _print(fits: list[Fit]) -> None:
    console = Console()
    for pooled in (one for one in fits if one.family is None):
        families = [one for one in fits if one.group == pooled.group and one.family is not None]
        if pooled.lines:
            console.print(_rich_table([pooled], escape(pooled.label)))
        else:
            console.print(escape(pooled.label), style="bold")
        for text in (sentence(pooled), two_term_sentence(pooled), *_footnotes(pooled)):
            if text:
                console.print(escape(text), highlight=False)
        if any(one.lines for one in families):
            console.print(_rich_table([one for one in families if one.lines], "\nper family"))
        for one in families:
            if one.reason and pooled.lines:
                console.print(escape(f"{one.family}: {one.reason}."), highlight=False)
        console.print()


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
