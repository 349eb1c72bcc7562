"""Which ONNX Runtime is installed here, and what it can serve."""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec

from profiler.backends import devices
from profiler.backends.base import Placement
from profiler.backends.onnx_graph import OPSET
from profiler.backends.onnx_session import without_kernels

#: ONNX Runtime's own word for what runs on a type of device.
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def not_installed(placement: Placement) -> str | None:
    """Return why there is no ONNX Runtime here, with the remedy, or None where there is one."""
    both = [name for name in ("onnxruntime", "onnxruntime-gpu") if _installed(name)]
    if len(both) == 2:
        return (
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: pip uninstall"
            " both, then pip install 'latency-profiler[cpu]' or 'latency-profiler[gpu]'"
        )
    if find_spec("onnxruntime") is None:
        return f"onnxruntime is not installed: pip install 'latency-profiler[{_extra(placement)}]'"
    return None


def unsupported(placement: Placement) -> str | None:
    """Return why an installed ONNX Runtime cannot serve ``placement``, with the remedy, or None where it can."""
    import onnxruntime as ort

    kind = placement.device_type
    if kind not in PROVIDERS:
        return f"onnxruntime runs on {' and '.join(PROVIDERS)}, not on {placement.device!r}: use one of them"
    if placement.precision == "bf16":
        return f"ONNX opset {OPSET} has no bf16 convolution: use precision fp32, or fp16 on a GPU"
    if without_kernels(placement.precision, placement):
        return (
            "onnxruntime has no fp16 kernels for x86 and would compute in fp32: use precision fp32, or for an ONNX file"
            " in fp16 a GPU (--device cuda)"
        )
    if kind == "cpu" and placement.memory_format != "contiguous":
        return "onnxruntime chooses its own layout on the CPU (blocks of channels): use memory_format contiguous"
    if PROVIDERS[kind] not in ort.get_available_providers():
        return (
            f"{distribution()} {ort.__version__} has no {PROVIDERS[kind]}: pip uninstall"
            f" {distribution()}, then pip install 'latency-profiler[{_extra(placement)}]'"
        )
    return devices.unavailable(placement.device) or devices.arithmetic_unavailable(placement)


def _extra(placement: Placement) -> str:
    return "gpu" if placement.device_type == "cuda" else "cpu"


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def distribution() -> str:
    """Return the name of the distribution that is installed."""
    return "onnxruntime-gpu" if _installed("onnxruntime-gpu") else "onnxruntime"
