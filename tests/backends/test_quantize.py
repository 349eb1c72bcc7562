"""int8 in ONNX Runtime: what computes in it, how far it is from eager, and what is said of both."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from profiler import backends
from profiler.backends.base import BackendError, Model, Placement
from profiler.backends.int8 import weight_bits
from profiler.backends.openvino_int8 import int8_layers
from profiler.measure.agreement import agreement
from tests.backends.samples import PLACE, answer, difference, fed, images, model, only

pytestmark = pytest.mark.usefixtures("one_thread")
pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("how", ["dynamic", "static"])
def test_computes_in_int8_near_eager_and_says_so(how, tmp_path, capfd):
    found = []
    for _ in range(2):
        with backends.get(f"onnxruntime:quantize={how}").load(model(tmp_path), fed(images()), PLACE) as session:
            session.run()
            found.append((only(session), session.facts()))
    (first, _), (second, facts) = found
    np.testing.assert_array_equal(first, second)
    assert 1e-5 < difference(first, answer("eager", images())) < 0.3
    assert facts["cached"] is True
    assert facts["nodes_int8"] >= 1
    assert facts["nodes_converting"] >= 1
    assert f"{facts['nodes_int8']} compute in int8" in facts["precision_note"]
    assert capfd.readouterr() == ("", "")


def test_what_is_not_quantised_says_nothing_of_int8():
    with backends.get("onnxruntime").load(model(), fed(images()), PLACE) as session:
        assert not {"nodes_int8", "precision_note"} & session.facts().keys()


def test_a_file_is_quantised_too(tmp_path):
    from profiler.backends.onnx_graph import GRAPH, export

    export(model(), fed(images()), PLACE, tmp_path)
    given = Model("file", None, tmp_path / GRAPH)
    with backends.get("onnxruntime:quantize=static").load(given, fed(images()), PLACE) as session:
        assert session.facts()["nodes_int8"] >= 1


def test_static_ranges_are_of_the_inputs_that_are_given(tmp_path):
    outputs = []
    for scale in (1, 50):
        key = f"tiny, calibrated {scale}"
        with backends.get("onnxruntime:quantize=static").load(
            Model(key, model().module, cache=tmp_path), fed(images() * scale), PLACE
        ) as session:
            session.run()
            outputs.append(only(session))
    for scale, output in zip((1, 50), outputs, strict=True):
        assert difference(output, answer("eager", images() * scale)) < 0.3


def test_what_cannot_be_quantised_is_refused():
    assert "use --device cpu" in backends.get("onnxruntime:quantize=dynamic").unavailable(Placement(device="cuda"))


@pytest.mark.parametrize(
    ("spec", "allowed"),
    [
        ("onnxruntime", None),
        ("onnxruntime:quantize=dynamic", 0.3),
        ("onnxruntime:quantize=dynamic,tolerance=0.05", 0.05),
        ("onnxruntime:tolerance=0.01", 0.01),
    ],
)
def test_a_tolerance_can_be_set(spec, allowed):
    assert backends.get(spec).allowed == allowed


def test_agreement_is_what_its_words_say():
    expected = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    found = np.array([[4.0, 3.0], [0.0, 0.0]], np.float32)
    told = agreement([found], [expected])
    assert told["relative_error"] == pytest.approx(2**0.5 / 5)
    assert told["cosine"] == pytest.approx(24 / 25)
    assert (told["top1_agreement"], told["top1_inputs"]) == (0.5, 2)
    assert agreement([np.array([1, 2])], [np.array([1, 2])]) == {}
    assert "top1_agreement" not in agreement([found.ravel()], [expected.ravel()])


def test_torch_quantises_linear_layers_and_says_what_it_leaves():
    with backends.get("eager:quantize=dynamic").load(model(), fed(images()), PLACE) as session:
        session.run()
        assert 1e-5 < difference(only(session), answer("eager", images())) < 0.3
        facts = session.facts()
    assert (facts["nodes_int8"], facts["nodes_float"]) == (1, 6)
    assert "1 compute in int8 (1 Linear) and 6 in floats (4 Conv2d, 2 BatchNorm2d)" in facts["precision_note"]


def test_torch_has_nothing_to_quantise_in_convolutions():
    with (
        pytest.raises(BackendError, match="the model has none: leave quantize out"),
        backends.get("eager:quantize=dynamic").load(Model(None, lambda: nn.Conv2d(3, 4, 3)), fed(images()), PLACE),
    ):
        pass
    assert "use --device cpu" in backends.get("eager:quantize=dynamic").unavailable(Placement(device="cuda"))


def test_openvino_computes_in_int8_what_nncf_quantised(tmp_path, capfd):
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    found = []
    for _ in range(2):
        with backends.get("openvino:quantize=static").load(model(tmp_path), fed(images()), PLACE) as session:
            session.run()
            found.append((only(session), dict(session.facts())))
    (first, made), (second, read) = found
    np.testing.assert_array_equal(first, second)
    assert (made["cached"], read["cached"]) == (False, True)
    assert 1e-5 < difference(first, answer("eager", images())) < 0.3
    assert read["nodes_int8"] >= 2
    assert f"{read['nodes_int8']} compute in int8" in read["precision_note"]
    with backends.get("openvino").load(model(tmp_path), fed(images()), PLACE) as session:
        assert session.facts()["cached"] is False  # the two forms are not one
        assert "nodes_int8" not in session.facts()
    assert capfd.readouterr() == ("", "")


def test_openvino_quantises_a_file_too(tmp_path):
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    from profiler.backends.onnx_graph import GRAPH, export

    export(model(), fed(images()), PLACE, tmp_path)
    given = Model("file", None, tmp_path / GRAPH)
    with backends.get("openvino:quantize=static").load(given, fed(images()), PLACE) as session:
        assert session.facts()["nodes_int8"] >= 1


def test_without_nncf_openvino_says_so(monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr("profiler.backends.openvino_int8.find_spec", lambda name: None)
    backend = backends.get("openvino:quantize=static")
    assert backend.unavailable(PLACE) == (
        "openvino:quantize=static needs nncf: pip install 'latency-profiler[openvino-int8]', or use "
        "onnxruntime:quantize=static"
    )
    assert backends.get("openvino").unavailable(PLACE) is None
    assert (backend.allowed, backends.get("openvino:quantize=static,tolerance=0.1").allowed) == (0.3, 0.1)


def test_layers_are_counted_by_what_they_compute_in():
    layers = [("Convolution", "u8")] * 3 + [("Softmax", "f32"), ("Reorder", "f32"), ("FakeQuantize", "u8")]
    told = int8_layers(layers)
    assert (told["nodes_int8"], told["nodes_float"], told["nodes_converting"]) == (3, 1, 2)
    assert "3 compute in int8 (3 Convolution)" in told["precision_note"]


def test_next_to_nothing_of_a_graph_stays_in_floats_where_kernels_are(tmp_path):
    with backends.get("onnxruntime:quantize=static").load(model(tmp_path), fed(images()), PLACE) as session:
        facts = session.facts()
    assert facts["nodes_int8"] > facts["nodes_float"] + facts["nodes_converting"]
    assert "Conv" not in facts["precision_note"].replace("QLinearConv", "")


@pytest.mark.parametrize(
    ("machine", "flags", "bits"), [("x86_64", "avx2", 7), ("AMD64", "avx512_vnni", 8), ("aarch64", "asimddp", 8)]
)
def test_weights_have_a_bit_less_where_sums_would_be_cut_off(machine, flags, bits, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("profiler.backends.cache.processor", lambda: flags)
    assert weight_bits() == bits
