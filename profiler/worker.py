"""What happens inside the fresh process of one visit.

Everything here may import torch. The functions that the parent calls by name are :func:`visit` and
:func:`calibrate`; :func:`main` is the process's entry and turns whatever goes wrong into a
:class:`~profiler.records.Failure`.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import backends
from backends import accelerator, devices
from backends.base import (
    Arena,
    Backend,
    BackendError,
    DeviceTimed,
    FallbackError,
    Placement,
    Session,
    Trainer,
    TrainingSession,
)
from profiler import energy, heap, host, loader, measure, memory, reference, telemetry, training
from profiler.errors import UserError
from profiler.estimate import FAR
from profiler.models.complexity import Complexity
from profiler.network import Network, load_network
from profiler.records import Budget, Case, Epoch, Failure, Measurement, Memory, Outcome, Pass

if TYPE_CHECKING:
    import numpy as np

    from backends.base import Array

#: Largest difference from eager that is still the same network, relative to eager's largest output.
PARITY = {"fp32": 1e-3, "fp16": 3e-2, "bf16": 1e-1}
#: Forwards that a device times with its own events, after the timed part.
DEVICE_CALLS = 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What the process of a visit may use.

    Attributes:
        cores: Cores to pin the process to; empty leaves the choice to the system.
        memory_bytes: Limit on private memory (RLIMIT_DATA), or None.
    """

    cores: tuple[int, ...] = ()
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One visit: a case, how long to measure, and the reference to interleave (None goes without).

    ``level`` is what the reference takes on the machine as it is now while nothing disturbs it, over its nominal time;
    None where nobody knows. ``energy`` adds the pass that counts energy, which takes seconds.
    """

    case: Case
    budget: Budget
    calibration: reference.Calibration | None
    cache: Path | None
    measures: Pass = "latency"
    feed: training.Feed = field(default_factory=training.Feed)
    level: float | None = None
    energy: bool = True

    @property
    def alone_ns(self) -> float | None:
        """What a call of the reference takes at most while nothing competes for its cores; None where nobody knows."""
        if self.calibration is None or self.level is None:
            return None
        return FAR * self.level * self.calibration.nominal_ns


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
    policy = heap.return_freed() if task.measures == "memory" else heap.keep_freed()
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
            parity = _parity(backend, network, case, session.output(), task.cache)
        if parity is not None and not parity <= PARITY[case.placement.precision]:
            return _parity_failure(parity, case)
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


def _timed(session: Session | TrainingSession, task: Task, parity: float | None, phases: _Phases) -> Measurement:
    gpu = accelerator.uuid(task.case.placement.device)
    with telemetry.watching(gpu) as watch:
        with phases("warmup"):
            workload = _reference(task)
            warmup = measure.warm_up(session, task.budget, settled=watch.settled if watch is not None else None)
        before, start_ns = telemetry.snapshot(), time.monotonic_ns()
        with phases("timed"):
            timing = measure.measure(
                session,
                workload,
                task.budget,
                warmup.typical_ns,
                threads=task.case.placement.threads,
                alone_ns=task.alone_ns,
                core_wait=telemetry.core_wait(task.case.placement.threads),
            )
        phases.seconds["waited"] = round(timing.waited_ns / 1e9, 6)
        conditions = telemetry.between(before, telemetry.snapshot())
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


def calibrate(task: CalibrationTask) -> tuple[int, reference.Calls]:
    """Return (units per call, single calls) of the reference in this process."""
    import torch

    reason = devices.unavailable(task.placement.device)
    if reason is not None:
        raise BackendError(reason)
    heap.keep_freed()
    torch.set_num_threads(task.placement.threads)
    repeats = task.repeats or reference.choose_repeats(task.placement)
    return repeats, reference.sample(task.placement, repeats, task.seconds)


def _parity(backend: Backend, network: Network, case: Case, output: Array, cache: Path | None) -> float | None:
    """Return the largest difference from eager, relative to eager's largest output; None without eager."""
    own: Callable[[Array], Array] | None = getattr(backend, "expected", None)
    expected = own(network.example) if own else _expected(network, case, cache)
    if expected is None:
        return None
    return _difference(output, expected)


def _difference(output: Array, expected: Array) -> float:
    import numpy as np

    if output.shape != expected.shape:
        return float("inf")
    scale = float(np.abs(expected).max()) or 1.0
    gap = float(np.abs(output - expected).max()) / scale
    return gap if np.isfinite(gap) else float("inf")


def _expected(network: Network, case: Case, cache: Path | None) -> Array | None:
    """Return eager's fp32 output on the same device for the same input, from the cache where it is kept."""
    if network.model.module is None:
        return None
    file = None
    if cache is not None and network.model.key is not None:
        name = f"{network.model.key}-b{case.batch}-{case.placement.device_type}.npy"
        file = cache / "eager" / name
        kept = _read_array(file)
        if kept is not None:
            return kept
    placement = replace(case.placement, precision="fp32", memory_format="contiguous")
    with backends.get("eager").load(network.model, network.example, placement) as session:
        session.run()
        session.sync()
        output = session.output()
    if file is not None:
        _write_array(file, output)
    return output


def _read_array(file: Path) -> Array | None:
    import numpy as np

    try:
        kept: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = np.load(file)
    except (OSError, ValueError, EOFError):
        return None
    return kept


def _write_array(file: Path, array: Array) -> None:
    import numpy as np

    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as handle:
            np.save(handle, array)
        temporary.replace(file)
    except OSError:
        # A cache that cannot be written costs time, never a measurement.
        temporary.unlink(missing_ok=True)


def _parity_failure(parity: float, case: Case) -> Failure:
    allowed = PARITY[case.placement.precision]
    return Failure(
        "parity",
        f"{case.backend} computes something else than eager: outputs differ by {parity:.2g} of the largest "
        f"output, {allowed:g} is allowed for {case.placement.precision}; this is a bug of the model's export "
        "or of the runtime, and its latency would mislead",
    )


def main(
    results: Connection,
    output: Connection,
    function: Callable[[object], object],
    argument: object,
    limits: Limits,
) -> None:
    """Run ``function(argument)`` in this process and send its result, or a Failure, through ``results``."""
    _isolate(output)
    try:
        _limit(limits)
        result = function(argument)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the row must say it
        result = failure(error)
    results.send(result)
    results.close()
    sys.stdout.flush()
    sys.stderr.flush()
    # Skip the interpreter's shutdown: unloading the runtimes takes longer than the fork did.
    os._exit(0)


def _isolate(output: Connection) -> None:
    """Cut the process off from the terminal and tie its life to the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    faulthandler.enable(file=2)
    if hasattr(os, "setsid"):
        with contextlib.suppress(OSError):
            os.setsid()
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """Wait, asleep, for the parent to end, however it ends; then kill this process and all that it started."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    multiprocessing.connection.wait([parent.sentinel])
    if hasattr(os, "killpg") and os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _limit(limits: Limits) -> None:
    if limits.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, limits.cores)
    if limits.memory_bytes is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (limits.memory_bytes, limits.memory_bytes))


#: Parts of the messages by which runtimes say that memory ran out; none has an exception type of its own on the CPU.
_OOM = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
    "failed to allocate memory",
)


#: Where torch's advice to its own developers begins, which it appends to every error of CUDA.
_ADVICE = re.compile(r"\n(?:Search for `cuda|CUDA kernel errors might be).*", re.DOTALL)


def failure(error: BaseException) -> Failure:
    """Return the row for an exception: its kind, one sentence, and the traceback."""
    detail = "".join(traceback.format_exception(error))[-4000:]
    text = " ".join(_ADVICE.sub("", str(error)).split()) or type(error).__name__
    if isinstance(error, MemoryError) or any(words in text.lower() for words in _OOM):
        return Failure(
            "oom",
            f"out of memory: {text[:300]}; try a smaller batch or resolution, or raise the limit",
            detail,
        )
    if isinstance(error, FallbackError):
        return Failure("fallback", text, detail)
    if isinstance(error, (BackendError, UserError)):
        return Failure("error", text, detail)
    return Failure("error", f"{type(error).__name__}: {text[:500]}", detail)
