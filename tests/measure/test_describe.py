"""What is known of a model before it is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiler import models
from profiler.backends.base import Placement
from profiler.errors import UserError
from profiler.measure.describe import DescribeTask, Description, describe, of_zoo, unserved
from profiler.models.complexity import Complexity
from profiler.records.types import Case

SAMPLES = Path(__file__).parents[1] / "models" / "samples.py"

pytestmark = pytest.mark.usefixtures("one_thread")


def case(name: str, backend: str = "eager", **asked: object) -> Case:
    return Case(name, "", 1.0, backend, Placement(), **asked)


def described(name: str, *batches: int, **asked: object) -> Description:
    return describe(DescribeTask(case(f"{SAMPLES}:{name}", **asked), batches))


def test_a_model_is_described_once_for_all_its_batches() -> None:
    found = described("classifier", 1, 4, shape="size=6")
    assert found.inputs == {1: "input float32 1x3x6x6", 4: "input float32 4x3x6x6"}
    assert found.complexity == Complexity(4 * 27 * 16 + 4 * 16 + 4 * 5 + 5, 4 * 27 + 4 + 25, 4 * 16 + 5, layers=2)
    assert (found.resolution, found.refused, found.uncounted) == (6, {}, "")
    assert found.content == described("classifier", 2, shape="size=6").content


def test_a_batch_that_a_model_has_not_is_refused_alone() -> None:
    found = described("graph", 1, 2)
    assert found.inputs == {1: "input float32 5x4"}
    assert list(found.refused) == [2]
    assert "has no batch axis (input float32 5x4), so its batch cannot be 2" in found.refused[2]


def test_a_model_that_cannot_be_counted_is_described_all_the_same() -> None:
    found = described("uncountable", 1)
    assert found.inputs == {1: "x float32 1x4"}
    assert (found.complexity, found.uncounted) == (None, "could not be counted: TypeError: this model is watched")


def test_a_model_that_keeps_what_it_computed_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"keeps what it computed: a second forward of the same input does 3% of the work"
    ):
        described("keeping", 1)


def test_a_network_of_the_zoo_is_described_without_being_built() -> None:
    found = of_zoo(DescribeTask(case("regnety_200mf", shape="height=64,width=64"), (1, 2)))
    assert found.inputs == {1: "input float32 1x3x64x64", 2: "input float32 2x3x64x64"}
    assert found.complexity is not None
    assert found.complexity.params == models.complexity(models.get("regnety_200mf")).params
    with pytest.raises(UserError, match="takes the images that its resolution says"):
        of_zoo(DescribeTask(case("regnety_200mf", input_file="v.npz"), (1,)))


def test_what_no_backend_serves_is_told_once() -> None:
    half = Placement(precision="fp16", memory_format="channels_last")
    cases = [case("net.onnx"), case("net.onnx"), case("m:f"), Case("m:f", "", 1.0, "onnxruntime", half)]
    told = unserved(cases)
    assert len(told) == 2
    assert told[0].startswith("eager on cpu in fp32: eager cannot load net.onnx: it runs torch modules")
    assert told[1].startswith("onnxruntime on cpu in fp16: ")
