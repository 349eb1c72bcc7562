"""The states in which a process may be when torch is to compute in fp32, set by a model's author or by a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_B = torch.backends


def _set(owner: Any, **switch: object) -> Callable[[], None]:
    ((name, value),) = switch.items()
    return lambda: setattr(owner, name, value)


#: Each by itself makes something else of fp32, or costs something else, than torch does by default.
LEAKS: dict[str, Callable[[], object]] = {
    "allow_tf32 of cuBLAS": _set(_B.cuda.matmul, allow_tf32=True),
    "allow_tf32 of cuDNN": _set(_B.cudnn, allow_tf32=True),
    "matmul precision high": lambda: torch.set_float32_matmul_precision("high"),
    "matmul precision medium": lambda: torch.set_float32_matmul_precision("medium"),
    "cuDNN's benchmark": _set(_B.cudnn, benchmark=True),
    "cuDNN off": _set(_B.cudnn, enabled=False),
    "cuDNN deterministic": _set(_B.cudnn, deterministic=True),
    "oneDNN off": lambda: _B.mkldnn.set_flags(_enabled=False),
    "fp16 accumulation": _set(_B.cuda.matmul, allow_fp16_accumulation=True),
    "no fp16 reduction": _set(_B.cuda.matmul, allow_fp16_reduced_precision_reduction=(False, False)),
    "deterministic algorithms": lambda: torch.set_deterministic_debug_mode("error"),
    "threads": lambda: torch.set_num_threads(3),
}
if hasattr(_B.cuda.matmul, "fp32_precision"):
    LEAKS |= {
        "tf32 for CUDA's products": _set(_B.cuda.matmul, fp32_precision="tf32"),
        "tf32 for cuDNN's convolutions": _set(_B.cudnn.conv, fp32_precision="tf32"),
        "tf32 for cuDNN": _set(_B.cudnn, fp32_precision="tf32"),
        "tf32 for all": _set(_B, fp32_precision="tf32"),
        "ieee for all": _set(_B, fp32_precision="ieee"),
        "bf16 for all": _set(_B, fp32_precision="bf16"),
        "bf16 for oneDNN's products": _set(_B.mkldnn.matmul, fp32_precision="bf16"),
        "bf16 for oneDNN's convolutions": _set(_B.mkldnn.conv, fp32_precision="bf16"),
    }
    for _name in ("allow_tf32 of cuBLAS", "allow_tf32 of cuDNN", "matmul precision high"):
        LEAKS |= {
            f"{_name}, then ieee by the newer switches": lambda old=LEAKS[_name]: (
                old(),
                setattr(_B.cuda.matmul, "fp32_precision", "ieee"),
                setattr(_B.cudnn.rnn, "fp32_precision", "ieee"),
            )
        }

#: torch's defaults for a session and for the reference: TF32 nowhere, cuDNN by heuristic.
FP32 = {
    "products": "ieee",
    "convolutions": "ieee",
    "recurrent": "ieee",
    "host products": "ieee",
    "host convolutions": "ieee",
    "host recurrent": "ieee",
    "allow_tf32 of cuBLAS": False,
    "allow_tf32 of cuDNN": False,
    "matmul precision": "highest",
    "cuDNN": (True, False, False),
}
#: What the reference needs beyond it.
PLAIN = FP32 | {"oneDNN": True, "half": (True, True, False), "deterministic": 0}


def seen() -> dict[str, object]:
    """Return the switches in force now; ``refused`` where torch does not tell, because older and newer ones differ."""

    def told(ask: Callable[[], object]) -> object:
        try:
            return ask()
        except RuntimeError:
            return "refused"

    matmul = _B.cuda.matmul
    newer = {
        "products": matmul,
        "convolutions": getattr(_B.cudnn, "conv", None),
        "recurrent": _B.cudnn.rnn,
        "host products": getattr(_B.mkldnn, "matmul", None),
        "host convolutions": getattr(_B.mkldnn, "conv", None),
        "host recurrent": getattr(_B.mkldnn, "rnn", None),
    }
    return {name: getattr(operation, "fp32_precision", "ieee") for name, operation in newer.items()} | {
        "allow_tf32 of cuBLAS": told(lambda: matmul.allow_tf32),
        "allow_tf32 of cuDNN": told(lambda: _B.cudnn.allow_tf32),
        "matmul precision": told(torch.get_float32_matmul_precision),
        "cuDNN": (_B.cudnn.enabled, _B.cudnn.benchmark, _B.cudnn.deterministic),
        "oneDNN": _B.mkldnn.enabled,
        "half": (
            matmul.allow_fp16_reduced_precision_reduction,
            matmul.allow_bf16_reduced_precision_reduction,
            getattr(matmul, "allow_fp16_accumulation", False),
        ),
        "libraries": [getattr(library, "fp32_precision", "none") for library in (_B, _B.cudnn, _B.mkldnn)],
        "split": getattr(matmul, "allow_fp16_reduced_precision_reduction_split_k", None),
        "deterministic": torch.get_deterministic_debug_mode(),
        "threads": torch.get_num_threads(),
    }


def only(found: dict[str, object], names: dict[str, object]) -> dict[str, object]:
    """Return the part of ``found`` of which ``names`` speaks."""
    return {name: value for name, value in found.items() if name in names}


@contextmanager
def untouched() -> Iterator[None]:
    """Set everything as torch has it at first, now and at the end."""

    def reset() -> None:
        if hasattr(_B, "fp32_precision"):
            _B.fp32_precision = _B.cudnn.fp32_precision = "none"
            _B.mkldnn.set_flags(_fp32_precision="none")
        torch.set_float32_matmul_precision("highest")
        for name in ("matmul", "conv", "rnn"):
            if hasattr(_B.mkldnn, name):
                getattr(_B.mkldnn, name).fp32_precision = "none"
        if hasattr(_B.cuda.matmul, "fp32_precision"):
            _B.cuda.matmul.fp32_precision = "none"
            _B.cudnn.conv.fp32_precision = _B.cudnn.rnn.fp32_precision = "tf32"
        _B.cudnn.allow_tf32 = True
        _B.cudnn.enabled, _B.cudnn.benchmark, _B.cudnn.deterministic = True, False, False
        if not _B.mkldnn.enabled:
            _B.mkldnn.set_flags(_enabled=True)
        for name, value in (("fp16_reduced_precision_reduction", True), ("fp16_accumulation", False)):
            if hasattr(_B.cuda.matmul, f"allow_{name}"):
                setattr(_B.cuda.matmul, f"allow_{name}", value)
        torch.set_deterministic_debug_mode(0)

    threads = torch.get_num_threads()
    reset()
    try:
        yield
    finally:
        reset()
        torch.set_num_threads(threads)
