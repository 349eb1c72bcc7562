"""Traces of torch modules, and what they fix: decisions that a module takes by values it computes."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

# The calls made here that newer versions of torch deprecate, in their words.
_CALLS = "trace|trace_method|freeze|save|load|optimize_for_inference"
_DEPRECATED = rf"`torch\.jit\.({_CALLS})` is (deprecated|not supported in)"


@contextmanager
def deprecation_silenced() -> Iterator[None]:
    """Keep torch from saying that TorchScript is deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_DEPRECATED, category=DeprecationWarning)
        yield


def traced(module: nn.Module, tensors: tuple[torch.Tensor, ...]) -> nn.Module:
    """Return the trace of ``module``, its outputs not compared: that is done with all that is measured."""
    import torch

    with deprecation_silenced():
        return torch.jit.trace(module, tensors, check_trace=False)  # type: ignore[no-untyped-call, no-any-return]


def scripted_within(module: nn.Module) -> bool:
    """Whether ``module`` has parts that TorchScript compiled."""
    import torch

    return any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())


class Fixed:
    """Says in one sentence what a trace has fixed; nothing where it fixed nothing."""

    def __init__(self, places: list[str]) -> None:
        self._places = places
        self.converted = False

    @property
    def note(self) -> str:
        """The sentence, or an empty text."""
        if not (self.converted and self._places):
            return ""
        return (
            "the trace fixes what the model decides by values that it computes "
            f"({self._places[0]}): other inputs may take other turns in eager"
        )


@contextmanager
def watching(module: nn.Module, tensors: tuple[torch.Tensor, ...]) -> Iterator[Fixed]:
    """Give what a trace of ``module`` that is taken inside the context fixes; runs the module once before."""
    fixed = Fixed(_values_read(module, tensors))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield fixed
    converted = [warning for warning in said if warning.category.__name__ == "TracerWarning"]
    fixed.converted = bool(converted)
    for warning in said:
        if warning.category.__name__ != "TracerWarning":
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _values_read(module: nn.Module, tensors: tuple[torch.Tensor, ...]) -> list[str]:
    """Return where ``module`` reads values of tensors in a forward, as ``file.py:12``."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    places: list[str] = []

    class Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
        """Notes every read of a value into Python."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func.name() == "aten::_local_scalar_dense":
                places.append(_caller())
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Reads():  # type: ignore[no-untyped-call]
        module(*tensors)
    return places


def _caller() -> str:
    """Return the innermost line that is neither torch's nor ours."""
    import torch

    ours = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
    frames = [frame for frame in traceback.extract_stack() if not frame.filename.startswith(ours)]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
