"""torch's switches: what is held is in force, whatever the process had set, and what it had set comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from profiler import backends
from profiler.backends import switches
from profiler.backends.base import Model, Placement
from profiler.backends.inputs import Inputs
from tests.backends.states import FP32, LEAKS, PLAIN, only, seen, untouched

IMAGE = np.ones((1, 2, 4, 4), np.float32)
TF32 = {name: "tf32" if value == "ieee" else value for name, value in FP32.items()} | {
    "allow_tf32 of cuBLAS": True,
    "allow_tf32 of cuDNN": True,
    "matmul precision": "high",
    "cuDNN": (True, True, False),
}
ALL = {"convolutions_in_tf32": True, "products_in_tf32": True}
#: As torch is when nobody has touched a switch: convolutions in TF32, products not.
BY_DEFAULT = FP32 | {"convolutions": "tf32", "recurrent": "tf32", "allow_tf32 of cuDNN": True}


@pytest.fixture(autouse=True)
def _untouched() -> Iterator[None]:
    with untouched():
        yield


@given(st.lists(st.sampled_from(sorted(LEAKS)), max_size=6), st.lists(st.sampled_from(sorted(LEAKS)), max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_what_is_held_is_in_force_and_what_was_set_comes_back(before: list[str], meanwhile: list[str]) -> None:
    with untouched():
        for name in before:
            LEAKS[name]()
        found = seen()
        for hold, expected in (
            (switches.plain(1, "cpu"), PLAIN | {"threads": 1}),
            (switches.held(2), FP32 | {"threads": 2}),
            (switches.held(1, **ALL, cudnn_benchmark=True), TF32 | {"threads": 1}),
            (switches.held(2, convolutions_in_tf32=True), BY_DEFAULT | {"threads": 2}),
        ):
            with hold:
                assert only(seen(), expected) == expected
                for name in meanwhile:
                    LEAKS[name]()
            assert seen() == found


def test_there_is_a_leak_for_everything_that_is_held() -> None:
    """Or the law above would say nothing of it."""
    wrong: set[str] = set()
    for leak in LEAKS.values():
        with untouched():
            leak()
            wrong |= {name for name, value in seen().items() if value != PLAIN.get(name, value)}
    assert wrong == set(PLAIN)


class Watching(nn.Module):
    """Notes the switches that its forward sees."""

    def __init__(self, notes: list[dict[str, object]]) -> None:
        super().__init__()
        self.notes = notes
        self.layer = nn.Conv2d(2, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.notes.append(seen())
        result: torch.Tensor = self.layer(x)
        return result


def watching(leak: Callable[[], object] = lambda: None) -> tuple[Model, list[dict[str, object]]]:
    """A model whose author runs ``leak`` while it is built, and what its forwards see."""
    notes: list[dict[str, object]] = []

    def build() -> nn.Module:
        leak()
        return Watching(notes)

    return Model(None, build), notes


@pytest.mark.parametrize(
    ("spec", "expected"), [("eager", BY_DEFAULT), ("torchscript", BY_DEFAULT), ("eager:tf32=1", TF32)]
)
def test_precision_tf32_is_torchs_default_and_the_option_adds_products(spec: str, expected: dict[str, object]) -> None:
    model, notes = watching()
    with backends.get(spec).load(model, Inputs((IMAGE,)), Placement(precision="tf32", threads=1)) as session:
        session.run()
        facts = session.facts()
        assert (facts["tf32_convolution"], facts["tf32_matmul"]) == (True, expected["allow_tf32 of cuBLAS"])
        assert facts["dtype"] == "float32"
        found = seen() if spec == "torchscript" else notes.pop()  # what was traced notes nothing
    names = {name: value for name, value in expected.items() if name != "cuDNN"}
    assert only(found, names) == names


@pytest.mark.parametrize("leak", LEAKS)
def test_a_session_runs_as_asked_whatever_its_models_author_sets(leak: str) -> None:
    model, notes = watching(LEAKS[leak])
    for spec, expected in (("eager", FP32), ("eager:tf32=1,cudnn_benchmark=1", TF32)):
        with backends.get(spec).load(model, Inputs((IMAGE,)), Placement(threads=1)) as session:
            session.run()
            assert session.facts()["tf32_matmul"] is expected["allow_tf32 of cuBLAS"]
            assert session.facts()["tf32_convolution"] is expected["allow_tf32 of cuDNN"]
        assert only(notes.pop(), expected) == expected


def test_of_two_open_sessions_each_runs_under_its_own_switches() -> None:
    """As in the gate, where both sides stay loaded: the one that was opened last does not decide for both."""
    (first, of_first), (second, of_second) = watching(), watching()
    place = Placement(threads=1)
    before = seen()
    with backends.get("eager:tf32=1,cudnn_benchmark=1").load(first, Inputs((IMAGE,)), place) as one:
        with backends.get("eager").load(second, Inputs((IMAGE,)), place) as other:
            for session in (one, other, other, one, one, other):
                session.run()
        one.run()
    assert [only(note, TF32) for note in of_first] == [TF32] * 4
    assert [only(note, FP32) for note in of_second] == [FP32] * 3
    assert seen() == before


def test_a_torch_without_a_precision_for_each_operation_has_the_older_switches_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As before version 2.9."""
    monkeypatch.setattr(switches, "_operations", tuple)
    monkeypatch.setattr(switches, "_libraries", tuple)
    torch.set_float32_matmul_precision("high")
    older = ("allow_tf32 of cuBLAS", "allow_tf32 of cuDNN", "matmul precision")
    for tf32, expected in ((False, (False, False, "highest")), (True, (True, True, "high"))):
        with switches.held(1, convolutions_in_tf32=tf32, products_in_tf32=tf32):
            assert tuple(seen()[name] for name in older) == expected
        assert tuple(seen()[name] for name in older) == (True, True, "high")
