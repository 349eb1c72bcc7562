"""What happens inside the fresh process of one visit.

Everything here may import torch. The functions that the parent calls by name are ``visit`` and
``calibrate``; ``main`` is the process's entry and turns whatever goes wrong into a
``Failure``.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from profiler import backends
from profiler.backends import accelerator, devices
from profiler.backends.base import (
    Arena,
    Backend,
    BackendError,
    DeviceTimed,
    Placement,
    Session,
    Trainer,
    TrainingSession,
)
from profiler.machine import allocator, host
from profiler.machine import gpu as telemetry
from profiler.machine.conditions import between, core_wait, snapshot
from profiler.measure import energy, memory, reference, training
from profiler.measure import images as loader
from profiler.measure import timing as measure
from profiler.measure.calibration import Calibration
from profiler.measure.network import Network, load_network
from profiler.measure.parity import PARITY, check_parity, parity_failure
from profiler.models.complexity import Complexity
from profiler.records.disturbance import FAR
from profiler.records.nominal import Calls
from profiler.records.types import Budget, Case, Epoch, Failure, Feed, Measurement, Memory, Outcome, Pass

#: Forwards that a device times with its own events, after the timed part.
DEVICE_CALLS = 20


@dataclass(frozen=True, slots=True)
class Task:
    """One visit: a case, how long to measure, and the reference to interleave (None goes without).

    ``energy`` adds the pass that counts energy, which takes seconds.
    """

    case: Case
    budget: Budget
    calibration: Calibration | None
    cache: Path | None
    measures: Pass = "latency"
    feed: Feed = field(default_factory=Feed)
    energy: bool = True

    @property
    def alone_ns(self) -> float | None:
        """What a call of the reference takes at most while nothing competes for its cores; None where nobody knows."""
        return None if self.calibration is None else FAR * self.calibration.nominal_ns


@dataclass(frozen=True, slots=True)
class Reply:
    """What a visit brings home."""

    outcome: Outcome
    complexity: Complexity | None = None
    resolution: int | None = None


@dataclass(frozen=True, slots=True)
class CalibrationTask:
    """Time the reference alone for ``seconds``; ``repeats`` None chooses them."""

    placement: Placement
    repeats: int | None
    seconds: float


class _Phases:
    """Wall time of the parts of a visit."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 6)


def visit(task: Task) -> Reply:
    """Take the measurement that ``task`` asks for, of one case."""
    case, phases = task.case, _Phases()
    policy = allocator.return_freed() if task.measures == "memory" else allocator.keep_freed()
    backend = backends.get(case.backend)
    with phases("device"):
        reason = backend.unavailable(case.placement) or _not_here(backend, task)
    if reason is not None:
        return Reply(Failure("unsupported", reason))
    with phases("build"):
        network = load_network(case, task.cache)
    outcome = _outcome(backend, network, task, phases)
    if not isinstance(outcome, Failure):
        outcome = replace(outcome, facts={**outcome.facts, "heap": policy})
    return Reply(outcome, network.complexity, network.resolution)


def _not_here(backend: Backend, task: Task) -> str | None:
    """Return why an available backend cannot do what is asked, with the remedy, or None when it can."""
    if task.case.mode == "train":
        trainer = training.trainer(backend, task.case.placement)
        if isinstance(trainer, str):
            return trainer
    return memory.unavailable() if task.measures == "memory" else None


def _outcome(backend: Backend, network: Network, task: Task, phases: _Phases) -> Outcome:
    if task.measures == "memory":
        return _memory(backend, network, task.case)
    if not isinstance(backend, Trainer) or task.case.mode == "infer":
        return _inference(backend, network, task, phases)
    return _epoch(backend, network, task) if task.measures == "epoch" else _training(backend, network, task, phases)


def _inference(backend: Backend, network: Network, task: Task, phases: _Phases) -> Measurement | Failure:
    """Load, check parity, warm up and time forwards."""
    case = task.case
    with contextlib.ExitStack() as stack:
        with phases("load"):
            session = stack.enter_context(backend.load(network.model, network.example, case.placement))
            session.run()
            session.sync()
        with phases("parity"):
            parity = check_parity(backend, network, case, session.output(), task.cache)
        if parity is not None and not parity <= PARITY[case.placement.precision]:
            return parity_failure(parity, case)
        return _timed(session, task, parity, phases)


def _training(backend: Trainer, network: Network, task: Task, phases: _Phases) -> Measurement | Failure:
    """Load, warm up and time whole steps, then the parts of a few."""
    with contextlib.ExitStack() as stack:
        with phases("load"):
            session = stack.enter_context(backend.train(network.model, network.example, task.case.placement))
            session.run()
            session.sync()
        timed = _timed(session, task, None, phases)
        with phases("parts"):
            parts = training.time_parts(session, task.budget)
        return training.nonsense(session) or replace(timed, parts_ns=parts)


def _memory(backend: Backend, network: Network, case: Case) -> Memory:
    """Watch memory while the case is loaded and run; no clock is read."""
    given = network.model, network.example, case.placement
    watched = memory.gauges(case.placement.device)
    load: contextlib.AbstractContextManager[memory.Loaded] = (
        backend.train(*given) if isinstance(backend, Trainer) and case.mode == "train" else backend.load(*given)
    )
    found = memory.measure(load, watched)
    # The runtime's own count needs a session of its own, opened when the process's peaks have been read.
    arena = backend.arena_peak(*given) if isinstance(backend, Arena) and case.mode == "infer" else None
    return replace(found, arena_bytes=arena)


def _epoch(backend: Trainer, network: Network, task: Task) -> Epoch | Failure:
    """Time steps, a loader over real files, and both together."""
    case, feed = task.case, task.feed
    place, cores = case.placement, host.usable_cores()
    workers = feed.workers
    if workers is None:
        workers = loader.default_workers(place.device, place.threads, cores)
    files = loader.usable_files(feed.folder, task.cache)
    with backend.train(network.model, network.example, place) as session:
        facts = dict(session.facts())
        images = loader.Images(files, network.example.shape[-1], int(facts["classes"] or 1))
        source = training.Source(images, case.batch, workers, pin=place.device_type != "cpu")
        times = training.measure_epoch(session, source, task.budget)
        return training.nonsense(session) or Epoch(*times, feed.images, workers, cores, len(files), facts)


def timed_alone(session: Session, task: Task) -> Measurement:
    """Warm up and time a session that was loaded elsewhere, as a visit does; its parity is not looked at."""
    return _timed(session, task, None, _Phases())


def _timed(session: Session | TrainingSession, task: Task, parity: float | None, phases: _Phases) -> Measurement:
    gpu = accelerator.uuid(task.case.placement.device)
    with telemetry.watching(gpu) as watch:
        with phases("warmup"):
            workload = _reference(task)
            warmup = measure.warm_up(session, task.budget, settled=watch.settled if watch is not None else None)
        before, start_ns = snapshot(), time.monotonic_ns()
        with phases("timed"):
            timing = measure.measure(
                session,
                workload,
                task.budget,
                warmup.typical_ns,
                alone_ns=task.alone_ns,
                core_wait=core_wait(task.case.placement.threads),
            )
        phases.seconds["waited"] = round(timing.waited_ns / 1e9, 6)
        conditions = between(before, snapshot())
        conditions = telemetry.add(conditions, watch, start_ns, time.monotonic_ns())
    with phases("events"):
        device_ns = session.device_ns(DEVICE_CALLS) if isinstance(session, DeviceTimed) else ()
    with phases("energy"):
        joules = energy.measure(session, gpu) if task.energy else None
    return Measurement(
        samples_ns=timing.samples_ns,
        calls_per_sample=timing.calls_per_sample,
        reference_ns=timing.reference_ns,
        nominal_ns=task.calibration.nominal_ns if task.calibration else None,
        warmup=warmup,
        parity=parity,
        conditions=conditions,
        facts=dict(session.facts()),
        phases_s=phases.seconds,
        device_ns=device_ns,
        energy_j=joules,
        core_wait_ns=timing.core_wait_ns,
    )


def _reference(task: Task) -> reference.Reference | None:
    if task.calibration is None:
        return None
    import torch

    torch.set_num_threads(task.case.placement.threads)
    return reference.Reference(task.case.placement, task.calibration.repeats)


def calibrate(task: CalibrationTask) -> tuple[int, Calls]:
    """Return (units per call, single calls) of the reference in this process."""
    import torch

    reason = devices.unavailable(task.placement.device)
    if reason is not None:
        raise BackendError(reason)
    allocator.keep_freed()
    torch.set_num_threads(task.placement.threads)
    repeats = task.repeats or reference.choose_repeats(task.placement)
    return repeats, reference.sample(task.placement, repeats, task.seconds)
