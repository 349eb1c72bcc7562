"""The contract of backends/base.py, the same tests for every backend."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from profiler import backends
from profiler.backends.base import BackendError, Model, Placement, Session
from profiler.measure.parity import PARITY
from profiler.models import build, get, scale
from tests.backends.samples import (
    CLASSES,
    PLACE,
    REAL,
    SPECS,
    TORCH,
    answer,
    difference,
    fed,
    images,
    loaded,
    model,
    only,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", SPECS)
def test_serves_the_default_placement(name):
    backend = backends.get(SPECS[name])
    assert backend.name == name
    assert backend.unavailable(PLACE) is None


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(
    "change",
    [
        {"device": "gpu"},
        {"device": "cpu:1"},
        {"device": "CUDA 0"},
        {"device": "xpu"},
        {"precision": "int8"},
        {"memory_format": "nhwc"},
        {"threads": 0},
    ],
)
def test_refuses_a_placement_in_one_sentence_with_a_remedy(name, change):
    if name == "fake" and change == {"device": "cpu:1"}:
        change = {"device": "cuda:1"}
    reason = backends.get(SPECS[name]).unavailable(replace(PLACE, **change))
    assert reason is not None
    assert "\n" not in reason
    assert any(word in reason for word in ("use ", "install "))
    assert str(next(iter(change.values()))) in reason


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_never_takes_the_cpu_for_a_gpu(name):
    reason = backends.get(SPECS[name]).unavailable(replace(PLACE, device="cuda"))
    assert "--device cpu" in reason or "latency-profiler[gpu]" in reason


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("batch", [1, 3])
def test_runs_again_and_again_with_the_same_output(name, batch):
    with loaded(name, images(batch)) as session:
        assert isinstance(session, Session)
        outputs = []
        for _ in range(4):
            session.run()
            session.sync()
            outputs.append(only(session))
    assert outputs[0].shape == (batch, CLASSES if name in REAL else 10)
    assert all(output.dtype == np.float32 for output in outputs)
    # A profiling executor may pick other kernels after its first runs, so equal to rounding, not to the bit.
    assert all(difference(output, outputs[0]) < 1e-6 for output in outputs)


@pytest.mark.parametrize("name", SPECS)
def test_an_output_is_the_callers_own(name):
    with loaded(name, images()) as session:
        session.run()
        first = only(session)
        kept = first.copy()
        first[:] = 0
        session.run()
        np.testing.assert_array_equal(only(session), kept)


@pytest.mark.parametrize("name", SPECS)
def test_the_output_depends_on_every_image(name):
    one, other = images(2), images(2)
    other[1] += 1
    found, changed = answer(name, one), answer(name, other)
    assert difference(found[:1], changed[:1]) < 1e-6
    assert difference(found[1:], changed[1:]) > 1e-3


@pytest.mark.parametrize("name", [name for name in REAL if name != "eager"])
@pytest.mark.parametrize("batch", [1, 3])
def test_agrees_with_eager(name, batch):
    assert difference(answer(name, images(batch)), answer("eager", images(batch))) < 1e-5


@pytest.mark.parametrize("name", [name for name in REAL if name != "eager"])
@pytest.mark.parametrize(("network", "scaling"), [("efficientnet_b0", "dwr"), ("regnetz_500mf", "dwr")])
def test_agrees_with_eager_on_a_real_network(name, network, scaling):
    arch = scale(get(network), scaling, 0.1)
    real = Model(key=network, module=lambda: build(arch))
    example = images(size=arch.resolution)
    outputs = []
    for spec in ("eager", name):
        with backends.get(spec).load(real, fed(example), PLACE) as session:
            session.run()
            outputs.append(only(session))
    assert difference(outputs[1], outputs[0]) < 1e-3


@pytest.mark.parametrize("name", REAL)
def test_bf16_is_computed_near_fp32_or_refused(name):
    """torch has it on every processor, OpenVINO where the processor has, and ONNX has no convolution in it."""
    placement = Placement(precision="bf16")
    reason = backends.get(SPECS[name]).unavailable(placement)
    assert name not in TORCH or reason is None
    if reason is not None:
        assert "bf16" in reason
        assert "use precision fp32" in reason
        return
    with loaded(name, images(2), placement) as session:
        session.run()
        session.sync()
        found, facts = only(session), session.facts()
    assert facts.get("dtype") == "bfloat16" or facts["nodes_bf16"] > 0
    # It has 8 bits of what fp32 has 24 of: what were equal to fp32 would be fp32.
    assert 1e-4 < difference(found, answer("eager", images(2))) < PARITY["bf16"]


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_read_back_and_put_back(name, threads):
    before = torch.get_num_threads()
    with loaded(name, images(), Placement(threads=threads)) as session:
        session.run()
        assert session.facts()["threads"] == threads
        assert torch.get_num_threads() == (threads if name in TORCH else before)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name", SPECS)
def test_facts_can_be_stored_and_name_a_version(name):
    with loaded(name, images()) as session:
        facts = session.facts()
    # Exactly these: the parent of a visit would import the module of any other type.
    assert {type(value) for value in facts.values()} <= {str, int, float, bool, type(None)}
    assert {"threads", "device", "cached"} <= facts.keys()
    assert facts["device"] == "cpu"
    assert name == "fake" or str(facts[name if name in facts else "torch"])[0].isdigit()


@pytest.mark.parametrize("name", SPECS)
def test_prints_nothing_and_warns_of_nothing(name, capfd, tmp_path):
    filters = list(warnings.filters)
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            answer(name, images(), cache=tmp_path)
        assert caught == []
    assert capfd.readouterr() == ("", "")
    assert warnings.filters == filters


@pytest.mark.parametrize("name", SPECS)
def test_leaving_twice_is_safe_and_closes(name):
    context = backends.get(SPECS[name]).load(model(), fed(images()), PLACE)
    session = context.__enter__()
    session.run()
    context.__exit__(None, None, None)
    context.__exit__(None, None, None)
    with pytest.raises(BackendError, match="closed"):
        session.run()


@pytest.mark.parametrize("name", SPECS)
def test_an_error_in_the_body_passes_through_and_closes(name):
    with pytest.raises(ZeroDivisionError), loaded(name, images()) as session:
        raise ZeroDivisionError
    with pytest.raises(BackendError, match="closed"):
        session.run()


@pytest.mark.parametrize("name", SPECS)
def test_has_no_output_before_the_first_run(name):
    with loaded(name, images()) as session, pytest.raises(BackendError, match=r"call run\(\)"):
        only(session)


@pytest.mark.gpu
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_agrees_with_the_cpu_on_a_gpu(name, memory_format):
    placement = Placement(device="cuda", memory_format=memory_format)
    if reason := backends.get(name).unavailable(placement):
        pytest.skip(reason)
    assert difference(answer(name, images(2), placement), answer("eager", images(2))) < 1e-3
