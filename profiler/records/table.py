"""One tidy row per case, derived from a journal."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from profiler.records.columns import COLUMNS, Row
from profiler.records.crowding import outnumbered
from profiler.records.disturbance import near
from profiler.records.epoch import epoch_time, steps_per_epoch
from profiler.records.estimate import CaseEstimate, case_estimate, visit_estimate
from profiler.records.identity import of_asked, of_facts, of_host, of_network, of_versions, scalar
from profiler.records.on_device import device_notes, of_device
from profiler.records.pairs import bases, of_pairs
from profiler.records.reading import Run
from profiler.records.sharing import sharing
from profiler.records.spread import Spread
from profiler.records.types import IMAGENET, Budget, Case, Epoch, Failure, Measurement, Memory, Record
from profiler.units import format_share

if TYPE_CHECKING:
    import pandas as pd

#: Sources on a device, in the order in which one of them is the figure that a user reads first.
_ON_DEVICE = ("device", "allocated", "nvml")


def headline(sources: Mapping[str, int], device: str) -> str | None:
    """Return the source whose peak stands for the case: the device's own where one tells, the process's on the CPU.

    On an accelerator the memory of the host process says nothing about what fits on the device. There, 0 bytes from
    torch's allocator mean that the runtime has another one.
    """
    if device.partition(":")[0] == "cpu":
        return "process" if "process" in sources else None
    return next((name for name in _ON_DEVICE if sources.get(name)), None)


def peaks_by_source(found: Memory) -> dict[str, int]:
    """Return the peaks of memory by source, of loading and running together, in bytes."""
    load, run = found.load_bytes, found.run_bytes
    return {source: max(load.get(source, 0), run.get(source, 0)) for source in load | run}


_NOTES = (
    "trace_note",
    "export_note",
    "kernel_note",
    "compile_note",
    "precision_note",
    "brought_note",
    "parity_note",
    "gradient_note",
)

#: How much more than its visit's median a forward may take that counts as steady.
_STEADY = 1.05

_SUMS = ("involuntary_switches", "steal_s", "stall_s", "throttled_s")


def rows(run: Run) -> list[Row]:
    """One row per case, planned cases in plan order first, then whatever else was measured.

    A number that was not measured is None, never 0. ``status`` is ``ok``, ``unstable`` (the interval is
    wider than asked for), the status of the failure, or ``pending`` (planned and not measured yet).
    """
    return list(each_row(run))


def each_row(run: Run) -> Iterator[Row]:
    """Yield what ``rows`` returns, one at a time: a large run is larger than memory."""
    measured = run.by_case
    cases = {case.key: case for case in run.planned}
    # Visits of a model that has changed since stay in the journal; the row is that of the model as it is now.
    asked = {replace(case, content="") for case in cases.values()}
    others = {key: visits[0].case for key, visits in measured.items() if key not in cases}
    cases |= {key: case for key, case in others.items() if replace(case, content="") not in asked}
    compared, common = bases(list(cases.values())), sharing(run)
    for key, case in cases.items():
        visits, base = tuple(measured.get(key, ())), compared.get(key)
        row = _row(case, visits, run, common.of(case))
        if base is not None:
            theirs = tuple(measured.get(base.key, ()))
            row |= of_pairs(base, theirs, visits, run.budget.pilot, common.of_speed_up(case))
        yield row


def frame(run: Run) -> pd.DataFrame:
    """``rows`` as a data frame with the columns of ``COLUMNS``."""
    return frame_of(each_row(run))


def frame_of(made: Iterable[Row]) -> pd.DataFrame:
    """Rows as a data frame with the columns of ``COLUMNS``."""
    import pandas as pd

    return pd.DataFrame(list(made), columns=list(COLUMNS))


def _row(case: Case, visits: Sequence[Record], run: Run, common: Spread | None) -> Row:
    timed = [record for record in visits if record.measures == "latency"]
    good = [record.outcome for record in timed if isinstance(record.outcome, Measurement)]
    failures = [record.outcome for record in timed if isinstance(record.outcome, Failure)]
    estimate = case_estimate(good, run.budget.pilot, common) if good else None
    row: Row = dict.fromkeys(COLUMNS)
    row |= of_asked(case) | of_network(case, visits) | of_host(visits, run.sessions)
    row |= of_facts(good, case.backend) | of_versions(good, run.sessions) | _of_conditions(good)
    row |= _of_reference(good, run)
    if estimate is not None:
        row |= _of_estimate(estimate, case.batch) | _of_training(good, estimate, visits)
        row |= of_device(good, estimate.latency_ns, run.budget.pilot)
    row |= _of_memory(visits, case.placement.device) | _of_loading(good)
    row["status"], reason = _verdict(estimate, failures, run.budget)
    crowd = outnumbered(case.placement, _host(run, visits)) if run.sessions and good else ""
    said = (reason, *device_notes(case, good, row), crowd, *_noted(good), *_failed_passes(visits))
    row["reason"] = "; ".join(filter(None, said))
    return row


def _host(run: Run, visits: Sequence[Record]) -> Mapping[str, object]:
    """Return facts of the machine of the visits."""
    session = run.sessions[-1]
    return session.hosts.get(visits[0].host, session.host)


def _of_conditions(good: Sequence[Measurement]) -> Row:
    """Sums over the visits of what disturbed them; None where the system did not tell."""
    row: Row = {}
    for name in _SUMS:
        told = [v for v in (getattr(m.conditions, name) for m in good) if v is not None]
        row[name] = sum(told) if told else None
    row["waited_s"] = math.fsum(m.phases_s.get("waited", 0.0) for m in good) if good else None
    return row


def _of_reference(good: Sequence[Measurement], run: Run) -> Row:
    """What latencies are multiples of; nothing where visits have no reference, or several nominal times."""
    nominal = {visit.nominal_ns for visit in good}
    if len(nominal) != 1 or None in nominal or not run.sessions:
        return {}
    version = scalar(run.sessions[-1].facts.get("reference"))
    return {"nominal_ms": _ms(nominal.pop()), "reference_version": version}


def _of_estimate(e: CaseEstimate, batch: int) -> Row:
    return {
        "latency_ms": _ms(e.latency_ns),
        "latency_raw_ms": _ms(e.raw_ns),
        "latency_ci_low_ms": _ms(e.ci_low_ns),
        "latency_ci_high_ms": _ms(e.ci_high_ns),
        "p10_ms": _ms(e.p10_ns),
        "p90_ms": _ms(e.p90_ns),
        "p99_ms": _ms(e.p99_ns),
        "visits": e.visits,
        "samples": e.samples,
        "throughput_per_s": batch / (e.latency_ns / 1e9),
        "precision_reached": e.relative_half_width,
        "disturbance": e.disturbance,
        "steady_visits": e.steady_visits,
        "quiet_visits": e.quiet_visits,
        "effective_samples": e.effective_samples,
        "marked_samples": e.marked_samples,
    }


def _of_loading(good: Sequence[Measurement]) -> Row:
    """Loading and the first forward, as the visits that found a kept form say; where none did, as all do."""
    told = [visit for visit in good if visit.facts.get("cached")] or good
    found = {name: [visit.phases_s[name] for visit in told if name in visit.phases_s] for name in ("load", "first")}
    load, first = (statistics.median(values) if values else None for values in found.values())
    row: Row = {"load_s": load, "first_ms": None if first is None else first * 1e3}
    facts = told[-1].facts if told else {}
    row |= {name: scalar(facts.get(name)) for name in ("export_s", "compile_s", "model_bytes")}
    row["load_from"] = None if facts.get("cached") is None else "cache" if facts["cached"] else "model"
    after = [count for count in map(_steady_after, good) if count is not None]
    return row | {"steady_after": statistics.median_low(after) if after else None}


def _steady_after(visit: Measurement) -> int | None:
    """The forward that first takes at most 5% more than the visit's median; None where none did before the timed ones.

    The first one is timed, and each after it until the visit is warm.
    """
    if "first" not in visit.phases_s:
        return None
    limit = _STEADY * visit_estimate(visit).raw_ns
    if visit.phases_s["first"] * 1e9 <= limit:
        return 1
    phases = list(visit.phases_s)
    # Where outputs were compared first, two forwards came before the warm-up.
    untimed = 2 if "parity" in phases and phases.index("parity") < phases.index("warmup") else 0
    warm = (number for number, ns in enumerate(visit.warmup.samples_ns, start=untimed + 2) if ns <= limit)
    return next(warm, None)


def _of_training(good: Sequence[Measurement], e: CaseEstimate, visits: Sequence[Record]) -> Row:
    """Parts of a step, and an epoch: of steps alone, and with a loader where one was measured."""
    case = visits[0].case
    if case.mode != "train":
        return {}
    epochs = [record.outcome for record in visits if isinstance(record.outcome, Epoch)]
    images = epochs[-1].images if epochs else IMAGENET
    steps = steps_per_epoch(images, case.batch)
    row: Row = {
        "optimizer": scalar(good[-1].facts.get("optimizer")),
        "epoch_images": images,
        "epoch_steps": steps,
        "epoch_compute_s": steps * e.latency_ns / 1e9,
    }
    return row | _of_parts(good) | (_of_epoch(epochs[-1], case) if epochs else {})


def _of_parts(good: Sequence[Measurement]) -> Row:
    """Medians of the parts of a step, scaled as their visit's headline is, so that they add up to it."""
    told = [visit for visit in good if visit.parts_ns]
    scales = [made.normalised_ns / made.raw_ns for made in map(visit_estimate, told)]
    names = [name for name in dict.fromkeys(n for visit in told for n in visit.parts_ns) if f"{name}_ms" in COLUMNS]
    return {
        f"{name}_ms": _ms(
            statistics.median(
                scale * statistics.median(visit.parts_ns[name]) for visit, scale in zip(told, scales, strict=True)
            )
        )
        for name in names
    }


def _of_epoch(epoch: Epoch, case: Case) -> Row:
    told = epoch_time(epoch, case.placement, case.batch)
    return {
        "epoch_s": told.predicted_s,
        "epoch_measured_s": told.measured_s,
        "epoch_error": told.error,
        "loader_ms": _ms(told.loader_ns),
        "loader_workers": epoch.workers,
    }


def _of_memory(visits: Sequence[Record], device: str) -> Row:
    """Peaks of the latest memory visit: the one that is read first, and every source beside it."""
    found = [record.outcome for record in visits if isinstance(record.outcome, Memory)]
    if not found:
        return {}
    load, run = found[-1].load_bytes, found[-1].run_bytes
    most = peaks_by_source(found[-1])
    source = headline(most, device)
    return {
        "peak_memory_bytes": most[source] if source else None,
        "load_memory_bytes": load.get(source) if source else None,
        "run_memory_bytes": run.get(source) if source else None,
        "memory_source": source,
        "process_peak_bytes": most.get("process"),
        # A runtime with an allocator of its own takes nothing from torch's.
        "allocated_peak_bytes": most.get("allocated") or None,
        "reserved_peak_bytes": most.get("reserved") or None,
        "driver_memory_bytes": most.get("nvml"),
        "device_memory_bytes": most.get("device"),
        "arena_peak_bytes": found[-1].arena_bytes,
    }


def _failed_passes(visits: Sequence[Record]) -> list[str]:
    """What the visits beside those for latency failed of, in words."""
    last = {record.measures: record.outcome for record in visits if record.measures != "latency"}
    return [f"{name} {o.status}: {o.reason}" for name, o in last.items() if isinstance(o, Failure)]


def _ms(ns: float | None) -> float | None:
    return None if ns is None else ns / 1e6


def _verdict(estimate: CaseEstimate | None, failures: Sequence[Failure], budget: Budget) -> tuple[str, str]:
    """Status and reason: the latest failure where nothing succeeded, else what the estimate is worth."""
    if estimate is None and failures:
        return failures[-1].status, failures[-1].reason
    if estimate is None:
        return "pending", "planned, not measured yet; continue the run with --resume"
    rounds = estimate.visits + len(failures)
    unstable = _unstable(estimate, rounds, budget)
    last = f"{failures[-1].status}: {failures[-1].reason}" if failures else ""
    failed = f"{len(failures)} of {rounds} visits failed: {last}" if failures else ""
    return "unstable" if unstable else "ok", "; ".join(filter(None, (unstable, failed)))


def _noted(good: Sequence[Measurement]) -> list[str]:
    """What an export fixed of the model, which one it was, and what was not compared, as the latest visit says."""
    facts = good[-1].facts if good else {}
    return [str(facts[name]) for name in _NOTES if facts.get(name)]


def _unstable(estimate: CaseEstimate, rounds: int, budget: Budget) -> str:
    """Why the latency may be wrong, or is not as certain as was asked for; empty when it is."""
    if not near(estimate.level):
        times = f"{estimate.level:.2g}" if estimate.level < 100 else f"{estimate.level:.0f}"
        return (
            f"the reference took {times} times its nominal time at its best: something else has cores, or the machine "
            "has changed since its calibration (profiler calibrate); the latency is as read, not normalised"
        )
    if estimate.marked_samples == estimate.samples:
        all_of = "the one visit was" if estimate.visits == 1 else f"all {estimate.visits} visits were"
        return (
            f"{all_of} disturbed throughout, and the latency may be far off; run it again when the machine is quieter"
        )
    return "" if budget.precision is None else _imprecise(estimate, rounds, budget, budget.precision)


def _imprecise(estimate: CaseEstimate, rounds: int, budget: Budget, precision: float) -> str:
    width, asked = estimate.relative_half_width, format_share(precision)
    used = f"after {rounds} of {budget.rounds} rounds"
    if width is None:
        one = "one visit" if estimate.visits == 1 else f"one undisturbed visit of {estimate.visits}"
        return f"{one} gives no interval, ±{asked} was asked for, {used}"
    if width > precision:
        return f"the 95% interval is ±{format_share(width)}, ±{asked} was asked for, {used}"
    if estimate.visits < budget.min_rounds:
        return f"{estimate.visits} good visits, at least {budget.min_rounds} were asked for, {used}"
    return ""
