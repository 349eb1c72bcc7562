"""ONNX Runtime's execution providers: what each is called, which wheel has it, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from profiler.backends.base import Placement, Precision
from profiler.backends.onnx_session import library_lost

#: ``default`` is that of the device: the CPU's own, or CUDA's.
ProviderName = Literal["default", "openvino", "tensorrt", "dml", "coreml", "xnnpack"]


@dataclass(frozen=True, slots=True)
class _Provider:
    """One of them.

    Attributes:
        called: What ONNX Runtime calls it.
        device: Type of device that it is used with here; the inputs are in its memory.
        source: Where a build with it comes from, as a remedy.
        told: Options by its own names, beside the number of the device.
        precision: In which it is served here.
        threads: Its own name for the number of threads; empty where it takes the session's.
    """

    called: str
    device: str
    source: str
    told: tuple[tuple[str, str], ...] = ()
    threads: str = ""
    precision: Precision = "fp32"


_KNOWN = {
    "openvino": _Provider(
        "OpenVINOExecutionProvider",
        "cpu",
        "pip install onnxruntime-openvino in place of onnxruntime",
        (("device_type", "CPU"), ("precision", "FP32")),
        "num_of_threads",
    ),
    "tensorrt": _Provider(
        "TensorrtExecutionProvider",
        "cuda",
        "pip install onnxruntime-gpu and TensorRT in place of onnxruntime",
        precision="tf32",  # TensorRT takes TF32 for fp32 unless its builder is told not to, which no option does
    ),
    "dml": _Provider("DmlExecutionProvider", "cpu", "on Windows, pip install onnxruntime-directml in its place"),
    "coreml": _Provider("CoreMLExecutionProvider", "cpu", "use onnxruntime on macOS, whose wheel has it"),
    "xnnpack": _Provider(
        "XnnpackExecutionProvider", "cpu", "install a build of onnxruntime with it", threads="intra_op_num_threads"
    ),
}


def called(name: str) -> str:
    """Return ONNX Runtime's word for a provider."""
    return _KNOWN[name].called


def options_of(name: str, placement: Placement) -> dict[str, str]:
    """Return what the provider ``name`` is told."""
    one = _KNOWN[name]
    numbered = {"device_id": str(placement.device_index)} if one.device == "cuda" else {}
    return dict(one.told) | numbered | ({one.threads: str(placement.threads)} if one.threads else {})


def provider_missing(name: str, placement: Placement) -> str | None:
    """Return why the provider ``name`` cannot be had here for ``placement``, with the remedy, or None."""
    import onnxruntime as ort

    one = _KNOWN[name]
    if one.called not in ort.get_available_providers():
        have = ", ".join(ort.get_available_providers())
        return f"this onnxruntime {ort.__version__} has no {one.called} (it has {have}): {one.source}, or leave it out"
    if lost := library_lost(one.called):
        return f"{one.called} cannot be loaded ({lost}): {one.source}, or leave it out"
    if placement.device_type != one.device:
        return f"provider={name} goes with device {one.device} and not {placement.device!r}: use --device {one.device}"
    if placement.precision != one.precision:
        served, asked = one.precision, placement.precision
        return f"provider={name} is served in {served} alone and not in {asked}: use precision {served}"
    return None
