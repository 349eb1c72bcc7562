"""Whether advice held: the advised networks measured beside compound scaling."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from profiler import models
from profiler.analysis.advise import Advice
from profiler.analysis.frame import SECONDS, unit_of
from profiler.analysis.goal import TOLERANCE, Candidate
from profiler.analysis.growth import CONTROL
from profiler.analysis.regression import geometric_mean
from profiler.analysis.search import Base, nearest_to, structure
from profiler.models.arch import Arch
from profiler.models.brought import Brought, Network, Wanted, counts_of
from profiler.models.own_family import open_family
from profiler.plan.cases import expand
from profiler.plan.plan import Plan
from profiler.plan.read import loads
from profiler.records.disturbance import quiet_level
from profiler.records.estimate import case_estimate, visit_estimate
from profiler.records.intervals import Interval
from profiler.records.reading import read
from profiler.records.types import Case, Measurement, Record
from profiler.run.experiment import measure_into, opened_lab
from profiler.run.families import answered
from profiler.run.lab import Lab

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class Check:
    """An advised network and its control, measured.

    Attributes:
        advised: The candidate.
        control: The base scaled by ``dwr`` to the same flops.
        flops_ratio: Flops of the advised over those of the control.
        costs: Measured latency of both in milliseconds, or None where that failed.
        ratio: The advised latency over the control's, see ``_paired_ratio``; None where one failed.
        interval: 95% interval of the ratio, or None.
        expected: The ratio that was predicted.
        predicted: Whether the measured latency is within the 90% prediction interval; None if not measured.
    """

    advised: Candidate
    control: Network
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
        faster = f"{in_words(self.ratio)}, where {in_words(self.expected)} was predicted"
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


def in_words(ratio: float) -> str:
    """A ratio of latencies as people say it: 0.8 is ``20.0% faster``."""
    return f"{abs(1 - ratio):.1%} {'faster' if ratio < 1 else 'slower'}"


def _with_controls(advice: Advice, count: int) -> list[tuple[Candidate, Network]]:
    """The best networks with their controls; a family of the user's is asked in a process of its own."""
    if isinstance(advice.base, Brought):
        return answered(_with_own_controls, (advice, count))
    return _paired(advice, advice.base, count)


def _with_own_controls(asked: tuple[Advice, int]) -> list[tuple[Candidate, Network]]:
    advice, count = asked
    with open_family(advice.base.name) as family:
        return _paired(advice, family, count)


def _paired(advice: Advice, base: Base, count: int) -> list[tuple[Candidate, Network]]:
    """The best networks, each with the base scaled by ``dwr`` to the same flops, so that only the shape differs.

    Networks whose flops ``dwr`` cannot meet within 2% are passed over, as long as there are others.
    """
    fair: list[tuple[Candidate, Network]] = []
    far: list[tuple[Candidate, Network]] = []
    for one in advice.best:
        control = nearest_to(base, CONTROL, one.counts.flops)
        near = abs(models.flops_error(control, one.counts.flops)) <= TOLERANCE
        (fair if near else far).append((one, control))
        if len(fair) == count or len(fair) + len(far) == 10 * count:
            break
    return [*fair, *far][:count]


def _plan_for(archs: Sequence[Network], group: Mapping[str, str]) -> Plan:
    """A plan that measures these networks in the place that ``group`` names.

    Raises:
        UserError: A value of the group is no longer valid, such as a backend that is not installed.
    """
    place = {
        "backends": group.get("backend", "eager"),
        "devices": group.get("device", "cpu"),
        "precisions": group.get("precision", "fp32"),
        "threads": int(float(group.get("threads") or 1)),
        "batches": int(float(group.get("batch") or 1)),
        "modes": group.get("mode", "infer"),
        "memory_formats": group.get("memory_format", "contiguous"),
        "gaps": f"{group['gap_ms']}ms" if group.get("gap_ms") else "",
    }
    lines = ['name = "verify"', *(f"{key} = {jsonlib.dumps(value)}" for key, value in place.items() if value)]
    for arch in dict.fromkeys(archs):
        lines += ["[[sweep]]", f"models = {jsonlib.dumps(arch.name)}"]
        if arch.scaling:
            lines += [f"scalings = {jsonlib.dumps(arch.scaling)}", f"factors = {arch.factor!r}"]
    return loads("\n".join(lines), "the plan to verify with")


def _asked(network: Brought | Case) -> Wanted:
    name = network.name if isinstance(network, Brought) else network.model
    return Wanted(name, network.scaling, network.factor)


def _in_zoo(case: Case) -> Arch:
    return models.resolve(case.model, case.scaling, case.factor, case.step)


_Visits: TypeAlias = dict[int, Measurement]


def _good(records: Sequence[Record]) -> _Visits:
    """The measurements among some visits, by their round."""
    return {record.round: record.outcome for record in records if isinstance(record.outcome, Measurement)}


def _paired_ratio(ours: _Visits, theirs: _Visits) -> tuple[float, Interval | None]:
    """Latency of one network over that of another, from the rounds in which both were visited.

    The visits of a round lie close in time, so that a drift of the machine leaves their ratio alone. Rounds in which
    a competitor left one of them no undisturbed block count only where fewer than three others are left.

    Returns:
        Geometric mean of the rounds' ratios, and its 95% interval by Student's t, None below three rounds.

    Raises:
        ValueError: They have no round in common.
    """
    levels = [quiet_level(list(visits.values())) for visits in (ours, theirs)]
    rounds = sorted(ours.keys() & theirs.keys())
    if not rounds:
        raise ValueError("a paired ratio needs at least one round that visited both")
    both = [(visit_estimate(ours[n], levels[0]), visit_estimate(theirs[n], levels[1])) for n in rounds]
    undisturbed = [(top, bottom) for top, bottom in both if top.samples and bottom.samples]
    used = undisturbed if len(undisturbed) >= 3 else both
    return geometric_mean([top.normalised_ns / bottom.normalised_ns for top, bottom in used])


def _check(
    one: Candidate, control: Network, visits: Mapping[object, _Visits], unit_ms: float, expected: float
) -> Check:
    pair = [visits.get(structure(arch), {}) for arch in (one.arch, control)]
    ours, theirs = (case_estimate(list(v.values())).latency_ns / 1e6 if v else None for v in pair)
    ratio, interval = _paired_ratio(*pair) if pair[0].keys() & pair[1].keys() else (None, None)
    low, high = (end * unit_ms for end in one.interval)
    return Check(
        advised=one,
        control=control,
        flops_ratio=one.counts.flops / counts_of(control).flops,
        costs=(ours, theirs),
        ratio=ratio,
        interval=interval,
        expected=expected,
        predicted=None if ours is None else low <= ours <= high,
    )


def verify(
    advice: Advice, count: int, folder: Path, *, lab: Lab | None = None, console: Console | None = None
) -> list[Check]:
    """Measure the best networks and their controls, as ``profiler run`` does, and compare them.

    Args:
        advice: From ``advise``.
        count: How many of the best to measure.
        folder: A new run folder.
        lab: What the visits share; None for this machine's own.
        console: Where to show what happens; None for nowhere.

    Returns:
        One check per advised network.

    Raises:
        UserError: The folder cannot be written or holds a run already.
        StoppedError: The user stopped it.
    """
    chosen = _with_controls(advice, count)
    networks = [arch for one, control in chosen for arch in (one.arch, control)]
    plan = _plan_for(networks, advice.goal.place)
    own = {_asked(one): one for one in (advice.base, *networks) if isinstance(one, Brought)}
    with nullcontext(lab) if lab else opened_lab(plan) as shared:
        progress = measure_into(folder, plan, expand(plan, 1, own), shared, console=console)
    made = read(folder).by_case
    visits = {structure(own.get(_asked(c)) or _in_zoo(c)): _good(made.get(c.key, ())) for c in progress.cases}
    unit = SECONDS.get(unit_of(advice.goal.latency.y), 1e-3) * 1e3
    model = advice.goal.latency
    expected = [one.latency / model.value(counts_of(control)) for one, control in chosen]
    return [_check(one, control, visits, unit, e) for (one, control), e in zip(chosen, expected, strict=True)]
