"""A backend whose every duration and fault is known beforehand; it ships, and the tests are built on it.

It needs neither torch nor a model. The time of its runs is spent on a clock of ``profiler.backends.fake_clock``: under
a ``FakeClock`` no real time passes, and statistics can be asserted to the nanosecond.
"""

from __future__ import annotations

import itertools
import mmap
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from profiler.backends import devices
from profiler.backends.base import BackendError, Bounds, Fact, LayerTime, LayerTrace, Model, Placement
from profiler.backends.fake_clock import RestingClock, SpendableClock, WallClock
from profiler.backends.fake_faults import FAULTS, Fault, touch
from profiler.backends.inputs import Inputs

if TYPE_CHECKING:
    from profiler.backends.inputs import Array

_CLASSES = 10
_DAY_MS = 86_400_000

_When = Literal["load", "run"]


class FakeSession:
    """A device that takes scripted time for each run.

    Args:
        durations_ns: Time of each run in turn; the last one repeats for ever.
        clock: What the time is spent on.
        result: What ``output`` returns; shape (1, 10) of zeros when left out.
        asynchronous: Whether ``run`` returns at once and the time passes in ``sync``, as on a GPU.
        before: Called before each run with its number, from 1.
    """

    def __init__(
        self,
        durations_ns: Iterable[int],
        clock: SpendableClock,
        *,
        result: Array | None = None,
        asynchronous: bool = False,
        before: Callable[[int], None] | None = None,
        facts: Mapping[str, Fact] | None = None,
    ) -> None:
        self._durations = iter(durations_ns)
        self._last = 0
        self._clock = clock
        self._result = result
        self._asynchronous = asynchronous
        self._before = before
        self._facts = dict(facts or {})
        self._free_at = clock()
        self._open = True
        self.runs = 0

    def run(self) -> None:
        """Submit one run; on a synchronous device, wait for it."""
        # Read first, so that what follows is part of the run and not added to it.
        begin = self._clock()
        if not self._open:
            raise BackendError("the session is closed: load the model again")
        self.runs += 1
        if self._before is not None:
            self._before(self.runs)
        self._last = next(self._durations, self._last)
        self._free_at = max(self._free_at, begin) + self._last
        if not self._asynchronous:
            self._clock.wait_until(self._free_at)

    def sync(self) -> None:
        """Let the time pass that the device still needs; a synchronous device has waited in ``run``."""
        if self._asynchronous:
            self._clock.wait_until(self._free_at)

    def outputs(self) -> tuple[Array, ...]:
        """Return the result, the same after every run."""
        import numpy as np

        if not self.runs:
            raise BackendError("there is no output yet: call run() first")
        return (np.zeros((1, _CLASSES), np.float32) if self._result is None else self._result.copy(),)

    def facts(self) -> Mapping[str, Fact]:
        """Return the script."""
        return self._facts

    def close(self) -> None:
        """Refuse further runs."""
        self._open = False


@dataclass(frozen=True, slots=True)
class Fake:
    """The fake's script; the fields are options, as in ``fake:duration_ms=2,fault=hang,after=3``.

    Attributes:
        duration_ms: Median time of one run, in milliseconds.
        load_ms: Time of loading, in milliseconds.
        jitter: Standard deviation of the logarithm of the times.
        drift: Relative change of the duration over ``drift_runs`` runs, linear, constant from then on.
        drift_runs: Runs until the drift ends.
        slow_runs: First runs that take longer, as those of a compiler do.
        slow_factor: How many times longer they take.
        stall_ms: How much longer some runs take, in milliseconds.
        stall_every: Which: each run whose number, from 1, is a multiple.
        asynchronous: Return from a run at once and let the time pass in sync, as a GPU does.
        resting: Spend most of the time asleep, not spinning: a busy machine disturbs it less.
        bytes: Memory to touch, page by page: at load it stays until the session closes, at run it is freed
            after each run.
        leak: Memory to touch in each run and never free, in bytes.
        fault: What goes wrong. ``unavailable`` refuses every placement, ``flood`` prints 4 MiB and goes on,
            ``exit`` ends the process with status 7, ``parity`` and ``nan`` change the output.
        at: _When fault and bytes happen.
        after: Number of the run, from 1, in which the fault happens.
        seed: Of the jitter.
        layers: Layers that it tells the times of: the first takes one part of a forward, the second two, and so on.
        traced: How many times as long a forward takes while its layers are timed.
    """

    duration_ms: Annotated[float, Bounds(0, _DAY_MS)] = 1.0
    load_ms: Annotated[float, Bounds(0, _DAY_MS)] = 0.0
    jitter: Annotated[float, Bounds(0, 10)] = 0.0
    drift: Annotated[float, Bounds(-1, 1e6)] = 0.0
    drift_runs: Annotated[int, Bounds(1)] = 100
    slow_runs: Annotated[int, Bounds(0)] = 0
    slow_factor: Annotated[float, Bounds(0, 1e6)] = 3.0
    stall_ms: Annotated[float, Bounds(0, _DAY_MS)] = 0.0
    stall_every: Annotated[int, Bounds(1)] = 20
    asynchronous: bool = False
    resting: bool = False
    bytes: Annotated[int, Bounds(0, 1 << 50)] = 0
    leak: Annotated[int, Bounds(0, 1 << 50)] = 0
    fault: Fault = "none"
    at: _When = "run"
    after: Annotated[int, Bounds(1)] = 1
    seed: int = 0
    layers: Annotated[int, Bounds(0, 1000)] = 4
    traced: Annotated[float, Bounds(0, 1e6)] = 1.5

    name: ClassVar[str] = "fake"

    def unavailable(self, placement: Placement) -> str | None:
        """Return why ``placement`` cannot be served, with the remedy, or None when it can."""
        if self.fault == "unavailable":
            return "fake was told to be unavailable: drop the option fault=unavailable"
        if reason := devices.malformed(placement):
            return reason
        if placement.device_type != "cpu":
            return f"fake has no device {placement.device!r}: use --device cpu"
        return None

    @contextmanager
    def load(
        self, model: Model, inputs: Inputs, placement: Placement, *, clock: SpendableClock | None = None
    ) -> Iterator[FakeSession]:
        """Pretend to load; ``model`` is not looked at.

        Args:
            model: Ignored.
            inputs: The output depends on the first array alone, shape (batch, ...).
            placement: Ends up in the facts.
            clock: What time is spent on; real time when left out.
        """
        del model
        clock = clock or (RestingClock() if self.resting else WallClock())
        clock.advance(round(self.load_ms * 1e6))
        kept = [touch(self.bytes)] if self.at == "load" else []
        if self.at == "load":
            FAULTS[self.fault]()
        session = FakeSession(
            self.durations_ns(),
            clock,
            result=self._result(inputs),
            asynchronous=self.asynchronous,
            before=self._before(kept),
            facts=self._facts(placement),
        )
        try:
            yield session
        finally:
            session.close()
            kept.clear()

    def layer_times(self, model: Model, inputs: Inputs, placement: Placement, calls: int) -> LayerTrace:
        """Return the script's times; no time passes. BackendError where there are no layers."""
        del model, inputs, placement
        if not self.layers:
            raise BackendError("fake was told to have no layers: drop the option layers=0")
        forwards = [self.traced * ns for ns in itertools.islice(self.durations_ns(), calls)]
        parts = self.layers * (self.layers + 1) / 2
        layers = (
            LayerTime(
                f"layer{i}", "Fake", tuple(ns * i / parts for ns in forwards), moved_bytes=1000 * i, weights=10 * i
            )
            for i in range(1, self.layers + 1)
        )
        return LayerTrace(tuple(layers), tuple(forwards))

    def expected(self, inputs: Inputs) -> tuple[Array, ...]:
        """Return the right outputs for ``inputs``: the fake runs no model that eager could run too."""
        return (_expected_output(inputs),)

    def durations_ns(self) -> Iterator[int]:
        """Yield the time of each run, in nanoseconds, without end; equal options yield equal times."""
        draw = random.Random(self.seed)  # noqa: S311 - times, not secrets
        for run in itertools.count():
            ms = self.duration_ms * (1 + self.drift * min(1.0, run / max(1, self.drift_runs)))
            ms *= self.slow_factor if run < self.slow_runs else 1.0
            ms *= draw.lognormvariate(0.0, self.jitter)
            ms += 0.0 if (run + 1) % self.stall_every else self.stall_ms
            yield round(ms * 1e6)

    def _before(self, kept: list[mmap.mmap]) -> Callable[[int], None]:
        def before(run: int) -> None:
            if self.at == "run":
                touch(self.bytes)
                if run == self.after:
                    FAULTS[self.fault]()
            if self.leak:
                kept.append(touch(self.leak))

        return before

    def _result(self, inputs: Inputs) -> Array:
        import numpy as np

        result = _expected_output(inputs)
        if self.fault == "parity":
            result[:, 0] += 0.5 * np.abs(result).max()
        if self.fault == "nan":
            result[:, 0] = np.nan
        return result

    def _facts(self, placement: Placement) -> dict[str, Fact]:
        asked = {f"asked_{name}": value for name, value in asdict(placement).items() if name != "threads"}
        facts: dict[str, Fact] = {"cached": False, "threads": placement.threads, "device": "cpu"}
        return facts | asked | asdict(self)


def _expected_output(inputs: Inputs) -> Array:
    """Return the fake's output for ``inputs``: (batch, 10), the mean of each row of the first array times weights."""
    import numpy as np

    rows = np.atleast_1d(next(iter(inputs.arrays.values()), np.zeros(1)))
    means = rows.reshape(len(rows), -1).mean(axis=1, dtype=np.float64)
    weights = np.sin(np.arange(1, _CLASSES + 1))
    return np.outer(means + 1.0, weights).astype(np.float32)
