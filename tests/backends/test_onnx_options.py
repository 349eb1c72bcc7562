"""ONNX Runtime's providers and session options by name."""

from __future__ import annotations

import pytest

from profiler import backends
from profiler.backends import onnx_providers
from profiler.backends.base import FallbackError, Placement
from tests.backends.samples import PLACE, answer, difference, fed, images, model, only

pytestmark = pytest.mark.usefixtures("one_thread")
ORT = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("name", onnx_providers._KNOWN)
def test_a_provider_that_is_not_here_is_refused_with_what_is_and_a_remedy(name, monkeypatch):
    one = onnx_providers._KNOWN[name]
    if one.called in ORT.get_available_providers():
        pytest.skip(f"this onnxruntime has {one.called}")
    backend = backends.get(f"onnxruntime:provider={name}")
    reason = backend.unavailable(Placement(device=one.device, precision=one.precision))
    assert one.called in reason
    assert "it has " in reason
    assert "CPUExecutionProvider" in reason
    assert "install" in reason or "use " in reason
    monkeypatch.setattr(ORT, "get_available_providers", lambda: [one.called])
    elsewhere = "cpu" if one.device == "cuda" else "cuda"
    assert f"use --device {one.device}" in backend.unavailable(Placement(device=elsewhere))


def test_a_provider_that_leaves_nodes_to_the_cpu_is_a_fallback(monkeypatch):
    """The CPU wheel's Azure provider takes no node."""
    azure = onnx_providers._Provider("AzureExecutionProvider", "cpu", "")
    monkeypatch.setitem(onnx_providers._KNOWN, "xnnpack", azure)
    backend = backends.get("onnxruntime:provider=xnnpack")
    assert backend.unavailable(PLACE) is None
    with pytest.raises(FallbackError, match="with no provider"), backend.load(model(), fed(images()), PLACE):
        pass


def test_a_provider_is_told_its_threads_and_precision():
    told = onnx_providers.options_of("openvino", Placement(threads=2))
    assert told == {"device_type": "CPU", "precision": "FP32", "num_of_threads": "2"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", {"execution": "sequential", "mem_pattern": True, "arena": True, "spin": False, "inter_op_threads": 1}),
        ("execution=parallel", {"execution": "parallel", "inter_op_threads": 2, "threads": 2}),
        ("mem_pattern=0,arena=0", {"mem_pattern": False, "arena": False}),
        ("spin=1,graph=basic", {"spin": True, "graph": "basic"}),
    ],
)
def test_session_options_are_read_back_and_change_no_output(options, expected):
    backend = backends.get(f"onnxruntime:{options}")
    with backend.load(model(), fed(images()), Placement(threads=2)) as session:
        session.run()
        assert {name: session.facts()[name] for name in expected} == expected
        assert difference(only(session), answer("eager", images())) < 1e-5
