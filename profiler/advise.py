"""``profiler advise``: which way to scale a network for a target on this device.

Rules are searched with exact complexities and the cost model of :mod:`profiler.predict`. The model knows time and
memory and nothing of accuracy, so the rules of the paper (https://arxiv.org/abs/2103.06877) stand marked among the
candidates: ``dWr`` is the one whose accuracy was shown to keep up with compound scaling, ``dwr``, at a fraction of
its activations.
"""

from __future__ import annotations

import json as jsonlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from rich.console import Console
from rich.markup import escape

from profiler import models
from profiler.compare import geometric_mean
from profiler.errors import UserError
from profiler.fit import GROUP_KEYS, SECONDS, group_label, latency_column, plain, plain_table, rows_of, unit_of
from profiler.growth import CONTROL
from profiler.models.arch import Arch
from profiler.models.complexity import Complexity
from profiler.predict import CostModel, chosen_rows, cost_models, costs_of, exact_counts
from profiler.regression import Interval
from profiler.table import read_table
from profiler.units import format_flops, parse_bytes, parse_duration, parse_flops

if TYPE_CHECKING:
    import pandas as pd

    from profiler.display import Display
    from profiler.plan import Plan
    from profiler.records import Measurement, Record
    from profiler.run import Lab

Kind = Literal["flops", "latency", "memory"]
Measure = Callable[[Complexity], float]

#: The paper's rules, in the order in which they are told.
MARKED = ("dWr", "dwr", "w")
TOLERANCE = 0.02
#: Factors around the one that meets the target, and how far apart: rounding moves flops by up to a quarter.
STEPS, STEP = 36, 1.012
LARGEST_FACTOR, SMALLEST_FACTOR = 1024.0, 1 / 256
MIB = 1024**2
BYTES = {"bytes": 1, "MB": 10**6, "MiB": MIB}


@dataclass(frozen=True, slots=True)
class Goal:
    """What the network is to meet.

    Attributes:
        kind: ``flops`` are to be met within 2%; a ``latency`` or ``memory`` must not be exceeded.
        limit: In flops, or in the unit of the column that is predicted.
        said: As the user gave it.
    """

    kind: Kind
    limit: float
    said: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A scaled network with its exact complexity and predicted costs.

    Attributes:
        arch: The network; its ``scaling`` is the rule.
        counts: For one image.
        latency: Predicted, in units of the latency column.
        interval: 90% prediction interval of the latency.
        memory: Predicted, in units of the memory column, or None.
        meets: Whether the goal is met.
    """

    arch: Arch
    counts: Complexity
    latency: float
    interval: Interval
    memory: float | None
    meets: bool

    @property
    def rule(self) -> str:
        """The weighted form of its rule, as ``d1_w8_g8_r1``."""
        return models.parse_rule(self.arch.scaling).canonical

    @property
    def mark(self) -> str:
        """The paper's name of its rule, or empty."""
        return self.arch.scaling if self.arch.scaling in MARKED else ""


@dataclass(frozen=True, slots=True)
class Predictors:
    """The fitted models that a search asks: of latency, and of memory where the run has it.

    ``place`` is where they were measured: the columns of :data:`profiler.fit.GROUP_KEYS` that the table has.
    """

    latency: CostModel
    memory: CostModel | None
    place: dict[str, str]

    def candidate(self, arch: Arch, goal: Goal) -> Candidate:
        """Count and predict a network."""
        counts = models.complexity(arch)
        memory = self.memory.value(counts) if self.memory else None
        latency = self.latency.value(counts)
        return Candidate(arch, counts, latency, self.latency.interval(counts), memory, self._meets(counts, goal))

    def measure(self, goal: Goal) -> Measure:
        """What a goal limits, as a function of the complexity."""
        if goal.kind == "flops":
            return lambda counts: counts.flops
        model = self.latency if goal.kind == "latency" else self.memory
        assert model is not None, "the goal was checked against the run"
        return model.value

    def _meets(self, counts: Complexity, goal: Goal) -> bool:
        reached = self.measure(goal)(counts) / goal.limit
        return abs(reached - 1) <= TOLERANCE if goal.kind == "flops" else reached <= 1


# --- Search ------------------------------------------------------------------------------------------------


def directions() -> list[str]:
    """The rules that are searched: the paper's, alpha in steps of 0.05, and a simplex of free weights.

    Depth, width and resolution share 12 parts in every way; group width goes with the width, by half of it, or not
    at all.
    """
    alphas = [f"alpha={a / 20:.2f}" for a in range(21)]
    free = [_weighted(d, w, 12 - d - w, g) for d in range(13) for w in range(13 - d) for g in range(3 if w else 1)]
    return list(dict.fromkeys([*MARKED, *alphas, *free]))


def _weighted(d: int, w: int, r: int, half_groups: int) -> str:
    """A rule of whole weights in lowest terms; group width gets ``half_groups`` halves of the width's weight."""
    weights = [2 * d, 2 * w, half_groups * w, 2 * r]
    unit = math.gcd(*weights)
    return "_".join(f"{letter}{weight // unit}" for letter, weight in zip("dwgr", weights, strict=True) if weight)


def search(base: Arch, goal: Goal, predictors: Predictors) -> tuple[list[Candidate], int]:
    """All distinct networks near the goal, along every direction, each with its prediction.

    Args:
        base: The network to scale.
        goal: What is to be met.
        predictors: Fitted models.

    Returns:
        Candidates in the order of :func:`directions`, whether they meet the goal or not; and how many networks
        were looked at, those that came out the same included.
    """
    measure = predictors.measure(goal)
    seen: dict[object, Arch] = {}
    tried = 0
    for rule in directions():
        for arch in _near(base, rule, goal.limit, measure):
            seen.setdefault(_structure(arch), arch)
            tried += 1
    return [predictors.candidate(arch, goal) for arch in seen.values()], tried


def _structure(arch: Arch) -> object:
    """What is built: equal for networks that are the same, however they were arrived at."""
    return (arch.stem.width, arch.depths, arch.widths, arch.group_widths, arch.head.width, arch.resolution)


def _near(base: Arch, rule: str, limit: float, measure: Measure) -> Iterator[Arch]:
    """Networks along a rule around the factor at which ``measure`` reaches ``limit``."""
    middle = crossing(base, rule, limit, measure)
    if middle is None:
        return
    for step in range(-STEPS // 2, STEPS // 2 + 1):
        # Four digits, so that a user can give the factor again.
        arch = _scaled(base, rule, float(f"{middle * STEP**step:.4g}"))
        if arch is not None:
            yield arch


def crossing(base: Arch, rule: str, limit: float, measure: Measure) -> float | None:
    """The factor, to 1%, at which a measure along a rule passes a limit; None where it never does."""
    low, high = SMALLEST_FACTOR, LARGEST_FACTOR
    if not _reached(base, rule, low, measure) < limit <= _reached(base, rule, high, measure):
        return None
    while high > 1.01 * low:
        middle = math.sqrt(low * high)
        if _reached(base, rule, middle, measure) < limit:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


def _reached(base: Arch, rule: str, factor: float, measure: Measure) -> float:
    arch = _scaled(base, rule, factor)
    return 0.0 if arch is None else measure(models.complexity(arch))


def _scaled(base: Arch, rule: str, factor: float) -> Arch | None:
    try:
        return models.scale(base, rule, factor)
    except UserError:  # the input would have no pixels left
        return None


def elasticity(candidates: Sequence[Candidate]) -> float:
    """The power of flops with which predicted latency grows along compound scaling, near the goal.

    It makes networks of slightly unlike flops comparable: 0 where latency is constant, 1 where it is in proportion.
    """
    along = [one for one in candidates if one.arch.scaling == CONTROL]
    flops = np.log([float(one.counts.flops) for one in along])
    if len(along) < 2 or np.ptp(flops) == 0:
        return 1.0
    return float(np.polyfit(flops, np.log([one.latency for one in along]), 1)[0])


def at_equal_flops(one: Candidate, power: float) -> float:
    """Predicted latency with what its flops add or take divided out; to compare, not to tell."""
    return float(one.latency / one.counts.flops**power)


def best(candidates: Sequence[Candidate], goal: Goal, power: float = 1.0) -> list[Candidate]:
    """The best network along each rule that meets the goal, the best first.

    At given flops that is the least time at equal flops: by time alone the network with 2% fewer would win. Under a
    limit it is the most flops.

    Args:
        candidates: Any networks.
        goal: What is to be met.
        power: From :func:`elasticity`.
    """
    met = [one for one in candidates if one.meets]
    if goal.kind == "flops":
        met.sort(key=lambda one: at_equal_flops(one, power))
    else:
        met.sort(key=lambda one: (-one.counts.flops, one.latency))
    rules: dict[str, Candidate] = {}
    for one in met:
        rules.setdefault(one.rule, one)
    return list(rules.values())


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The Pareto front: networks of which none has more flops and is not slower, from fast to slow."""
    kept: list[Candidate] = []
    for one in sorted(candidates, key=lambda c: (c.latency, -c.counts.flops)):
        if not kept or one.counts.flops > kept[-1].counts.flops:
            kept.append(one)
    return kept


def marked(base: Arch, goal: Goal, predictors: Predictors, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The paper's rules at the goal: solved for its flops, else the largest network along each that meets it."""
    if goal.kind == "flops":
        solved = [models.scale_to_flops(base, rule, round(goal.limit)) for rule in MARKED]
        return [predictors.candidate(arch, goal) for arch in solved]
    along = {rule: best([one for one in candidates if one.arch.scaling == rule], goal) for rule in MARKED}
    return [found[0] for found in along.values() if found]


@dataclass(frozen=True, slots=True)
class Advice:
    """What a search found.

    Attributes:
        base: The network to scale.
        goal: What was asked for.
        predictors: What the predictions rest on.
        tried: Number of scaled networks that were looked at.
        distinct: Number of different ones among them.
        power: From :func:`elasticity`.
        best: The best along each rule that meets the goal, the best first.
        front: The Pareto front of flops against predicted latency among them.
        marked: The paper's rules.
    """

    base: Arch
    goal: Goal
    predictors: Predictors
    tried: int
    distinct: int
    power: float
    best: tuple[Candidate, ...]
    front: tuple[Candidate, ...]
    marked: tuple[Candidate, ...]


def advise(base: Arch, goal: Goal, predictors: Predictors) -> Advice:
    """Search all directions from ``base``.

    Raises:
        UserError: No network along any of them meets the goal.
    """
    found, tried = search(base, goal, predictors)
    power = elasticity(found)
    met = best(found, goal, power)
    if not met:
        raise UserError(
            f"no scaled {base.name} meets --{goal.kind} {goal.said}: {len(found)} networks near it were tried; "
            "ask for more, or start from another base"
        )
    paper = marked(base, goal, predictors, found)
    return Advice(base, goal, predictors, tried, len(found), power, tuple(met), tuple(front(met)), tuple(paper))


# --- Verification ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """An advised network and its control, measured.

    Attributes:
        advised: The candidate.
        control: The base scaled by ``dwr`` to the same flops.
        flops_ratio: Flops of the advised over those of the control.
        costs: Measured latency of both in milliseconds, or None where that failed.
        ratio: The advised latency over the control's, see :func:`paired_ratio`; None where one failed.
        interval: 95% interval of the ratio, or None.
        expected: The ratio that was predicted.
        predicted: Whether the measured latency is within the 90% prediction interval; None if not measured.
    """

    advised: Candidate
    control: Arch
    flops_ratio: float
    costs: tuple[float | None, float | None]
    ratio: float | None
    interval: Interval | None
    expected: float
    predicted: bool | None

    @property
    def held(self) -> bool | None:
        """Whether the advised network is faster, all of the interval below 1; None where that is undecided."""
        if self.ratio is None or self.interval is None or self.interval[0] <= 1 <= self.interval[1]:
            return None
        return self.interval[1] < 1

    def sentence(self, unit: str) -> str:
        """Whether the advice held, in words."""
        name = f"{self.advised.arch.name} {self.advised.rule} x{self.advised.arch.factor:g}"
        ours, theirs = self.costs
        if ours is None or theirs is None or self.ratio is None:
            return f"{name}: not verified: {'it' if ours is None else 'its control'} could not be measured."
        said = {True: "The advice held", False: "The advice did not hold", None: "Undecided"}[self.held]
        faster = f"{_faster(self.ratio)}, where {_faster(self.expected)} was predicted"
        ends = f"ratio {self.ratio:.3f}"
        if self.interval:
            ends += f" [{self.interval[0]:.3f}, {self.interval[1]:.3f}]"
        low, high = self.advised.interval
        within = "within" if self.predicted else "outside"
        return (
            f"{said}: {name} measured {ours:.4g} ms, {CONTROL} of equal flops ({1 / self.flops_ratio - 1:+.1%}) "
            f"{theirs:.4g} ms: {faster}, {ends}. Its latency is {within} the predicted "
            f"{self.advised.latency:.4g} {unit} [{low:.4g}, {high:.4g}]."
        )


def _faster(ratio: float) -> str:
    return f"{abs(1 - ratio):.1%} {'faster' if ratio < 1 else 'slower'}"


def with_controls(advice: Advice, count: int) -> list[tuple[Candidate, Arch]]:
    """The best networks, each with the base scaled by ``dwr`` to the same flops, so that only the shape differs.

    Networks whose flops ``dwr`` cannot meet within 2% are passed over, as long as there are others.
    """
    fair: list[tuple[Candidate, Arch]] = []
    far: list[tuple[Candidate, Arch]] = []
    for one in advice.best:
        control = models.scale_to_flops(advice.base, CONTROL, one.counts.flops)
        near = abs(models.flops_error(control, one.counts.flops)) <= TOLERANCE
        (fair if near else far).append((one, control))
        if len(fair) == count or len(fair) + len(far) == 10 * count:
            break
    return [*fair, *far][:count]


def plan_for(archs: Sequence[Arch], group: Mapping[str, str]) -> Plan:
    """A plan that measures these networks in the place that ``group`` names.

    Raises:
        UserError: A value of the group is no longer valid, such as a backend that is not installed.
    """
    from profiler import plan as plans

    place = {
        "backends": group.get("backend", "eager"),
        "devices": group.get("device", "cpu"),
        "precisions": group.get("precision", "fp32"),
        "threads": int(float(group.get("threads") or 1)),
        "batches": int(float(group.get("batch") or 1)),
        "modes": group.get("mode", "infer"),
        "memory_formats": group.get("memory_format", "contiguous"),
    }
    lines = ['name = "verify"', *(f"{key} = {jsonlib.dumps(value)}" for key, value in place.items() if value)]
    for arch in dict.fromkeys(archs):
        lines += ["[[sweep]]", f"models = {jsonlib.dumps(arch.name)}"]
        if arch.scaling:
            lines += [f"scalings = {jsonlib.dumps(arch.scaling)}", f"factors = {arch.factor!r}"]
    return plans.loads("\n".join(lines), "the plan to verify with")


def verify(advice: Advice, count: int, folder: Path, lab: Lab, seed: int, shown: Display) -> list[Check]:
    """Measure the best networks and their controls, as ``profiler run`` does, and compare them.

    Args:
        advice: From :func:`advise`.
        count: How many of the best to measure.
        folder: A new run folder.
        lab: Executor, budget and limits of the visits.
        seed: Of the random order.
        shown: What the user sees meanwhile.

    Returns:
        One check per advised network.

    Raises:
        UserError: The folder cannot be written or holds a run already.
    """
    from profiler import plan as plans
    from profiler import run as runs
    from profiler import store, table

    chosen = with_controls(advice, count)
    plan = plan_for([arch for one, control in chosen for arch in (one.arch, control)], advice.predictors.place)
    cases = plans.expand(plan, 1)
    progress = runs.Progress(cases, lab.budget, levels=lab.levels)
    with store.Journal.open(folder, runs.session_facts(plan, cases, seed)) as journal:
        runs.measure_all(journal, progress, seed, lab, shown)
    table.write_csv(table.rows(store.read(folder)), folder / "cases.csv")
    visits = {_structure(models.resolve(c.model, c.scaling, c.factor)): _good(progress.visits[c.key]) for c in cases}
    unit = SECONDS.get(unit_of(advice.predictors.latency.y), 1e-3) * 1e3
    model = advice.predictors.latency
    expected = [one.latency / model.value(models.complexity(control)) for one, control in chosen]
    return [_check(one, control, visits, unit, e) for (one, control), e in zip(chosen, expected, strict=True)]


Visits: TypeAlias = "dict[int, Measurement]"


def _good(records: Sequence[Record]) -> Visits:
    """The measurements among some visits, by their round."""
    from profiler.records import Measurement

    return {record.round: record.outcome for record in records if isinstance(record.outcome, Measurement)}


def paired_ratio(ours: Visits, theirs: Visits) -> tuple[float, Interval | None]:
    """Latency of one network over that of another, from the rounds in which both were visited.

    The visits of a round lie close in time, so that a drift of the machine leaves their ratio alone. Rounds in which
    the machine left one of them no quiet block count only where fewer than three others are left.

    Returns:
        Geometric mean of the rounds' ratios, and its 95% interval by Student's t, None below three rounds.

    Raises:
        ValueError: They have no round in common.
    """
    from profiler.estimate import quiet_level, visit_estimate

    levels = [quiet_level(list(visits.values())) for visits in (ours, theirs)]
    rounds = sorted(ours.keys() & theirs.keys())
    if not rounds:
        raise ValueError("a paired ratio needs at least one round that visited both")
    both = [(visit_estimate(ours[n], levels[0]), visit_estimate(theirs[n], levels[1])) for n in rounds]
    quiet = [(top, bottom) for top, bottom in both if top.quiet_samples and bottom.quiet_samples]
    used = quiet if len(quiet) >= 3 else both
    return geometric_mean([top.normalised_ns / bottom.normalised_ns for top, bottom in used])


def _check(one: Candidate, control: Arch, visits: Mapping[object, Visits], unit_ms: float, expected: float) -> Check:
    from profiler.estimate import case_estimate

    pair = [visits.get(_structure(arch), {}) for arch in (one.arch, control)]
    ours, theirs = (case_estimate(list(v.values())).latency_ns / 1e6 if v else None for v in pair)
    ratio, interval = paired_ratio(*pair) if pair[0].keys() & pair[1].keys() else (None, None)
    low, high = (end * unit_ms for end in one.interval)
    return Check(
        advised=one,
        control=control,
        flops_ratio=one.counts.flops / models.complexity(control).flops,
        costs=(ours, theirs),
        ratio=ratio,
        interval=interval,
        expected=expected,
        predicted=None if ours is None else low <= ours <= high,
    )


# --- The command -------------------------------------------------------------------------------------------


def parse_goal(flops: str | None, latency: str | None, memory: str | None) -> tuple[Kind, float, str]:
    """Read the one target that was given: its kind, its value in flops, seconds or bytes, and its text.

    Raises:
        UserError: None or several were given, or the one cannot be read.
    """
    given = {"flops": flops, "latency": latency, "memory": memory}
    said = {kind: text for kind, text in given.items() if text}
    if len(said) != 1:
        have = " and ".join(f"--{kind}" for kind in said) or "none"
        raise UserError(f"one target is needed, and {have} given: --flops 4GF, --latency 20ms or --memory 500MiB")
    if flops:
        return "flops", float(parse_flops(flops)), flops
    value, text = (parse_duration(latency), latency) if latency else (float(parse_bytes(memory or "")), memory)
    kind: Kind = "latency" if latency else "memory"
    if value <= 0:
        raise UserError(f"--{kind} {text} leaves no room: give a limit above 0")
    return kind, value, text or ""


def prepare(frame: pd.DataFrame, family: str, kind: Kind, value: float, said: str) -> tuple[Goal, Predictors]:
    """Fit the models of the one group that a table holds, and put the goal in its units.

    Args:
        frame: The table, rows of other groups left out.
        family: Of the network to scale.
        kind: Of the goal, like the next two as :func:`parse_goal` returns them.
        value: In flops, seconds or bytes.
        said: As the user gave it.

    Raises:
        UserError: The table cannot be used, has several groups, or lacks what the goal is about.
    """
    frame = exact_counts(frame)
    y = latency_column(frame, None)
    found, without = cost_models(frame, y, family)
    if len(found) != 1:
        labels = "; ".join(group_label(one.group) for one in found)
        told = f"{len(found)} settings ({labels})" if found else "; ".join(f"{k}: {v}" for k, v in without.items())
        raise UserError(f"the run has {told}: advice needs exactly one; choose it with --backend or --where")
    memories = [column for column in costs_of(frame) if unit_of(column) in BYTES and column != y]
    memory = next((m for column in memories for m in cost_models(frame, column, family)[0]), None)
    if kind == "memory" and memory is None:
        raise UserError(f"--memory {said}: the run has no memory measured; measure a run with it first")
    model = memory if kind == "memory" else found[0]
    unit = unit_of(model.y) if model else ""
    scale = 1.0 if kind == "flops" else SECONDS.get(unit, 1e-3) if kind == "latency" else BYTES[unit]
    return Goal(kind, value / scale, said), Predictors(found[0], memory, _place(frame, found[0].group))


def _place(frame: pd.DataFrame, group: Mapping[str, str]) -> dict[str, str]:
    """Where a group was measured, with the keys that its label leaves out because all rows share them."""
    row = rows_of(frame, group).iloc[0]
    return {key: plain(row[key]) for key in GROUP_KEYS if key in frame}


def run(
    base: str,
    source: Path,
    targets: tuple[str | None, str | None, str | None],
    backend: str | None,
    count: int,
    out: Path | None,
    json: bool,
    where: str | None = None,
) -> int:
    """Advise how to scale a network; ``profiler advise``.

    Args:
        base: A name that ``profiler models`` lists.
        source: The run to learn from.
        targets: ``--flops``, ``--latency`` and ``--memory``, one of them given.
        backend: Whose rows to use, where the run has several.
        count: How many of the best to measure; 0 measures none.
        out: Folder for those measurements; None for one under results/.
        json: Print JSON.
        where: Further rows to choose, as ``batch=8,threads=1``.

    Returns:
        0; with ``count``, 1 where an advised network was not measured to be faster than its control.

    Raises:
        UserError: Something that was given cannot be used.
    """
    arch = models.get(base)
    kind, value, said = parse_goal(*targets)
    frame = chosen_rows(read_table(source), backend, where)
    goal, predictors = prepare(frame, arch.family, kind, value, said)
    advice = advise(arch, goal, predictors)
    if not json:
        _print(advice, Console())
    checks = _verified(advice, count, out) if count else []
    unit = unit_of(predictors.latency.y)
    if json:
        print(jsonlib.dumps(_facts(advice, checks), indent=2, allow_nan=False))
    else:
        for check in checks:
            print(check.sentence(unit))
    return 0 if all(check.held for check in checks) else 1


def _verified(advice: Advice, count: int, out: Path | None) -> list[Check]:
    import random

    from profiler import host
    from profiler import run as runs
    from profiler.display import Live
    from profiler.executors import LocalExecutor
    from profiler.records import Budget
    from profiler.worker import Limits

    folder = out or Path("results") / f"verify-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    console = Console(stderr=True)
    theirs = advice.predictors.place.get("host")
    if theirs and theirs != host.key():
        console.print(f"the run was made on another machine ({theirs}); this one is {host.key()}", highlight=False)
    executor = LocalExecutor()
    try:
        calibrations = runs.Calibrations(executor, runs.cache_folder(), lambda _: Limits())
        lab = runs.Lab(Budget(), executor, lambda _: Limits(), calibrations)
        with Live(console) as shown:
            checks = verify(advice, count, folder, lab, random.SystemRandom().randrange(2**31), shown)
    finally:
        executor.close()
    console.print(f"measurements in {folder}", highlight=False, soft_wrap=True)
    return checks


def _print(advice: Advice, console: Console) -> None:
    model = advice.predictors.latency
    title = f"{advice.base.name} for --{advice.goal.kind} {advice.goal.said}: {group_label(model.group)}"
    console.print(escape(title), style="bold", highlight=False, soft_wrap=True)
    looked = f"{advice.tried:,} networks tried, {advice.distinct:,} of them distinct"
    console.print(f"{looked}; predicted from {escape(model.basis)}.", highlight=False)
    unit = unit_of(model.y)
    table = plain_table("rule", "s", "flops", f"{unit} [90%]", "px", "depths", "widths")
    for column in table.columns[:-2]:
        column.no_wrap = True
    others = [one for one in reversed(advice.front) if one is not advice.best[0]]
    for one in (advice.best[0], *others[: SHOWN - 1]):
        table.add_row(*_row(one))
    table.add_section()
    for one in advice.marked:
        table.add_row(*_row(one), style="bold")
    console.print(table)
    console.print(_advice_sentence(advice), highlight=False)
    beyond = model.beyond(advice.best[0].counts)
    if beyond:
        console.print(escape(f"The first one extrapolates: {beyond}."), highlight=False)


SHOWN = 8


def _row(one: Candidate) -> list[str]:
    low, high = one.interval
    name = f"{one.mark} ({one.rule})" if one.mark and one.mark != one.rule else one.rule
    return [
        escape(name),
        f"{one.arch.factor:.4g}",
        format_flops(one.counts.flops).replace(" ", ""),
        escape(f"{one.latency:.3g} [{low:.3g}, {high:.3g}]") + ("" if one.meets else " *"),
        str(one.arch.resolution),
        " ".join(map(str, one.arch.depths)),
        " ".join(map(str, one.arch.widths)),
    ]


def _advice_sentence(advice: Advice) -> str:
    first = advice.best[0]
    text = f"Best: --scale {first.rule} --factor {first.arch.factor:g}"
    control = next((one for one in advice.marked if one.mark == CONTROL), None)
    if control and advice.goal.kind == "flops":
        ratio = at_equal_flops(first, advice.power) / at_equal_flops(control, advice.power)
        text += f", predicted {_faster(ratio)} than {CONTROL} at equal flops"
    elif control:
        text += f", {first.counts.flops / control.counts.flops - 1:+.0%} flops of the largest {CONTROL} that meets it"
    missed = " * misses the target by more than 2%." if not all(one.meets for one in advice.marked) else ""
    return f"{text}. Accuracy is not predicted: dWr is the rule whose accuracy was published.{missed}"


def _facts(advice: Advice, checks: Sequence[Check]) -> dict[str, object]:
    return {
        "base": advice.base.name,
        "goal": {"kind": advice.goal.kind, "limit": advice.goal.limit},
        "where": advice.predictors.latency.group,
        "basis": advice.predictors.latency.basis,
        "tried": advice.tried,
        "distinct": advice.distinct,
        "front": [_described(one) for one in advice.front],
        "marked": [_described(one) for one in advice.marked],
        "best": _described(advice.best[0]),
        "checks": [
            {
                "advised": _described(check.advised),
                "control": {"scaling": CONTROL, "factor": check.control.factor},
                "flops_ratio": check.flops_ratio,
                "ratio": check.ratio,
                "interval": check.interval,
                "expected": check.expected,
                "held": check.held,
                "within_prediction": check.predicted,
            }
            for check in checks
        ],
    }


def _described(one: Candidate) -> dict[str, object]:
    arch = one.arch
    return {
        "rule": one.rule,
        "mark": one.mark,
        "factor": arch.factor,
        "resolution": arch.resolution,
        "depths": arch.depths,
        "widths": arch.widths,
        "group_widths": arch.group_widths,
        "flops": one.counts.flops,
        "params": one.counts.params,
        "acts": one.counts.acts,
        "latency": one.latency,
        "interval": one.interval,
        "memory": one.memory,
        "meets": one.meets,
    }
