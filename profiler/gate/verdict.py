"""What a comparison came to, and the exit code that follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from profiler.gate.blocks import Trial
from profiler.gate.decision import Change
from profiler.gate.side import SIDES

Status = Literal[
    "pass", "regression", "different output", "over budget", "inconclusive", "error", "not comparable", "not gated"
]
#: Exit codes, the one that wins when verdicts differ first: what fails a build before what says least.
_EXIT: dict[Status, int] = {
    "regression": 1,
    "different output": 1,
    "error": 2,
    "not comparable": 4,
    "inconclusive": 3,
    "pass": 0,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of one pair, of one case beside a stored run, or of one model and its budget.

    Attributes:
        label: What was compared, in one line.
        status: The answer, for output, latency and memory together.
        reason: One sentence.
        detail: Traceback or output of what failed.
        max_slowdown: The slow-down that must be caught, as a share; None where none was asked for.
        change: Candidate over baseline minus one over all that was measured, with its 95% interval; None where too
            little was.
        latency_ns: Time of a forward by side, ``baseline`` and ``candidate``, in ns.
        seconds: Wall time of the blocks; None where there are none.
        samples_ns: Times of a forward of the candidate, in ns; with ``trials`` those are in their blocks.
        trials: The first, and the one that confirmed or contradicted a regression; None without interleaved blocks.
        facts: What else is known, for JSON.
    """

    label: str
    status: Status
    reason: str
    detail: str = ""
    max_slowdown: float | None = None
    change: Change | None = None
    latency_ns: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    samples_ns: tuple[float, ...] = ()
    trials: tuple[Trial, ...] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return everything that is known, the raw blocks too, as plain types; times in ms."""
        whole = asdict(self)
        trials, facts = whole.pop("trials"), whole.pop("facts")
        latency_ns = whole.pop("latency_ns")
        del whole["label"], whole["seconds"], whole["samples_ns"]
        if self.change is not None:
            estimate, (low, high) = self.change
            whole["change"] = {"estimate": estimate, "low": low, "high": high}
        times = {f"{side}_ms": latency_ns[side] / 1e6 if side in latency_ns else None for side in SIDES}
        blocks = {} if trials is None else {"trials": list(trials)}
        return {"name": self.label, **whole, **times, **facts, **blocks}


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """Return the exit code of several: that of the gravest."""
    found = {verdict.status for verdict in verdicts}
    return next((code for status, code in _EXIT.items() if status in found), _EXIT["error"])
