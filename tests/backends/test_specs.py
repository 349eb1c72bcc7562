"""From a spec to a backend with its options."""

from __future__ import annotations

import subprocess
import sys

import pytest

from profiler import backends


def test_get_imports_no_runtime():
    code = (
        "import sys; from profiler import backends\n"
        "for name in backends.NAMES: backends.get(name)\n"
        "print(sorted({'torch', 'onnxruntime', 'onnx', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "eager, torchscript, compile, aoti, onnxruntime, openvino, fake"),
        ("tensorrt", "choose one of eager"),
        ("eager:turbo=1", "cudnn_benchmark"),
        ("fake:duration_ms", "option=value"),
        ("fake:seed=1,seed=2", "each option once"),
        ("fake:name=x", "its options are"),
        ("fake:duration_ms=fast", "expected float"),
        ("fake:after=1.5", "expected int"),
        ("fake:fault=boom", "segfault"),
        ("fake:duration_ms=-1", "is '-1': expected float from 0 to"),
        ("fake:duration_ms=nan", "expected float from 0"),
        ("fake:duration_ms=inf", "expected float from 0"),
        ("fake:drift=-1.01", "expected float from -1"),
        ("fake:after=0", "expected int from 1$"),
        ("fake:leak=-1", "expected int from 0"),
        (f"fake:seed={'9' * 5000}", "is '9{60}': expected int$"),
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
