"""What happens inside the fresh process of one visit.

The functions that the parent calls by name are ``visit`` and ``calibrate``. The parent imports this too, so that a
runtime is imported only when one of them is called.
"""

from __future__ import annotations

import contextlib
import importlib.util
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from profiler import backends
from profiler.backends import accelerator, devices, stages
from profiler.backends.base import (
    Arena,
    Backend,
    BackendError,
    DeviceTimed,
    Placement,
    Session,
    Trainer,
    TrainingSession,
    Transferring,
)
from profiler.errors import UserError
from profiler.machine import allocator, gpu, host
from profiler.machine.conditions import core_wait, since, snapshot
from profiler.measure import memory, parity, reference, timing, training, warming
from profiler.measure.energy import joules_per_forward
from profiler.measure.images import Images, batches, default_workers, usable_files
from profiler.measure.probe import Probe
from profiler.models import naming, source
from profiler.models.loaded import Loaded
from profiler.records.disturbance import FAR
from profiler.records.nominal import Calibration, Calls
from profiler.records.types import Budget, Case, Epoch, Failure, Feed, Measurement, Memory, Outcome, Pass

#: Said of a model that is edited while it is measured: its name, and both contents.
_CHANGED = (
    "model {!r} has changed since this run began (content {} then, {} now), so this visit was not taken; "
    "repeat the command to measure it as it is, or let its function seed what it draws where nobody has edited it"
)

#: Forwards that a device times with its own events, after the timed part, and copies to it and back.
_DEVICE_CALLS, _COPIES = 20, 10


@dataclass(frozen=True, slots=True)
class Task:
    """One visit: a case, how long to measure, and the reference to interleave (None goes without).

    ``energy`` adds the pass that counts energy, which takes seconds; ``single`` times every forward by itself;
    without ``fresh`` the process is not the visit's own, and its allocator is left as it is.
    """

    case: Case
    budget: Budget
    calibration: Calibration | None
    cache: Path | None
    measures: Pass = "latency"
    feed: Feed = field(default_factory=Feed)
    energy: bool = True
    single: bool = False
    fresh: bool = True

    @property
    def alone_ns(self) -> float | None:
        """What a call of the reference takes at most while nothing competes for its cores; None where nobody knows."""
        return None if self.calibration is None else FAR * self.calibration.nominal_ns


@dataclass(frozen=True, slots=True)
class CalibrationTask:
    """Time the reference alone for ``seconds``; ``repeats`` None chooses them."""

    placement: Placement
    repeats: int | None
    seconds: float


#: Wall time of the parts of a visit, in seconds.
_Phases = dict[str, float]


@contextlib.contextmanager
def _phase(phases: _Phases, name: str) -> Iterator[None]:
    start = timing.host_clock()
    try:
        yield
    finally:
        phases[name] = round(phases.get(name, 0.0) + (timing.host_clock() - start) / 1e9, 6)


def visit(task: Task) -> Outcome:
    """Take the measurement that ``task`` asks for, of one case."""
    case, phases = task.case, dict[str, float]()
    policy = "system"
    if task.fresh:
        policy = allocator.return_freed() if task.measures == "memory" else allocator.keep_freed()
    # Before the backend: what a user's own backend imports is no part of the model.
    with _phase(phases, "build"):
        loaded = source.load_model(case.asked(task.cache))
    if case.content and loaded.content != case.content:
        return Failure("error", _CHANGED.format(case.model, case.content, loaded.content))
    backend = backends.get(case.backend)
    with _phase(phases, "device"):
        reason = backend.unavailable(case.placement) or _not_here(backend, task)
    if reason is not None:
        return Failure("unsupported", reason)
    with fed_as_asked(case):
        outcome = _outcome(backend, loaded, task, phases)
    if isinstance(outcome, Failure):
        return outcome
    return replace(outcome, facts={**outcome.facts, "heap": policy, **_asked_otherwise(backend, loaded, case)})


@contextlib.contextmanager
def fed_as_asked(case: Case) -> Iterator[None]:
    """Say where a model of the user's fails, or with which inputs where somebody chose them."""
    try:
        yield
    except (BackendError, UserError):
        raise
    except Exception as error:
        if not naming.is_brought(case.model):
            raise
        given = " ".join(filter(None, (case.shape and f"--shape {case.shape}", case.input_file and "--input")))
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{_line_of_theirs(error)}"
        raise BackendError(
            f"{case.model} does not run with {given} ({said}): give other inputs, or its own"
            if given
            else f"{case.model} does not run with its example ({said}): let it run, or give other inputs"
        ) from error


def _line_of_theirs(error: Exception) -> str:
    """Return the innermost line on the way to an error that is neither torch's nor ours; empty where there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    torch = importlib.util.find_spec("torch")
    others = {Path(__file__).parents[1], Path(backends.__file__).parent}
    others |= {Path(place) for place in (torch and torch.submodule_search_locations) or ()}
    python = Path(contextlib.__file__).parent
    for frame in reversed(frames):
        path = Path(frame.filename)
        if path.parent != python and others.isdisjoint(path.parents):
            return f", in {path.name}:{frame.lineno}"
    return ""


def _not_here(backend: Backend, task: Task) -> str | None:
    """Return why an available backend cannot do what is asked, with the remedy, or None when it can."""
    if task.case.mode == "train":
        trainer = training.trainer(backend, task.case.placement)
        if isinstance(trainer, str):
            return trainer
    return memory.peaks_unavailable() if task.measures == "memory" else None


def _outcome(backend: Backend, loaded: Loaded, task: Task, phases: _Phases) -> Outcome:
    if task.measures == "memory":
        return _memory(backend, loaded, task.case)
    if not isinstance(backend, Trainer) or task.case.mode == "infer":
        return _inference(backend, loaded, task, phases)
    return _epoch(backend, loaded, task) if task.measures == "epoch" else _training(backend, loaded, task, phases)


def _inference(backend: Backend, loaded: Loaded, task: Task, phases: _Phases) -> Measurement | Failure:
    """Load, warm up and time forwards; then compare what the first and the last one computed."""
    case = task.case
    with contextlib.ExitStack() as stack:
        with _phase(phases, "load"), stages.timed_by(timing.stage_timer):
            session = stack.enter_context(backend.load(loaded.model, loaded.inputs, case.placement))
        given = parity.given_to(session)
        with _phase(phases, "first"):
            session.run()
            session.sync()
        first = parity.Ran(given, session.outputs())
        timed = _timed(session, task, phases)
        with _phase(phases, "parity"):
            checked = parity.check(backend, loaded, case, session, task.cache, first)
        if checked.failure is not None:
            return checked.failure
        told = {"parity_note": checked.note or None} | dict(checked.agreement)
        return replace(timed, parity=checked.parity, facts=timed.facts | told)


def _asked_otherwise(backend: Backend, loaded: Loaded, case: Case) -> dict[str, str]:
    """Say that a module is measured in another precision or layout than it was brought in, and how it is not."""
    place = {name: str(value) for name, value in asdict(case.placement).items()}
    other = {name: kept for name, kept in loaded.kept.items() if kept != place[name]}
    if not other:
        return {}
    asked, flags = (
        (place[name] for name in other),
        (f"--{name.replace('_', '-')} {kept}" for name, kept in other.items()),
    )
    said = f"the model is in {' and '.join(other.values())}, and was measured in {' and '.join(asked)}"
    served = backend.unavailable(replace(case.placement, **other)) is None  # type: ignore[arg-type]
    return {"brought_note": f"{said}; {' '.join(flags)} measures it as it is" if served else said}


def _training(backend: Trainer, loaded: Loaded, task: Task, phases: _Phases) -> Measurement | Failure:
    """Load, warm up and time whole steps, then the parts of a few."""
    with contextlib.ExitStack() as stack:
        with _phase(phases, "load"):
            session = stack.enter_context(backend.train(loaded.model, loaded.inputs, task.case.placement))
            session.run()
            session.sync()
        timed = _timed(session, task, phases)
        with _phase(phases, "parts"):
            parts = training.time_parts(session, task.budget)
        return training.nonsense(session) or replace(timed, parts_ns=parts)


def _memory(backend: Backend, loaded: Loaded, case: Case) -> Memory:
    """Watch memory while the case is loaded and run; no clock is read."""
    given = loaded.model, loaded.inputs, case.placement
    watched = memory.gauges(case.placement.device)
    load: contextlib.AbstractContextManager[Session | TrainingSession] = (
        backend.train(*given) if isinstance(backend, Trainer) and case.mode == "train" else backend.load(*given)
    )
    found = memory.watch_peaks(load, watched)
    # The runtime's own count needs a session of its own, opened when the process's peaks have been read.
    arena = backend.arena_peak(*given) if isinstance(backend, Arena) and case.mode == "infer" else None
    return replace(found, arena_bytes=arena)


def _epoch(backend: Trainer, loaded: Loaded, task: Task) -> Epoch | Failure:
    """Time steps, a loader over real files, and both together."""
    case, feed = task.case, task.feed
    place, cores = case.placement, host.usable_cores()
    workers = feed.workers
    if workers is None:
        workers = default_workers(place.device, place.threads, cores)
    files = usable_files(feed.folder, task.cache)
    with backend.train(loaded.model, loaded.inputs, place) as session:
        facts = dict(session.facts())
        images = Images(files, next(iter(loaded.inputs.arrays.values())).shape[-1], int(facts["classes"] or 1))
        loading = partial(batches, images, case.batch, workers, pin=place.device_type != "cpu")
        times = training.measure_epoch(session, loading, workers, task.budget)
        return training.nonsense(session) or Epoch(*times, feed.images, workers, cores, len(files), facts)


def timed_alone(session: Session, task: Task) -> Measurement:
    """Warm up and time a session that was loaded elsewhere, as a visit does; its parity is not looked at."""
    return _timed(session, task, _Phases())


def _timed(session: Session | TrainingSession, task: Task, phases: _Phases) -> Measurement:
    place = task.case.placement
    uuid, on_host = accelerator.uuid(place.device), place.device_type == "cpu"
    with gpu.watching(uuid) as watch:
        with _phase(phases, "warmup"):
            workload, probe = _reference(task), None if on_host else Probe(place)
            waiting, begun = core_wait(place.threads), None
            if workload is None or not on_host:
                warmup = warming.warm_up(session, task.budget, settled=watch.settled if watch is not None else None)
            else:
                warmup, begun = warming.warm_up_beside(
                    session, workload, task.budget, threads=place.threads, core_wait=waiting
                )
        before, start_ns = snapshot(), gpu.clock_ns()
        with _phase(phases, "timed"):
            timed = timing.measure(
                session,
                workload,
                task.budget,
                warmup.typical_ns,
                threads=place.threads,
                # Several calls before one wait would be the throughput of a pipeline.
                single=task.single or not on_host,
                alone_ns=task.alone_ns,
                core_wait=waiting,
                look=probe.look if probe else None,
                gap_s=task.case.gap_s,
                begun=begun,
            )
        phases["waited"] = round(timed.waited_ns / 1e9, 6)
        conditions = gpu.add(since(before), watch, start_ns, gpu.clock_ns())
    made = Measurement(
        samples_ns=timed.samples_ns,
        calls_per_sample=timed.calls_per_sample,
        reference_ns=timed.reference_ns,
        nominal_ns=task.calibration.nominal_ns if task.calibration else None,
        warmup=warmup,
        parity=None,
        conditions=conditions,
        facts={},
        core_wait_ns=timed.core_wait_ns,
        clock_mhz=tuple(probe.clock_mhz) if probe else (),
        stream_gb_s=tuple(probe.stream_gb_s) if probe else (),
    )
    return _with_device(made, session, task, uuid, phases)


def _with_device(
    made: Measurement, session: Session | TrainingSession, task: Task, uuid: str | None, phases: _Phases
) -> Measurement:
    """Add what a device tells in passes after the timed one, and what the backend says really ran.

    Those are of forwards back to back: of forwards with gaps between them they would tell something else.
    """
    apart = bool(task.case.gap_s)
    with _phase(phases, "events"):
        device_ns = session.device_ns(_DEVICE_CALLS) if isinstance(session, DeviceTimed) and not apart else ()
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    if isinstance(session, Transferring) and task.case.placement.device_type != "cpu":
        with _phase(phases, "copies"):
            outputs = timing.time_each(session.download, session.sync, _COPIES)
            inputs = timing.time_each(session.upload, session.sync, _COPIES)
    with _phase(phases, "energy"):
        joules = joules_per_forward(session, uuid) if task.energy and not apart else None
    return replace(
        made,
        facts=dict(session.facts()),
        phases_s=phases,
        device_ns=device_ns,
        energy_j=joules,
        input_ns=inputs,
        output_ns=outputs,
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
