"""``profiler predict``: what an unmeasured network will cost, and how far that may be off.

The model is the two-term one of :mod:`profiler.fit`, with more terms where those foretell networks left out better:
every layer costs a launch, weights must be read, and a runtime that works on blocks of channels wastes arithmetic on
narrow groups. Its interval comes from what it said of networks it had not seen: each measured network is predicted by a
fit to the others, and the relative errors of those predictions are what a new network must expect.
"""

from __future__ import annotations

import json as jsonlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from scipy import optimize, stats

from profiler import models
from profiler.complexity import select
from profiler.errors import UserError
from profiler.fit import (
    ALL_TERMS,
    GROUP_KEYS,
    LEAST_FOR_MORE,
    PROXIES,
    checked_rows,
    group_label,
    grouping,
    groups_of,
    latency_column,
    measured,
    plain,
    prose,
    rows_of,
    scale_of,
    unit_of,
)
from profiler.models.arch import Arch
from profiler.models.complexity import Complexity
from profiler.regression import Floats, Interval, held_out, mape, non_negative_fit, precision_weights
from profiler.table import read_table
from profiler.units import format_bytes, format_count, parse_flops

LEVEL = 0.90
LEAST_NETWORKS = 4
#: A family has a fit of its own from here on, if that fit does better on networks left out.
LEAST_OF_FAMILY = 6
#: Terms of a time, the simplest first; of memory.
TIMED = (("acts", "flops"), ("acts", "flops", "layers"), ALL_TERMS)
HELD = ("acts", "params")
NAMES = {column: proxy.name for column, proxy in PROXIES.items()} | {"padding_flops": "flops of padding"}
#: Columns of our own tables that are predicted beside the latency; the others are parts of these.
OWN_COSTS = ("peak_memory_bytes", "epoch_s")
#: What such columns are called in tables of others.
OTHER_COSTS = re.compile(r"(?:memory|peak|step|epoch|energy).*_(?:ms|s|h|mib|mb|bytes|j)$", re.IGNORECASE)
NO_COSTS = re.compile(r"_ci_|raw|p\d\d|precision|images|loader|samples")
MEMORY_UNITS = ("MiB", "MB", "bytes")

Facts: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True)
class CostModel:
    """``y = t0 + a · first + b · second + ...``, no term negative, of one group of rows.

    Attributes:
        group: Values of the grouping columns.
        y: Column that is predicted.
        columns: The counts of :class:`~profiler.models.complexity.Complexity` that it is predicted from.
        coefficients: t0 and one per column, in units of y, and of y per single count.
        counts: Shape (n, k), the counts it was fitted to.
        errors: Shape (n,), log of measured over predicted for networks (or families) left out of the fit.
        typical: Mean relative error of those predictions, as a fraction.
        basis: What it rests on, in words.
    """

    group: dict[str, str]
    y: str
    columns: tuple[str, ...]
    coefficients: tuple[float, ...]
    counts: Floats
    errors: Floats
    typical: float
    basis: str

    def value(self, network: Complexity) -> float:
        """The prediction, in units of y."""
        t0, *slopes = self.coefficients
        counts = (getattr(network, column) for column in self.columns)
        return float(t0 + sum(slope * count for slope, count in zip(slopes, counts, strict=True)))

    @property
    def margin(self) -> float:
        """Half width of the 90% prediction interval, in logarithms; see :func:`margin_of`."""
        return margin_of(self.errors)

    def interval(self, network: Complexity) -> Interval:
        """The 90% prediction interval, in units of y."""
        value, ratio = self.value(network), math.exp(self.margin)
        return (value / ratio, value * ratio)

    def beyond(self, network: Complexity) -> str | None:
        """How a network lies outside of what was measured, in words; None where it lies inside.

        Inside is the convex hull of the logarithms of the first two counts; each must lie within its range.
        """
        point = np.array([getattr(network, column) for column in self.columns], dtype=np.float64)
        low, high = self.counts.min(axis=0), self.counts.max(axis=0)
        for column, value, least, most in zip(self.columns, point, low, high, strict=True):
            if not least <= value <= most:
                side, limit = ("below the least", least) if value < least else ("above the most", most)
                name = NAMES.get(column, column)
                return f"its {name}, {format_count(value)}, are {side} measured, {format_count(limit)}"
        if inside_hull(np.log(self.counts[:, :2]), np.log(point[:2])):
            return None
        return f"no measured networks surround its combination of {' and '.join(self.columns[:2])}"


def margin_of(errors: Floats) -> float:
    """Half width of the 90% prediction interval, from errors of predictions of networks left out.

    With 9 or more, the ``ceil(0.9 (n + 1))``-th smallest absolute error: of a new network that is like the
    measured ones, at least 90% are nearer (split conformal prediction, Vovk et al. 2005). With fewer, Student's
    t times their root mean square, which supposes normal errors.
    """
    n = len(errors)
    rank = math.ceil(LEVEL * (n + 1))
    if rank <= n:
        return float(np.sort(np.abs(errors))[rank - 1])
    rms = float(np.sqrt(np.mean(errors**2)))
    return rms * float(stats.t.ppf(0.5 + LEVEL / 2, n - 1)) * math.sqrt(1 + 1 / n)


def inside_hull(points: Floats, point: Floats) -> bool:
    """Whether ``point``, shape (d,), is a mean of ``points``, shape (n, d), with weights that are not negative.

    Works for points on a line or all alike too, where hulls made of faces do not exist.
    """
    centre, size = points.mean(axis=0), np.ptp(points, axis=0)
    scale = np.where(size > 0, size, 1.0)
    corners = np.vstack([((points - centre) / scale).T, np.ones(len(points))])
    _, distance = optimize.nnls(corners, np.append((point - centre) / scale, 1.0))
    return bool(distance < 1e-6)


def costs_of(frame: pd.DataFrame) -> list[str]:
    """The columns worth predicting: the latency, and memory, step, epoch and energy where they hold numbers."""
    own = [column for column in OWN_COSTS if column in frame]
    named = [c for c in map(str, frame.columns) if OTHER_COSTS.search(c) and not NO_COSTS.search(c)]
    held = [c for c in own or named if pd.to_numeric(frame[c], errors="coerce").notna().any()]
    return list(dict.fromkeys([latency_column(frame, None), *held]))


def cost_models(frame: pd.DataFrame, y: str, family: str | None = None) -> tuple[list[CostModel], dict[str, str]]:
    """The models of all groups of a table.

    Args:
        frame: One row per network and group, as :func:`profiler.fit.fit` takes it.
        y: Column to predict.
        family: Family of the networks that will be asked for; None predicts any.

    Returns:
        The models; and for each group without one, under its label, why.

    Raises:
        UserError: The table has no rows, lacks a column, or holds text where a number belongs.
    """
    made: list[CostModel] = []
    without: dict[str, str] = {}
    for group, rows in groups_of(checked_rows(frame, y), grouping(frame)):
        used = rows[rows["why"] == ""]
        found = _model(used, group, y, family)
        if isinstance(found, str):
            without[group_label(group)] = found
        else:
            made.append(found)
    return made, without


def _model(used: pd.DataFrame, group: dict[str, str], y: str, family: str | None) -> CostModel | str:
    n = used["network"].nunique()
    if n < LEAST_NETWORKS:
        return f"{n} networks with {y}: a prediction needs at least {LEAST_NETWORKS}"
    pooled = _fitted(used, group, y, _strange(used, family))
    ours = used[used["family"] == family] if family else used.head(0)
    if ours["network"].nunique() < LEAST_OF_FAMILY or len(ours) == len(used):
        return pooled
    own = _fitted(ours, group, y, None)
    seen = (used["family"] == family).to_numpy()
    return own if own.typical < float(np.mean(np.abs(np.expm1(-pooled.errors[seen])))) else pooled


def _strange(used: pd.DataFrame, family: str | None) -> str | None:
    """The family asked for, if none of its networks was measured."""
    return family if family and family not in set(used["family"]) else None


def _fitted(used: pd.DataFrame, group: dict[str, str], y: str, strange: str | None) -> CostModel:
    """The model with the least error on what was left out of its fit; the simplest where several have it."""
    if unit_of(y) in MEMORY_UNITS:
        return _fitted_to(HELD, used, group, y, strange)
    enough = used["network"].nunique() >= LEAST_FOR_MORE
    tried = [
        columns for columns in TIMED if columns == TIMED[0] or (enough and used[[*columns]].notna().all(axis=None))
    ]
    return min((_fitted_to(columns, used, group, y, strange) for columns in tried), key=lambda model: model.typical)


def _fitted_to(
    columns: tuple[str, ...], used: pd.DataFrame, group: dict[str, str], y: str, strange: str | None
) -> CostModel:
    counts = used[list(columns)].to_numpy(dtype=np.float64)
    target = used[y].to_numpy(dtype=np.float64)
    spread = used["spread"].to_numpy(dtype=np.float64)
    t0, *slopes = non_negative_fit(counts, target)
    weights = precision_weights(spread, (t0 + counts @ np.array(slopes)) / target - 1)
    by_family = strange is not None and used["family"].nunique() > 1
    parts = pd.factorize(used["family" if by_family else "network"])[0].astype(np.int64)
    predicted = held_out(counts, target, parts, weights)
    if predicted is None:  # one family makes up nearly all rows
        by_family, parts = False, pd.factorize(used["network"])[0].astype(np.int64)
        predicted = held_out(counts, target, parts, weights)
    assert predicted is not None, "four networks leave three to fit"
    coefficients = tuple(float(v) for v in non_negative_fit(counts, target, weights))
    typical = mape(predicted, target)
    basis = _basis(used, columns, typical, strange, by_family=by_family)
    return CostModel(group, y, columns, coefficients, counts, np.log(target / predicted), typical, basis)


def _basis(used: pd.DataFrame, columns: Sequence[str], typical: float, strange: str | None, *, by_family: bool) -> str:
    families = sorted(set(used["family"]) - {""})
    whose = f" of {', '.join(families)}" if families else ""
    *first, last = (NAMES.get(column, column) for column in columns)
    names = f"{', '.join(first)} and {last}"
    left = "a family left out" if by_family else "a network left out"
    text = f"{used['network'].nunique()} networks{whose}, by {names}; error on {left} {typical:.1%}"
    if strange is None:
        return text
    return f"{text}; no {strange} was measured" + ("" if by_family else ", so that the interval may be too narrow")


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one group's model says of one network.

    Attributes:
        group: Values of the grouping columns.
        y: Column.
        unit: Its unit, or empty.
        value: In units of y.
        interval: 90% prediction interval.
        basis: What it rests on.
        beyond: How the network lies outside of what was measured, or None.
        measured: y of the same network, where the table has it.
    """

    group: dict[str, str]
    y: str
    unit: str
    value: float
    interval: Interval
    basis: str
    beyond: str | None
    measured: float | None


def predict(frame: pd.DataFrame, arch: Arch) -> tuple[list[Prediction], dict[str, str]]:
    """Predict every cost that a table has, in each of its groups.

    Returns:
        Predictions; and for each group and column without one, why.

    Raises:
        UserError: The table cannot be used.
    """
    network = models.complexity(arch)
    made: list[Prediction] = []
    without: dict[str, str] = {}
    for y in costs_of(frame):
        found, missing = cost_models(frame, y, arch.family)
        made += [_prediction(frame, model, network, arch) for model in found]
        without |= {f"{label}, {y}": why for label, why in missing.items()}
    return made, without


def _prediction(frame: pd.DataFrame, model: CostModel, network: Complexity, arch: Arch) -> Prediction:
    return Prediction(
        group=model.group,
        y=model.y,
        unit=unit_of(model.y),
        value=model.value(network),
        interval=model.interval(network),
        basis=model.basis,
        beyond=model.beyond(network),
        measured=_measured(frame, model, network, arch),
    )


def _measured(frame: pd.DataFrame, model: CostModel, network: Complexity, arch: Arch) -> float | None:
    """The y of the row that is this very network, if it was measured."""
    rows = rows_of(frame, model.group)
    same = measured(rows) & (rows["model"] == arch.name)
    for proxy in PROXIES:
        same &= pd.to_numeric(rows[proxy], errors="coerce") == getattr(network, proxy)
    values = pd.to_numeric(rows.loc[same, model.y], errors="coerce").dropna()
    return None if values.empty else float(values.iloc[0])


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


def run(
    source: Path,
    model: str,
    scale: str,
    factor: float | None,
    flops: str | None,
    backend: str | None,
    json: bool,
    where: str | None = None,
) -> None:
    """Predict what a network costs from a run; ``profiler predict``.

    Raises:
        UserError: The table or the network cannot be used, or no group has enough networks.
    """
    arch = select(model, scale, factor, parse_flops(flops) if flops else None)
    frame = exact_counts(chosen_rows(read_table(source), backend, where))
    made, without = predict(frame, arch)
    if not made:
        raise UserError(f"{source} does not suffice for a prediction: {_listed(without)}")
    if json:
        print(jsonlib.dumps(_facts(arch, made, without), indent=2, allow_nan=False))
    else:
        _print(arch, made, without)


def _listed(without: dict[str, str]) -> str:
    return "; ".join(f"{label}: {why}" for label, why in without.items())


def _facts(arch: Arch, made: Sequence[Prediction], without: dict[str, str]) -> Facts:
    counts = models.complexity(arch)
    network = {"model": arch.name, "scaling": arch.scaling, "factor": arch.factor, "resolution": arch.resolution}
    rows = [
        {
            "label": group_label(one.group),
            **one.group,
            "column": one.y,
            "unit": one.unit,
            "predicted": one.value,
            "low": one.interval[0],
            "high": one.interval[1],
            "extrapolates": one.beyond,
            "basis": one.basis,
            "measured": one.measured,
        }
        for one in made
    ]
    known = {proxy: getattr(counts, proxy) for proxy in PROXIES}
    return {"level": LEVEL, "network": network | known, "predictions": rows, "without": without}


def _print(arch: Arch, made: Sequence[Prediction], without: dict[str, str]) -> None:
    console = Console()
    counts = models.complexity(arch)
    costs = ", ".join(f"{format_count(getattr(counts, proxy))} {proxy}" for proxy in PROXIES)
    name = f"{arch.name} {arch.scaling} x{arch.factor:.4g}" if arch.scaling else arch.name
    console.print(escape(f"{name}, {arch.resolution} px: {costs}"), style="bold", highlight=False, soft_wrap=True)
    for label in dict.fromkeys(group_label(one.group) for one in made):
        console.print(f"\n{escape(label)}", highlight=False, soft_wrap=True)
        for one in (each for each in made if group_label(each.group) == label):
            for line in _lines(one):
                console.print(escape(line), highlight=False, soft_wrap=True)
    for label, why in without.items():
        console.print(escape(f"{label}: no prediction: {why}"), highlight=False, soft_wrap=True)


def _amount(value: float, unit: str) -> str:
    return format_bytes(value) if unit == "bytes" else f"{value:.4g} {unit}".strip()


def _lines(one: Prediction) -> list[str]:
    value, low, high = (_amount(v, one.unit) for v in (one.value, *one.interval))
    seen = "" if one.measured is None else f"; measured {_amount(one.measured, one.unit)}"
    lines = [f"  {prose(one.y)}: {value} [{low}, {high}], 90%{seen}", f"    from {one.basis}"]
    if one.beyond:
        lines.append(f"    extrapolates: {one.beyond}; the interval does not cover that")
    return lines
