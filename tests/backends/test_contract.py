"""The contract of backends/base.py, the same tests for every backend."""

from __future__ import annotations

import subprocess
import sys
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from profiler import backends
from profiler.backends.base import BackendError, Model, Placement, Session

SPECS = {
    "eager": "eager",
    "torchscript": "torchscript",
    "onnxruntime": "onnxruntime",
    "fake": "fake:duration_ms=0.1",
}
REAL = [name for name in SPECS if name != "fake"]
TORCH = ["eager", "torchscript"]
CACHING = ["torchscript", "onnxruntime"]
PLACE = Placement()
CLASSES = 7


class Tiny(nn.Module):
    """Every kind of layer that the networks use; batch norm with statistics that matter."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU())
        self.grouped = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=4, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 2, 1), nn.SiLU(), nn.Conv2d(2, 8, 1))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.grouped(x) * torch.sigmoid(self.gate(x))
        return self.head(x.mean((2, 3)))


def tiny() -> nn.Module:
    module = Tiny()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=draw) + (0.5 if "running_var" in name else -0.5))
    return module.eval()


def images(batch: int = 1, seed: int = 0, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, 3, size, size), dtype=np.float32)


def model(cache: Path | None = None) -> Model:
    return Model(key="tiny", module=tiny, cache=cache)


@contextmanager
def loaded(name: str, example: np.ndarray, placement: Placement = PLACE, cache: Path | None = None):
    with backends.get(SPECS[name]).load(model(cache), example, placement) as session:
        yield session


def answer(name: str, example: np.ndarray, placement: Placement = PLACE, cache: Path | None = None) -> np.ndarray:
    with loaded(name, example, placement, cache) as session:
        session.run()
        session.sync()
        return session.output()


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
            outputs.append(session.output())
    assert outputs[0].shape == (batch, CLASSES if name in REAL else 10)
    assert all(output.dtype == np.float32 for output in outputs)
    # A profiling executor may pick other kernels after its first runs, so equal to rounding, not to the bit.
    assert all(difference(output, outputs[0]) < 1e-6 for output in outputs)


@pytest.mark.parametrize("name", SPECS)
def test_an_output_is_the_callers_own(name):
    with loaded(name, images()) as session:
        session.run()
        first = session.output()
        kept = first.copy()
        first[:] = 0
        session.run()
        np.testing.assert_array_equal(session.output(), kept)


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


@pytest.mark.parametrize("name", ["torchscript", "onnxruntime"])
@pytest.mark.parametrize(("network", "scaling"), [("efficientnet_b0", "dwr"), ("regnetz_500mf", "dwr")])
def test_agrees_with_eager_on_a_real_network(name, network, scaling):
    from profiler.models import build, get, scale

    arch = scale(get(network), scaling, 0.1)
    real = Model(key=network, module=lambda: build(arch))
    example = images(size=arch.resolution)
    outputs = []
    for spec in ("eager", name):
        with backends.get(spec).load(real, example, PLACE) as session:
            session.run()
            outputs.append(session.output())
    assert difference(outputs[1], outputs[0]) < 1e-3


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_layout_and_precision_are_what_was_asked(name, precision):
    placement = Placement(precision=precision, memory_format="channels_last")
    assert backends.get(name).unavailable(placement) is None
    with loaded(name, images(2), placement) as session:
        session.run()
        assert session.facts()["memory_format"] == "channels_last"
        assert session.facts()["dtype"] == {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[precision]
        assert (
            difference(session.output(), answer("eager", images(2)))
            < {"fp32": 1e-5, "fp16": 1e-2, "bf16": 1e-1}[precision]
        )


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_read_back_and_put_back(name, threads):
    before = torch.get_num_threads()
    with loaded(name, images(), Placement(threads=threads)) as session:
        session.run()
        assert session.facts()["threads"] == threads
        assert torch.get_num_threads() == (threads if name in TORCH else before)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name", TORCH)
def test_refuses_to_run_with_other_threads_than_asked(name, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    with (
        pytest.raises(BackendError, match="1 threads where 2 were asked"),
        loaded(name, images(), Placement(threads=2)),
    ):
        pass


@pytest.mark.parametrize("name", SPECS)
def test_facts_can_be_stored_and_name_a_version(name):
    with loaded(name, images()) as session:
        facts = session.facts()
    assert all(isinstance(value, str | int | float | bool | None) for value in facts.values())
    assert {"threads", "device", "cached"} <= facts.keys()
    assert facts["device"] == "cpu"
    assert name == "fake" or str(facts["onnxruntime" if name == "onnxruntime" else "torch"])[0].isdigit()


@pytest.mark.parametrize("name", CACHING)
def test_the_second_load_comes_from_the_cache_without_building(name, tmp_path):
    first = answer(name, images(), cache=tmp_path)

    def never() -> nn.Module:
        raise AssertionError("built although cached")

    with backends.get(name).load(Model("tiny", never, cache=tmp_path), images(), PLACE) as session:
        session.run()
        assert session.facts()["cached"] is True
        np.testing.assert_array_equal(session.output(), first)


@pytest.mark.parametrize("name", CACHING)
def test_another_shape_or_model_is_another_entry(name, tmp_path):
    backend = backends.get(name)
    for batch, key in ((1, "tiny"), (2, "tiny"), (1, "other")):
        with backend.load(Model(key, tiny, cache=tmp_path), images(batch), PLACE) as session:
            assert session.facts()["cached"] is False
    with backend.load(Model(None, tiny, cache=tmp_path), images(), PLACE) as session:
        assert "no key" in session.facts()["cache_note"]
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("name", CACHING)
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_a_corrupt_cache_is_rebuilt(name, damage, tmp_path):
    expected = answer(name, images(), cache=tmp_path)
    largest = max(tmp_path.rglob("*.*"), key=lambda path: path.stat().st_size if path.is_file() else -1)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"flip": bytes(content), "cut": bytes(content[: len(content) // 2]), "empty": b""}
    largest.unlink() if damage == "gone" else largest.write_bytes(damaged[damage])
    for cached in (False, True):
        with loaded(name, images(), cache=tmp_path) as session:
            session.run()
            assert session.facts()["cached"] is cached
            np.testing.assert_array_equal(session.output(), expected)


@pytest.mark.parametrize("name", CACHING)
def test_a_cache_that_cannot_be_written_is_a_fact_and_not_an_error(name, tmp_path):
    (tmp_path / "file").touch()
    with loaded(name, images(), cache=tmp_path / "file" / "cache") as session:
        session.run()
        assert session.facts()["cached"] is False
        assert "nothing kept" in session.facts()["cache_note"]


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
    context = backends.get(SPECS[name]).load(model(), images(), PLACE)
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
        session.output()


@pytest.mark.parametrize("name", TORCH)
def test_leaving_frees_the_weights(name):
    import gc
    import weakref

    with loaded(name, images()) as session:
        weights = weakref.ref(session._call)
        assert weights() is not None
    gc.collect()
    assert weights() is None


@pytest.mark.parametrize("name", TORCH)
def test_torch_cannot_load_an_onnx_file(name):
    brought = Model("key", None, onnx=Path("net.onnx"))
    with (
        pytest.raises(BackendError, match=r"net\.onnx.*use onnxruntime"),
        backends.get(name).load(brought, images(), PLACE),
    ):
        pass


@pytest.mark.parametrize("name", TORCH)
def test_flags_of_torch_hold_inside_and_are_put_back(name):
    def flags():
        return (
            torch.backends.cudnn.allow_tf32,
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cudnn.benchmark,
        )

    before = flags()
    with backends.get(f"{name}:tf32=1,cudnn_benchmark=1").load(model(), images(), PLACE):
        assert flags() == (True, True, True)
    with backends.get(name).load(model(), images(), PLACE) as session:
        assert flags() == (False, False, False)
        assert session.facts()["tf32_convolution"] is False
    assert flags() == before


def test_a_model_that_returns_no_tensor_is_named():
    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    with backends.get("eager").load(Model(None, Pair), images(), PLACE) as session:
        session.run()
        with pytest.raises(BackendError, match="returned a tuple"):
            session.output()


def test_torchscript_optimised_for_inference_agrees(tmp_path):
    for _ in range(2):  # built, then from the cache
        with backends.get("torchscript:optimize=1").load(model(tmp_path), images(), PLACE) as session:
            session.run()
            assert difference(session.output(), answer("eager", images())) < 1e-5


@pytest.mark.gpu
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_agrees_with_the_cpu_on_a_gpu(name, memory_format):
    placement = Placement(device="cuda", memory_format=memory_format)
    if reason := backends.get(name).unavailable(placement):
        pytest.skip(reason)
    assert difference(answer(name, images(2), placement), answer("eager", images(2))) < 1e-3


def test_get_imports_no_runtime():
    code = (
        "import sys, backends\n"
        "for name in backends.NAMES: backends.get(name)\n"
        "print(sorted({'torch', 'onnxruntime', 'onnx', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "eager, torchscript, onnxruntime, fake"),
        ("tensorrt", "choose one of eager"),
        ("eager:turbo=1", "cudnn_benchmark"),
        ("fake:duration_ms", "option=value"),
        ("fake:seed=1,seed=2", "each option once"),
        ("fake:name=x", "its options are"),
        ("fake:duration_ms=fast", "expected float"),
        ("fake:after=1.5", "expected int"),
        ("fake:fault=boom", "segfault"),
        ("onnxruntime:graph=max", "all, extended, basic, none"),
        ("onnxruntime:spin=maybe", "0, 1, false, true"),
    ],
)
def test_a_wrong_spec_says_what_is_allowed(spec, words):
    with pytest.raises(backends.UnknownBackendError, match=words) as error:
        backends.get(spec)
    assert isinstance(error.value, ValueError)


def test_options_get_the_type_of_their_field():
    fake = backends.get("fake:duration_ms=2,after=3,asynchronous=1,fault=hang,at=load")
    assert (fake.duration_ms, fake.after, fake.asynchronous, fake.fault, fake.at) == (
        2.0,
        3,
        True,
        "hang",
        "load",
    )
    assert backends.get("fake:duration_ms=2") == backends.get("fake:duration_ms=2.0")


def test_entry_points_add_backends_but_cannot_replace_one(monkeypatch):
    points = [
        ("mine", "profiler.backends.fake:Fake"),
        ("eager", "profiler.backends.fake:Fake"),
        ("broken", "no.such.module:Class"),
        ("function", "profiler.backends.fake:touch"),
    ]
    found = [backends.metadata.EntryPoint(name, value, backends.GROUP) for name, value in points]
    monkeypatch.setattr(backends.metadata, "entry_points", lambda *, group: found if group == backends.GROUP else [])
    assert list(backends.available()) == [*backends.NAMES, "broken", "function", "mine"]
    assert backends.get("mine:seed=4").seed == 4
    assert type(backends.get("eager")).__name__ == "Eager"
    with pytest.raises(backends.UnknownBackendError, match="reinstall its package"):
        backends.get("broken")
    with pytest.raises(backends.UnknownBackendError, match="not a dataclass"):
        backends.get("function")
