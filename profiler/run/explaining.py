"""The passes that explain a latency: layers traced in processes of their own, and the peaks of the machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from profiler.errors import UserError
from profiler.machine import host
from profiler.machine.cache import cache_folder
from profiler.measure.layers import Layer, Traced, TraceTask, trace
from profiler.measure.peaks import Peaks, PeaksTask, best_of, measure_peaks, peaks_name, store_peaks, stored_peaks
from profiler.records.types import Case, Failure, now
from profiler.run.child import Limits
from profiler.run.lab import Lab
from profiler.run.preparing import ahead_s
from profiler.run.processes import Executor

#: Fresh processes that trace: where they differ, a share is not known better.
_TRACES = 3
#: In s, of traced forwards in each, as far as the latency tells.
_TRACE_S = 0.6
_LEAST_CALLS, _MOST_CALLS = 5, 300
_TRACE_TIMEOUT_S, _PEAKS_TIMEOUT_S = 300.0, 120.0


@dataclass(frozen=True, slots=True)
class Traces:
    """What fresh processes say of the layers of a case, and the peaks of where it ran.

    Attributes:
        processes: One for each process, never empty.
        peaks: None where they cannot be had.
        no_peaks: Why; empty where they can.
    """

    processes: Sequence[Traced]
    peaks: Peaks | None
    no_peaks: str = ""


def traces_of(case: Case, latency_ms: float, lab: Lab) -> Traces:
    """Trace a case that takes ``latency_ms``, and measure the peaks beside it.

    Raises:
        UserError: The backend does not tell its layers, or the model failed.
    """
    made = traced_by(case, latency_ms, lab.executor)
    peaks = peaks_of(case, lab)
    return Traces(made, None, peaks.reason) if isinstance(peaks, Failure) else Traces(made, peaks)


def traced_by(case: Case, latency_ms: float, executor: Executor, processes: int = _TRACES) -> list[Traced]:
    """Trace a case that takes ``latency_ms`` in so many fresh processes.

    Raises:
        UserError: The backend does not tell its layers, or the model failed.
    """
    calls = min(_MOST_CALLS, max(_LEAST_CALLS, round(_TRACE_S * 1e3 / latency_ms)))
    task, made = TraceTask(case, calls, cache_folder()), list[Traced]()
    for _ in range(processes):
        answer = executor.call(trace, task, _TRACE_TIMEOUT_S + ahead_s(case), Limits())
        if isinstance(answer, Failure):
            raise UserError(f"{case.label}: no times of layers: {answer.reason}")
        made.append(answer)
    return made


def peaks_of(case: Case, lab: Lab) -> Peaks | Failure:
    """Measure the peaks where a case runs; the best of now and of every earlier time is kept, and returned."""
    if case.backend.partition(":")[0] == "fake":
        return Failure("unsupported", "fake has no peaks")
    name, folder = peaks_name(host.key(), case.placement), cache_folder()
    task = PeaksTask(case.placement, now())
    answer = lab.executor.call(measure_peaks, task, _PEAKS_TIMEOUT_S, lab.limits(case.placement))
    if isinstance(answer, Failure):
        return answer
    earlier = stored_peaks(folder, name)
    best = best_of(earlier, answer) if earlier else answer
    try:
        store_peaks(folder, name, best)
    except OSError as error:
        print(f"the peaks could not be kept ({error}); they are measured again next time", file=sys.stderr)
    return best


def layers_of(case: Case, executor: Executor) -> tuple[Layer, ...]:
    """Run a case once and return its layers; their times mean nothing, so that one thread will do.

    Raises:
        UserError: The backend does not tell its layers, or the model failed.
    """
    task = TraceTask(replace(case, placement=replace(case.placement, threads=1)), 1, cache_folder())
    answer = executor.call(trace, task, _TRACE_TIMEOUT_S + ahead_s(case), Limits())
    if isinstance(answer, Failure):
        raise UserError(f"{case.label}: its layers are not known: {answer.reason}")
    return answer.layers
