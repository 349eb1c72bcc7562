"""The calibrations of a run: kept ones, or measured when first needed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from profiler.backends.base import Placement
from profiler.machine import cache, host
from profiler.measure.calibration import identity, store, stored
from profiler.measure.visit import CalibrationTask, calibrate
from profiler.records.nominal import Calibration, Calls, nominal
from profiler.records.outside import checked
from profiler.records.types import Failure, now
from profiler.run.child import Limits, LimitsFor
from profiler.run.processes import Executor

#: Fresh processes that measure the nominal time of a reference, and seconds each: most may be disturbed, but not
#: all. study_truth tells.
_CALIBRATION_VISITS = 5
_CALIBRATION_S = 0.5
_CALIBRATION_TIMEOUT_S = 120.0

#: A share. Nothing that disturbs a machine makes the reference this much faster than its nominal time: the calibration
#: is of a slower state of the machine, as before its host's other guests left, and would lengthen every latency.
_FASTER = 0.95
#: Kept calibrations that this process has looked at.
_LOOKED_AT: set[tuple[Path, str]] = set()

#: Said of an accelerator: at one clock the reference varies by process, and dividing by it adds that to a time.
_NOT_DIVIDED = "times on {} are not divided by a reference, so that there is nothing to calibrate: leave it out"


def reference_visits(
    placement: Placement, executor: Executor, count: int, seconds: float, limits: Limits | None = None
) -> tuple[int, list[Calls]] | Failure:
    """Return (units per call, calls of the reference in each of ``count`` fresh processes), or the first failure."""
    repeats: int | None = None
    visits: list[Calls] = []
    for _ in range(count):
        task = CalibrationTask(placement, repeats, seconds)
        answer = executor.call(calibrate, task, _CALIBRATION_TIMEOUT_S, limits or Limits())
        if isinstance(answer, Failure):
            return answer
        repeats, calls = answer
        visits.append(calls)
    return repeats or 1, visits


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait while another process measures what it keeps in ``folder``, where its file system has locks."""
    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(cache.alone(folder / "locks" / "calibration", _CALIBRATION_TIMEOUT_S))
        yield


class Calibrations:
    """Nominal times of the reference, measured when first needed and kept in the user's cache.

    One that the machine now beats is measured anew. Whoever measures on a host, a run there or a worker of a fleet,
    keeps them in one place and makes them one at a time: latencies differ by what was measured, not by who asked.

    On two threads beside a process that keeps a core busy the reference once took 23 to 100 times its time. Where its
    threads waited for a core in every block of every process there is no calibration, but a failure that says so.

    Args:
        executor: Where calibrations are measured.
        folder: Where they are kept.
        limits: Of the processes that measure them.
        known: Of an earlier run, by name; they go first, so that both runs share the reference and its nominal time.
        redo: Measure them even where they are kept.
        measure: Measure what is not kept; otherwise there is a failure, and visits go without the reference.
    """

    def __init__(
        self,
        executor: Executor,
        folder: Path,
        limits: LimitsFor,
        *,
        known: Mapping[str, Calibration] | None = None,
        redo: bool = False,
        measure: bool = True,
    ) -> None:
        self._executor, self._folder, self._limits, self._redo = executor, folder, limits, redo
        self._may_measure = measure
        self._given = known or {}
        self._known: dict[str, Calibration | Failure] = {}

    def get(self, placement: Placement) -> Calibration | Failure:
        """Return the calibration for the device, precision and threads of ``placement``."""
        name = identity(host.key(), placement)
        if name in self._given:
            return self._given[name]
        if placement.device_type != "cpu":
            return Failure("unsupported", _NOT_DIVIDED.format(placement.device))
        if name not in self._known:
            self._known[name] = self._kept_or_made(placement, name)
        return self._known[name]

    def _kept_or_made(self, placement: Placement, name: str) -> Calibration | Failure:
        kept = None if self._redo else stored(self._folder, name)
        if not self._may_measure:
            return kept or Failure("error", "the reference was never calibrated here: profiler calibrate")
        if kept is not None and not self._outdated(kept, placement, name):
            return kept
        with _one_at_a_time(self._folder):
            meanwhile = None if self._redo else stored(self._folder, name)
            return meanwhile if meanwhile and meanwhile != kept else self._measure(placement, name)

    def _outdated(self, kept: Calibration, placement: Placement, name: str) -> bool:
        """Whether the reference is faster now than a kept calibration says; asked once in a process."""
        if (self._folder, name) in _LOOKED_AT:
            return False
        _LOOKED_AT.add((self._folder, name))
        task = CalibrationTask(placement, kept.repeats, _CALIBRATION_S)
        answer = self._executor.call(calibrate, task, _CALIBRATION_TIMEOUT_S, self._limits(placement))
        return not isinstance(answer, Failure) and nominal([answer[1]])[0] < _FASTER * kept.nominal_ns

    def _measure(self, placement: Placement, name: str) -> Calibration | Failure:
        limits = self._limits(placement)
        answer = reference_visits(placement, self._executor, _CALIBRATION_VISITS, _CALIBRATION_S, limits)
        if isinstance(answer, Failure):
            return answer
        repeats, visits = answer
        if not all(calls.crowded for calls in visits):
            return self._checked(name, Calibration(repeats, *nominal(visits), len(visits), now()))
        busy = (
            f"with threads={placement.threads} on {placement.device} the reference always waited for a core while it "
            "was calibrated: something else keeps cores busy; stop it, or use fewer threads"
        )
        if not self._redo:
            print(f"{busy}; measuring without the reference", file=sys.stderr)
        return Failure("error", busy)

    def _checked(self, name: str, made: Calibration) -> Calibration | Failure:
        """Keep what can be a calibration; what cannot would make every latency wrong."""
        try:
            checked(Calibration, asdict(made))
        except ValueError:
            took = f"{made.nominal_ns / 1e6:.3g} ms"
            odd = f"a call of the reference took {took} while it was calibrated, which no machine takes"
            print(f"{odd}; measuring without the reference", file=sys.stderr)
            return Failure("error", odd)
        self._keep(name, made)
        return made

    def _keep(self, name: str, made: Calibration) -> None:
        try:
            store(self._folder, name, made)
        except OSError as error:
            print(
                f"the calibration could not be kept ({error}); it is measured again next time",
                file=sys.stderr,
            )
