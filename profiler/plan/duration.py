"""How long a plan takes, estimated before anything is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from profiler.models.complexity import Complexity
from profiler.records.types import Budget, Case

# Multiply-adds per second that fp32 inference of these networks reaches, in GF/s; on CPUs for each thread.
# Rough figures for today's machines, good to a factor of three: enough to tell minutes from hours before the
# first round.
_RATE = {"cpu": 20.0, "cuda": 2000.0, "xpu": 500.0, "mps": 300.0}
# Process, building, loading, parity check, in seconds; exporting, tracing and optimising, once for each case.
_OVERHEAD_S = 0.3
_PREPARE_S = 1.0
_TRAIN_COST = 3.0
# An own model that cannot be counted is taken for a ResNet-50.
_UNCOUNTED_FLOPS = 4.1e9


def estimate_seconds(cases: Iterable[Case], counted: Mapping[str, Complexity | None], budget: Budget) -> float:
    """A first guess at how long a plan takes, made before anything was measured.

    Each case gets a second to be exported, and ``(min_rounds + rounds) / 2`` visits of ``max(visit_s, min_samples · t)
    + 3 · t + 0.3 s``, where t is flops over an assumed speed of the device. The visits that are needed depend on the
    noise of the machine, and the speed on the network and backend: only the time of a finished round is a measurement.

    Args:
        cases: From ``expand``.
        counted: From ``complexities``.
        budget: Of the plan.

    Returns:
        Seconds.
    """
    return _seconds(cases, counted, budget, (budget.min_rounds + budget.rounds) / 2)


def round_seconds(cases: Iterable[Case], counted: Mapping[str, Complexity | None], budget: Budget) -> float:
    """A first guess at how long it takes to visit each case once, in seconds; as ``estimate_seconds`` otherwise."""
    return _seconds(cases, counted, budget, 1)


def _seconds(cases: Iterable[Case], counted: Mapping[str, Complexity | None], budget: Budget, visits: float) -> float:
    return sum(
        _PREPARE_S + visits * min(_visit_s(case, counted.get(case.key), budget), budget.timeout_s) for case in cases
    )


def _visit_s(case: Case, counted: Complexity | None, budget: Budget) -> float:
    flops = (counted.flops if counted else _UNCOUNTED_FLOPS) * case.batch
    kind = case.placement.device_type
    rate = _RATE[kind] * 1e9 * (case.placement.threads if kind == "cpu" else 1)
    forward = flops / rate * (_TRAIN_COST if case.mode == "train" else 1)
    # The timed part is reference and model by turns; warm-up and parity need a few forwards at least.
    timed = max(budget.visit_s, budget.min_samples * forward)
    return timed + 3 * forward + _OVERHEAD_S
