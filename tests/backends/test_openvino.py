"""OpenVINO: its options as read back, ONNX files, and what its own conversion refuses."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from profiler import backends
from profiler.backends import stages
from profiler.backends.base import BackendError, FallbackError, Model, Placement
from tests.backends.samples import PLACE, answer, difference, fed, images, model, only, tiny

openvino = pytest.importorskip("openvino", reason="openvino is not installed")
pytestmark = pytest.mark.usefixtures("one_thread")


def facts(spec, placement=PLACE):
    with backends.get(spec).load(model(), fed(images()), placement) as session:
        return session.facts()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("openvino", {"hint": "latency", "streams": 1, "threads": 2, "pinned": False}),
        ("openvino:streams=2", {"hint": "latency", "streams": 2, "threads": 2}),
        ("openvino:hint=throughput", {"hint": "throughput", "threads": 2}),
    ],
)
def test_options_are_read_back(spec, expected):
    found = facts(spec, Placement(threads=2))
    assert {name: found[name] for name in expected} == expected


def test_more_streams_than_threads_are_refused():
    with pytest.raises(BackendError, match="fewer streams than threads"):
        facts("openvino:streams=3")


def test_nodes_are_counted_by_what_they_compute_in():
    found = facts("openvino")
    assert found["nodes_f32"] >= 5
    assert not {"nodes_bf16", "nodes_f16"} & found.keys()


def test_another_precision_than_asked_is_a_fallback(monkeypatch):
    monkeypatch.setattr("profiler.backends.openvino.computing_layers", lambda _: [("Convolution", "bf16")] * 3)
    with pytest.raises(FallbackError, match="nodes_bf16 where fp32 was asked"):
        facts("openvino")


def test_bf16_is_served_where_the_processor_has_it_and_else_refused():
    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    reason = backends.get("openvino").unavailable(Placement(precision="bf16"))
    assert (reason is None) is ("BF16" in able)
    assert reason is None or "no bf16 kernels" in reason
    if reason:  # whoever loads it all the same is told, too
        with pytest.raises(FallbackError, match="computes nothing in bf16, which was asked, but in fp32"):
            facts("openvino", Placement(precision="bf16"))


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = (torch.from_numpy(images()),)
        open_batch = {"input": {0: "batch"}}
        torch.onnx.export(tiny(), given, str(path), dynamo=False, input_names=["input"], dynamic_axes=open_batch)
    return path


def test_reads_onnx_files(onnx_file):
    with backends.get("openvino").load(Model(None, None, onnx_file), fed(images(2)), PLACE) as session:
        session.run()
        assert difference(only(session), answer("eager", images(2))) < 1e-5
        assert session.facts()["cached"] is False


@pytest.mark.parametrize(
    ("example", "said"),
    [
        (fed(np.ones((1, 4, 16, 16), np.float32)), "has shape .* and 1x4x16x16 was given"),
        (fed(np.ones((1, 3), np.float32)), "1x3 was given"),
    ],
)
def test_inputs_that_do_not_fit_a_file_are_one_sentence(onnx_file, example, said):
    with (
        pytest.raises(BackendError, match=said),
        backends.get("openvino").load(Model(None, None, onnx_file), example, PLACE),
    ):
        pass


def test_what_is_no_onnx_file_is_one_sentence(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model at all")
    with (
        pytest.raises(BackendError, match=r"openvino cannot read broken\.onnx") as raised,
        backends.get("openvino").load(Model(None, None, path), fed(images()), PLACE),
    ):
        pass
    assert "\n" not in str(raised.value)


def test_what_its_own_conversion_refuses_goes_by_our_onnx_export(monkeypatch, tmp_path):
    from openvino.frontend import FrontEndManager

    def refusing(self, framework):
        raise RuntimeError("Exception from a.cpp:1:\nNo conversion rule found for operations: aten::kron")

    monkeypatch.setattr(FrontEndManager, "load_by_framework", refusing)
    for cached in (False, True):
        with backends.get("openvino").load(model(tmp_path), fed(images()), PLACE) as session:
            session.run()
            assert difference(only(session), answer("eager", images())) < 1e-5
            assert (
                "refuses the model (No conversion rule found for operations: aten::kron)"
                in session.facts()["export_note"]
            )
            assert session.facts()["cached"] is cached


class Several(nn.Module):
    """Integers, a mask, an input that is not used, and a dictionary of outputs."""

    def forward(self, ids, mask, unused):
        picked = torch.nn.functional.one_hot(ids, 5).float() * mask.float().unsqueeze(-1)
        return {"sum": picked.sum(1), "most": picked.argmax(-1)}


def test_takes_several_inputs_of_other_types():
    from profiler.backends.inputs import Inputs

    arrays = np.array([[1, 2, 4]]), np.array([[True, False, True]]), np.ones(3, np.float32)
    outputs = []
    for spec in ("eager", "openvino"):
        with backends.get(spec).load(Model(None, Several), Inputs(arrays), PLACE) as session:
            session.run()
            outputs.append(session.outputs())
    for expected, found in zip(*outputs, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_stages_are_timed_by_who_watches_and_kept_with_the_form(tmp_path):
    ticks = iter(range(100))

    class Clock:
        def __enter__(self):
            begin = next(ticks)
            return lambda: next(ticks) - begin

        def __exit__(self, *_):
            pass

    found = []
    for _ in range(2):
        with (
            stages.timed_by(Clock),
            backends.get("openvino").load(model(tmp_path), fed(images()), PLACE) as session,
        ):
            found.append(session.facts())
    assert [one["export_s"] for one in found] == [1, 1]
    assert [one["compile_s"] for one in found] == [1, 1]
    assert "export_s" not in facts("openvino")


def test_a_scalar_stays_one():
    class Twice(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    given = fed(np.array(1.5, np.float32))
    with backends.get("openvino").load(Model(None, Twice), given, PLACE) as session:
        session.run()
        [found] = session.outputs()
    assert (found.shape, found.tolist()) == ((), 3.0)
