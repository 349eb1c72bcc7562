"""Every model of a run is looked at once, in a process of its own, before the first visit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profiler.backends.base import Placement
from profiler.measure.describe import DescribeTask, Description
from profiler.records.types import Case, Failure
from profiler.run.describing import described
from profiler.run.processes import LocalExecutor

SAMPLES = Path(__file__).parents[1] / "models" / "samples.py"


class Scripted:
    """An executor that answers by the model, and keeps what it was asked."""

    def __init__(self, answers: dict[str, Description | Failure]) -> None:
        self._answers = answers
        self.asked: list[DescribeTask] = []

    def call(self, function: Callable[..., Any], argument: DescribeTask, *_: object) -> Description | Failure:
        self.asked.append(argument)
        return self._answers[argument.case.model]


def case(model: str, **asked: object) -> Case:
    return Case(model, "", 1.0, **{"backend": "eager", "placement": Placement(), **asked})


def test_each_model_is_asked_once_with_all_its_batches() -> None:
    cases = [case("a:f", batch=batch, backend=backend) for batch in (1, 2) for backend in ("eager", "torchscript")] + [
        case("a:f", shape="x=1x3"),
        case("a:f", input_file="v.npz"),
        case("b:f"),
    ]
    executor = Scripted({"a:f": Description("one"), "b:f": Description("two")})
    known = described(cases, executor)
    asked = [(task.case.model, task.case.shape, task.case.input_file, task.batches) for task in executor.asked]
    assert asked == [
        ("a:f", "", "", (1, 2)), ("a:f", "x=1x3", "", (1,)), ("a:f", "", "v.npz", (1,)), ("b:f", "", "", (1,)),
    ]  # fmt: skip
    assert [one.content for one in known.cases] == ["one"] * 6 + ["two"]
    assert [replace(one, content="") for one in known.cases] == cases
    assert set(known.found) == {one.key for one in known.cases}
    assert known.failed == {}


def test_a_model_or_a_batch_that_cannot_be_had_fails_alone() -> None:
    answers = {"a:f": Failure("crashed", "it burnt"), "b:f": Description("two", refused={2: "no batch axis"})}
    cases = [case("a:f"), case("b:f"), case("b:f", batch=2)]
    known = described(cases, Scripted(answers))
    assert [one.content for one in known.cases] == ["", "two", ""]
    reasons = [known.failed[one.key].reason if one.key in known.failed else "" for one in known.cases]
    assert reasons == ["it burnt", "", "no batch axis"]


def test_a_model_that_ends_its_process_is_a_row_and_not_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    executor = LocalExecutor()
    try:
        names = ("fatal", "classifier")
        known = described([case(f"{SAMPLES}:{name}") for name in names] + [case("regnety_200mf")], executor)
    finally:
        executor.close()
    [failure] = known.failed.values()
    assert failure.status == "crashed"
    assert "\n" not in failure.reason
    assert [bool(one.content) for one in known.cases] == [False, True, True]
    assert "Traceback" not in capfd.readouterr().err
