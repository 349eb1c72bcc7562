"""A whole visit: the model under its options, parity's eager under torch's own, the process as it was."""

from __future__ import annotations

from itertools import groupby

import pytest

from profiler.backends.base import Placement
from profiler.measure import visit
from profiler.records.types import Budget, Case, Measurement
from tests.backends.states import FP32, only, seen, untouched
from tests.measure.asking import NOTES

BUDGET = Budget(visit_s=0.01, min_samples=1, warmup_s=0.01)


@pytest.mark.parametrize("options", ["tf32=1", "tf32=1,cudnn_benchmark=1"])
def test_parity_compares_with_eager_in_fp32_while_the_session_has_options_of_its_own(options: str) -> None:
    NOTES.clear()
    case = Case("tests.measure.asking:model", "", 1.0, f"eager:{options}", Placement(threads=1))
    with untouched():
        outcome = visit.visit(visit.Task(case, BUDGET, None, None, energy=False))
        assert seen()["matmul precision"] == "medium"  # what its author set
    assert isinstance(outcome, Measurement), outcome
    own = (True, "tf32", (True, "cudnn_benchmark" in options, False))
    states = [(note["allow_tf32 of cuBLAS"], note["convolutions"], note["cuDNN"]) for note in NOTES]
    loaded = NOTES[states.index(own) :]
    parity = [only(note, FP32) for note in loaded if not note["allow_tf32 of cuBLAS"]]
    assert parity == [FP32] * len(parity) != []
    assert [tf32 for tf32, _ in groupby(note["allow_tf32 of cuBLAS"] for note in loaded)] == [True, False]
    assert set(states[states.index(own) :]) == {own, (False, "ieee", (True, False, False))}
