"""What a gated test came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

#: Name of the user property by which the lines of the summary travel, also from the workers of pytest-xdist.
PROPERTY = "latency_gate"


Status = Literal["pass", "regression", "over budget", "inconclusive", "error", "not comparable", "not gated"]
#: What fails only where it is required to be known.
UNKNOWN = ("inconclusive", "not gated")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a gate has come to.

    Attributes:
        status: The answer.
        reason: One sentence.
        samples_ns: Times per forward of the candidate.
        facts: For pytest-benchmark's ``extra_info``.
        title: What was compared.
        rule: How it was decided, in one sentence.
        again: What to run next.
        detail: Traceback or output of what failed.
    """

    status: Status
    reason: str
    samples_ns: tuple[float, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    title: str = ""
    rule: str = ""
    again: str = ""
    detail: str = ""

    @property
    def line(self) -> str:
        """The verdict in one line."""
        return f"{self.status.upper()}: {self.reason}"

    @property
    def text(self) -> str:
        """The failure of a test."""
        parts = [("rule", self.rule), ("next", self.again)]
        lines = [self.line, self.title, *(f"{name}: {said}" for name, said in parts if said), self.detail]
        return "\n".join(line for line in lines if line)
