"""Whether a backend computes what eager computes: every output, each by the kind of its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper

from profiler import backends
from profiler.backends.base import Placement
from profiler.measure import parity
from profiler.models.loaded import Asked, Loaded
from profiler.models.source import load_model
from profiler.records.types import Case

SAMPLES = Path(__file__).parents[1] / "models" / "samples.py"
FLOATS = arrays.arrays(np.float32, (4,), elements=st.floats(-100, 100, width=32))

pytestmark = pytest.mark.usefixtures("one_thread")


@given(FLOATS, FLOATS)
def test_a_gap_is_of_the_largest_output_whichever_comes_last(one: np.ndarray, other: np.ndarray) -> None:
    assert parity.gap([one, other], [one, other]) == 0
    both = parity.gap([one, other], [one, one])
    assert both == parity.gap([other], [one]) == parity.gap([other, one], [one, one])


@pytest.mark.parametrize(
    ("found", "expected", "gap"),
    [
        (np.array([1.0, 2.001]), np.array([1.0, 2.0]), 0.0005),
        (np.array([1000, 1001]), np.array([1000, 1000]), 0.5),  # no tolerance for what is counted or an index
        (np.array([True, False]), np.array([True, True]), 0.5),
        (np.array([1, 2]), np.array([1.0, 2.5]), 0.2),
        (np.array([np.nan, 1.0]), np.array([np.nan, 1.0]), 0.0),
        (np.array([np.inf, 1.0]), np.array([np.inf, 1.0]), 0.0),
        (np.array([np.nan, 1.0]), np.array([0.0, 1.0]), np.inf),
        (np.array([1e30, np.inf]), np.array([1e30, -np.inf]), np.inf),
        (np.array([0.0]), np.array([0.0]), 0.0),
        (np.array([1e-9]), np.array([0.0]), 1e-9),
        (np.zeros((0, 3)), np.zeros((0, 3)), 0.0),
        (np.zeros((1, 2)), np.zeros((2, 1)), np.inf),
    ],
)
def test_a_gap_by_hand(found: np.ndarray, expected: np.ndarray, gap: float) -> None:
    assert parity.gap([found], [expected]) == pytest.approx(gap)


def test_outputs_that_are_missing_are_no_parity() -> None:
    assert parity.gap([np.ones(2)], [np.ones(2), np.ones(2)]) == np.inf
    assert parity.gap([], []) == 0


class Session:
    """Gives scripted outputs, one after the other, and may change what it was given."""

    def __init__(self, *outputs: tuple[np.ndarray, ...], writes: bool = False) -> None:
        self._outputs, self._turn, self._writes = outputs, -1, writes
        self._input = np.ones(2)

    def run(self) -> None:
        self._turn += 1
        self._input += self._writes

    def sync(self) -> None:
        pass

    def inputs(self) -> Mapping[str, np.ndarray]:
        return {"x": self._input}

    def outputs(self) -> tuple[np.ndarray, ...]:
        return self._outputs[self._turn % len(self._outputs)]

    def facts(self) -> Mapping[str, object]:
        return {}


def loaded(name: str) -> Loaded:
    return load_model(Asked(f"{SAMPLES}:{name}"))


@contextmanager
def opened(of: Loaded, backend: str) -> Iterator[object]:
    with backends.get(backend).load(of.model, of.inputs, Placement()) as session:
        yield session


def checked(name: str, session: object, backend: str = "torchscript") -> parity.Checked:
    case = Case(name, "", 1.0, backend, Placement())
    return parity.check(backends.get(backend), loaded(name), case, session, None)


def outputs(name: str) -> tuple[np.ndarray, ...]:
    with opened(loaded(name), "eager") as session:
        session.run()
        return session.outputs()


@pytest.mark.parametrize("backend", ["eager", "torchscript", "onnxruntime"])
@pytest.mark.parametrize("name", ["pair", "nested", "tokens", "logarithm", "graph"])
def test_what_a_model_returns_is_compared_leaf_by_leaf(name: str, backend: str, tmp_path: Path) -> None:
    of = loaded(name)
    with backends.get(backend).load(of.model, of.inputs, Placement()) as session:
        found = parity.check(backends.get(backend), of, Case(name, "", 1.0, backend, Placement()), session, tmp_path)
        assert found.failure is None
        assert found.parity is not None
        assert found.parity < 1e-5
        assert len(session.outputs()) == (3 if name == "pair" else 1)


def test_a_leaf_that_differs_fails_wherever_it_stands() -> None:
    right = outputs("pair")
    for i, one in enumerate(right):
        wrong = tuple(other + 1 if other is one else other for other in right)
        found = checked("pair", Session(wrong))
        assert found.failure is not None, i
        assert found.failure.status == "parity"
        assert "torchscript computes something else than eager: outputs differ by" in found.failure.reason


def test_outputs_of_another_shape_are_told() -> None:
    found = checked("graph", Session((np.ones((5, 3), np.float32),)))
    assert found.failure is not None
    assert "its outputs are 5x3 and eager's are 5x4" in found.failure.reason


@pytest.mark.parametrize(
    ("session", "said"),
    [
        (Session((np.ones((5, 4)),), writes=True), "changes its input"),
        (Session((np.ones((5, 4)),), (np.zeros((5, 4)),)), "keeps state between calls, or is random"),
    ],
)
def test_a_session_that_is_not_the_same_twice_fails(session: Session, said: str) -> None:
    found = checked("graph", session)
    assert found.failure is not None
    assert said in found.failure.reason


@pytest.mark.parametrize(
    ("name", "said"), [("writing", "changes its input"), ("counting", "keeps state"), ("undefined", "computes NaN")]
)
def test_a_model_that_no_latency_measures_fails(name: str, said: str) -> None:
    of = loaded(name)
    with opened(of, "eager") as session:
        found = checked(name, session, "eager")
    assert found.failure is not None
    assert said in found.failure.reason


def test_random_outputs_are_told_and_not_compared() -> None:
    with opened(loaded("dropping"), "eager") as session:
        found = checked("dropping", session, "eager")
    assert (found.failure, found.parity) == (None, None)
    assert "its outputs are random" in found.note


def test_a_file_that_draws_numbers_is_told_and_not_compared(tmp_path: Path) -> None:
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["n"]), helper.make_node("Add", ["x", "n"], ["y"])]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3])] for name in "xy"]
    made = helper.make_model(helper.make_graph(nodes, "g", *ends), opset_imports=[helper.make_opsetid("", 17)])
    path = tmp_path / "random.onnx"
    onnx.save(made, path)
    of, session = load_model(Asked(str(path))), Session((np.ones((2, 3)),), (np.zeros((2, 3)),))
    found = parity.check(backends.get("onnxruntime"), of, Case("f", "", 1.0, "onnxruntime", Placement()), session, None)
    assert (found.failure, found.parity) == (None, None)
    assert "its outputs are random (the file draws numbers" in found.note


def test_eager_that_agrees_with_itself_and_not_with_its_reference_keeps_state() -> None:
    found = checked("graph", Session((np.ones((5, 4), np.float32),)), "eager")
    assert found.failure is not None
    assert "keeps state between calls, or is random" in found.failure.reason


def test_what_eager_gave_is_kept_and_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    of, case = loaded("graph"), Case("graph", "", 1.0, "eager", Placement())
    for _ in range(2):
        with opened(of, "eager") as session:
            assert parity.check(backends.get("eager"), of, case, session, tmp_path).parity == 0
        [kept] = (tmp_path / "eager").iterdir()
        whole = kept.read_bytes()
        kept.write_bytes(whole[:-3] + b"???")
    with opened(of, "eager") as session:
        assert parity.check(backends.get("eager"), of, case, session, tmp_path).parity == 0
    assert kept.read_bytes() == whole
