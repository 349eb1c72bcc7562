"""Two sides made ready to be timed against each other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from profiler.gate import blocks, checkout
from profiler.gate import side as remote
from profiler.gate.blocks import Trial
from profiler.gate.decision import Rule
from profiler.gate.subject import Pair, Subject
from profiler.machine.cache import cache_folder
from profiler.measure.visit import Task, visit
from profiler.records.types import Budget, Failure, Memory
from profiler.run.child import Limits

if TYPE_CHECKING:
    from profiler.run.processes import Executor


#: A trial begins no further look that would end after this, in seconds.
SECONDS = 300.0


class Contest(Protocol):
    """Makes trials of one pair, each in fresh processes."""

    def trial(self, rule: Rule, seed: int, *, itself: bool = False) -> Trial | Failure:
        """Return the blocks of one trial; with ``itself`` the baseline stands on both sides."""

    def peak_bytes(self, side: str) -> dict[str, int] | Failure:
        """Return the peaks of memory of ``baseline`` or ``candidate`` by source, above the level before loading."""


@dataclass(frozen=True, slots=True)
class Together:
    """Both sides in one fresh process."""

    pair: Pair
    executor: Executor
    seconds: float = SECONDS
    cache: Path | None = field(default_factory=cache_folder)

    def trial(self, rule: Rule, seed: int, *, itself: bool = False) -> Trial | Failure:
        """See ``Contest``."""
        old, new = self.pair.baseline.case, self.pair.candidate.case
        job = blocks.Job(old, old if itself else new, rule, seed, self.seconds, self.cache)
        return self.executor.call(blocks.duel, job, self.seconds + remote.LOAD_S, Limits())

    def peak_bytes(self, side: str) -> dict[str, int] | Failure:
        """See ``Contest``."""
        subject: Subject = getattr(self.pair, side)
        task = Task(subject.case, Budget(), None, self.cache, "memory")
        reply = self.executor.call(visit, task, remote.LOAD_S, Limits())
        outcome = reply if isinstance(reply, Failure) else reply.outcome
        return outcome.run_bytes if isinstance(outcome, Memory) else _must_fail(outcome)


@dataclass(frozen=True, slots=True)
class Apart:
    """Each side in a process of its own, under its own version of the code."""

    pair: Pair
    baseline: remote.Code
    candidate: remote.Code
    seconds: float = SECONDS
    cache: Path = field(default_factory=cache_folder)

    def trial(self, rule: Rule, seed: int, *, itself: bool = False) -> Trial | Failure:
        """See ``Contest``."""
        old = (self.baseline, self.pair.baseline.case)
        new = (self.candidate, self.pair.candidate.case)
        return remote.duel({"baseline": old, "candidate": old if itself else new}, rule, seed, self.seconds, self.cache)

    def peak_bytes(self, side: str) -> dict[str, int] | Failure:
        """See ``Contest``."""
        subject: Subject = getattr(self.pair, side)
        return remote.peak_bytes(getattr(self, side), subject.case, self.cache)


def _must_fail(outcome: object) -> Failure:
    return outcome if isinstance(outcome, Failure) else Failure("error", f"no memory was measured: {outcome!r:.100}")


@dataclass(frozen=True, slots=True)
class Options:
    """How a suite is run.

    Attributes:
        seconds: A trial begins no look that would end after this.
        self_test: Whether the bias of the machine is looked at.
        seed: Of the order within blocks; None draws one.
        baseline_python: Interpreter of a ``git:`` baseline; None for this one.
    """

    seconds: float = SECONDS
    self_test: bool = True
    seed: int | None = None
    baseline_python: str | None = None


@contextlib.contextmanager
def open_contest(pair: Pair, executor: Executor, options: Options) -> Iterator[Contest]:
    if pair.baseline.revision is None and pair.candidate.revision is None:
        yield Together(pair, executor, options.seconds)
        return
    with ExitStack() as stack:
        codes = {}
        for side, python in (("baseline", options.baseline_python), ("candidate", None)):
            revision = getattr(pair, side).revision
            codes[side] = (
                stack.enter_context(checkout.checked_out(revision, Path.cwd(), python))
                if revision is not None
                else remote.Code(Path.cwd())
            )
        yield Apart(pair, codes["baseline"], codes["candidate"], options.seconds)
