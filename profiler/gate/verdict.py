"""What the gate says of a pair, and the exit code that follows."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from profiler.gate import decision
from profiler.gate.blocks import Trial
from profiler.gate.decision import Interval, Rule
from profiler.gate.subject import Pair

Status = Literal["pass", "regression", "inconclusive", "error", "not comparable"]
EXIT = {"pass": 0, "regression": 1, "error": 2, "inconclusive": 3, "not comparable": 4}
#: Which exit code wins when pairs differ: what fails a build first, what says least last.
_ORDER = ("regression", "error", "not comparable", "inconclusive", "pass")


class Judged(Protocol):
    """A verdict, of a pair or of a case beside a stored run, as far as outputs need to know."""

    @property
    def status(self) -> Status:
        """The answer."""

    @property
    def reason(self) -> str:
        """One sentence."""

    @property
    def label(self) -> str:
        """What was compared, in one line."""

    @property
    def max_slowdown(self) -> float | None:
        """The slow-down that must be caught, as a share."""

    @property
    def seconds(self) -> float | None:
        """Wall time of measuring."""

    @property
    def change(self) -> Interval | None:
        """Candidate over baseline minus one, with its 95% interval."""

    def latency_ns(self, side: str) -> float | None:
        """Return the time of a forward of ``baseline`` or ``candidate``, in ns."""

    def as_dict(self) -> dict[str, Any]:
        """Return everything that is known as plain types."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of one pair.

    Attributes:
        pair: What was compared.
        status: The answer, for latency and memory together.
        reason: One sentence.
        rule: What was asked of the latency; None where it was not gated.
        trials: The first, and the one that confirmed or contradicted a regression.
        bias: Of the machine, where it was measured.
        peaks: Peak memory in bytes by side, where it was compared.
        detail: Traceback or output of what failed.
    """

    pair: Pair
    status: Status
    reason: str
    rule: Rule | None = None
    trials: tuple[Trial, ...] = ()
    bias: float | None = None
    peaks: dict[str, int] = field(default_factory=dict)
    detail: str = ""

    @property
    def label(self) -> str:
        """The pair in one line."""
        return self.pair.label

    @property
    def max_slowdown(self) -> float | None:
        """The slow-down that must be caught, as a share; None where latency was not gated."""
        return self.pair.max_slowdown

    @property
    def seconds(self) -> float | None:
        """Wall time of the blocks; None where there are none."""
        return sum(trial.seconds for trial in self.trials) or None

    @property
    def change(self) -> Interval | None:
        """Candidate over baseline minus one over all trials, with its 95% interval."""
        ratios = [ratio for trial in self.trials for ratio in trial.ratios]
        return decision.change(ratios) if ratios else None

    def latency_ns(self, side: str) -> float | None:
        """Return the median time of a forward of one side, as measured, in ns."""
        return statistics.median(trial.latency_ns(side) for trial in self.trials) if self.trials else None

    def as_dict(self) -> dict[str, Any]:
        """Return everything that is known, the raw blocks too, as plain types."""
        sides = {side: self.latency_ns(side) for side in ("baseline", "candidate")}
        return {
            "name": self.label,
            "status": self.status,
            "reason": self.reason,
            "detail": self.detail,
            "max_slowdown": self.max_slowdown,
            "max_memory_growth": self.pair.max_memory_growth,
            "change": asdict(self.change) if self.change else None,
            **{f"{side}_ms": None if ns is None else ns / 1e6 for side, ns in sides.items()},
            "peak_memory_bytes": self.peaks or None,
            "process_bias": self.bias,
            "rule": asdict(self.rule) if self.rule else None,
            "pair": asdict(self.pair),
            "trials": [asdict(trial) for trial in self.trials],
        }


def exit_code(verdicts: Iterable[Judged]) -> int:
    """Return the exit code of a suite: its gravest verdict's."""
    found = {verdict.status for verdict in verdicts}
    return next((EXIT[status] for status in _ORDER if status in found), EXIT["error"])
