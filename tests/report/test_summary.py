"""What is said at the end of a run."""

from __future__ import annotations

import pytest

from profiler.backends.base import Placement
from profiler.records.types import Case, Conditions, Measurement, Record, Warmup
from profiler.report.summary import _recalibrate


def visit(slowness: float, threads: int = 1) -> Record:
    """A visit whose reference took ``slowness`` times its nominal time."""
    case = Case("resnet50", "", 1.0, "eager", Placement(threads=threads))
    reference = ((round(1e6 * slowness),),) * 2
    made = Measurement(((5_000_000,),), 1, reference, 1e6, Warmup((), steady=True), 0.0, Conditions(), {})
    return Record(case, None, 224, "h1", 0, "2026-01-01T00:00:00+00:00", 1.0, made)


@pytest.mark.parametrize(
    ("slowness", "said"),
    [
        (
            0.8,
            "0.80 times its nominal time at its best: it was calibrated on a slower machine, and latency_ms is longer",
        ),
        (1.2, "1.20 times its nominal time at its best: it was calibrated on a faster machine, as which"),
    ],
)
def test_a_calibration_of_another_state_of_the_machine_is_said_with_its_remedy(slowness: float, said: str) -> None:
    (sentence,) = _recalibrate([visit(slowness, 2), visit(slowness * 1.3, 2), visit(1.0)])
    assert sentence.startswith("cpu · fp32 · 2 threads: the reference takes")
    assert said in sentence
    assert "profiler calibrate" in sentence


@pytest.mark.parametrize("slowness", [0.95, 1.05, 2.0])
def test_nothing_is_said_of_what_is_usual_or_in_every_row(slowness: float) -> None:
    assert not list(_recalibrate([visit(slowness)]))
