"""The largest batch that fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.backends.base import Placement
from profiler.errors import UserError
from profiler.plan.cases import expand
from profiler.plan.read import from_flags, loads, to_toml
from profiler.records.types import Case, Failure
from profiler.run import batch
from profiler.run.child import failure
from tests.run.test_out_of_memory import MAY_HAVE, NOT_MEMORY, RAN_OUT

CASE = Case("resnet50", "", 1.0, "fake:duration_ms=0.1", Placement())


@given(st.integers(0, 3000), st.integers(1, 2000))
def test_bisection_finds_the_largest_that_fits_with_few_tries(truth, most):
    tries: list[int] = []

    def fits(size: int) -> bool:
        tries.append(size)
        return size <= truth

    search = batch._Search(CASE, batch._largest(most))
    while not search.over:
        search.hear(None if fits(search.batch) else Failure("oom", ""))
    assert search.batch == min(truth, most)
    assert len(tries) == len(set(tries)) <= 2 * most.bit_length() + 1
    assert all(1 <= size <= most for size in tries)


ASKED = replace(CASE, batch_asked="max")


def resolved(
    probe: Callable[[Case], Failure | None], *, earlier: tuple[Case, ...] = (), limit: int | None = 1 << 30
) -> tuple[Case, list[str]]:
    said: list[str] = []
    (case,) = batch._resolve([ASKED], lambda tried: list(map(probe, tried)), earlier, said.append, limit)
    return case, said


def test_max_is_replaced_by_what_fits_and_the_case_says_both():
    case, said = resolved(lambda case: Failure("oom", "") if case.batch > 37 else None)
    assert (case.batch, case.batch_asked) == (37, "max")
    assert "37" in said[0]
    assert case.label.endswith("b37 (max)")


def test_running_out_of_time_is_said():
    case, said = resolved(lambda case: Failure("timeout", "") if case.batch > 5 else None)
    assert case.batch == 5
    assert "6 ran out of time" in said[0]


@pytest.mark.parametrize("words", [*RAN_OUT.values(), *MAY_HAVE.values(), *NOT_MEMORY.values()])
def test_what_fails_where_a_smaller_batch_worked_is_too_large_whatever_it_says(words: str) -> None:
    """Where a library found other words than torch's, the largest batch was 1."""
    failed = failure(RuntimeError(words))
    case, said = resolved(lambda case: failed if case.batch > 37 else None)
    assert case.batch == 37
    assert said[0].endswith(
        "the largest batch that fits is 37" if failed.status == "oom" else f" (38 fails: {failed.reason})"
    )


def test_the_smallest_batch_that_failed_tells_the_limit() -> None:
    """Beyond it a larger one may have failed for another cause."""
    case, said = resolved(
        lambda case: Failure("oom" if case.batch < 50 else "timeout", "") if case.batch > 37 else None
    )
    assert case.batch == 37
    assert said[0].endswith("is 37")


@pytest.mark.parametrize("status", ["unsupported", "error", "oom"])
def test_a_case_of_which_nothing_fits_keeps_one_image_so_that_its_visit_says_why(status):
    tries: list[int] = []

    def probe(case: Case) -> Failure:
        tries.append(case.batch)
        return Failure(status, "")

    assert resolved(probe) == (ASKED, [])
    assert tries == [1]


def test_a_resumed_run_keeps_the_batch_that_it_found():
    def never(_: Case) -> Failure:
        raise AssertionError

    earlier = (replace(CASE, batch=8), replace(ASKED, batch=23, content="of the model"))
    assert resolved(never, earlier=earlier)[0].batch == 23


def test_on_the_cpu_only_a_limit_makes_a_batch_too_large():
    with pytest.raises(UserError, match="--memory-limit 4GiB"):
        resolved(lambda _: None, limit=None)
    assert batch._resolve([CASE], lambda _: [], (), print, None) == (CASE,)


def test_max_goes_through_a_plan_and_leaves_the_keys_of_other_cases_alone():
    made = from_flags(models="resnet50", batches="max,4", backends="fake")
    assert [(c.batch, c.batch_asked) for c in expand(made, 1)] == [(1, "max"), (4, None)]
    assert loads(to_toml(made)) == made
    assert Case("resnet50", "", 1.0, "eager", Placement()).key == "05435cada46b"
    assert ASKED.key != CASE.key
