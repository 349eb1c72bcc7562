"""Traces of torch modules, and what they fix: decisions that a module takes by values it computes."""

from __future__ import annotations

import re
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.backends.base import BackendError

if TYPE_CHECKING:
    import torch
    from torch import nn

# The calls made here that newer versions of torch deprecate, in their words.
_CALLS = "trace|trace_method|freeze|save|load|optimize_for_inference"
# What a trace says where all of a tensor is read at once.
_WHOLE = re.compile("Converting a tensor to a (Python list|NumPy array)")
# What stands between the name of an output and what is wrong with it.
_QUOTED = re.compile(r" \(.*\)(?= of traced region)", re.DOTALL)
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


def save_frozen(module: nn.Module, tensors: tuple[torch.Tensor, ...], path: Path) -> None:
    """Write the frozen trace of ``module``, which must be in evaluation mode.

    Where it can be, weights are constants of the trace from the start: torch takes longer to give every part of a
    network a type of its own, which freezing removes again, than to trace it.
    """
    if not scripted_within(module):
        before = _state(module)
        with _without_gradients(module), suppress(RuntimeError):
            made = traced(_bare()(module), tensors)
            if _state(module) == before:
                _freeze_to(path, made)
                return
    _freeze_to(path, traced(module, tensors))


def _freeze_to(path: Path, trace: nn.Module) -> None:
    import torch

    with deprecation_silenced():
        torch.jit.save(torch.jit.freeze(trace), str(path))


@contextmanager
def _without_gradients(module: nn.Module) -> Iterator[None]:
    """Let no parameter ask for a gradient, as no constant may, and let those that did ask again afterwards."""
    asking = [one for one in module.parameters() if one.requires_grad and one.is_leaf]
    for one in asking:
        one.requires_grad = False
    try:
        yield
    finally:
        for one in asking:
            one.requires_grad = True


def _state(module: nn.Module) -> list[tuple[int, int]]:
    """Return what changes when a forward changes a parameter or buffer: a trace must then keep it as one."""
    return [(id(one), one._version) for one in (*module.parameters(), *module.buffers())]  # noqa: SLF001


@cache
def _bare() -> Any:
    from torch import nn

    class Bare(nn.Module):
        """A module whose parts nothing can find."""

        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.training = False
            self._hidden = (module,)

        def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
            """Return what the hidden module returns."""
            return self._hidden[0](*given)  # type: ignore[no-any-return]

    return Bare


def first_line(error: BaseException) -> str:
    """Return the first line of what torch says, without the numbers of a tensor that it quotes."""
    lines = _QUOTED.sub("", str(error)).strip().splitlines() or [type(error).__name__]
    return lines[0].strip().rstrip(".")[:200]


def scripted_within(module: nn.Module) -> bool:
    """Whether ``module`` has parts that TorchScript compiled."""
    import torch

    return any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())


class Fixed:
    """Says in one sentence what a trace has fixed; nothing where it fixed nothing.

    Attributes:
        numbers: Where numbers are read out of tensors, as ``file.py:12``.
        converted: Whether the trace has said that it fixes something.
    """

    def __init__(self, decisions: list[str], numbers: list[str]) -> None:
        self._decisions, self.numbers = decisions, numbers
        self.converted = False

    @property
    def note(self) -> str:
        """The sentence, or an empty text."""
        places = [*self._decisions, *self.numbers]
        if not (self.converted and places):
            return ""
        return (
            "the trace fixes what the model decides by values that it computes "
            f"({places[0]}): other inputs may take other turns in eager"
        )


@contextmanager
def watching(module: nn.Module, tensors: tuple[torch.Tensor, ...]) -> Iterator[Fixed]:
    """Give what a trace of ``module`` that is taken inside the context fixes; runs the module once before.

    Raises BackendError where the trace would leave out a part of the work, see ``flat``, or where the model compiles
    what only a run by itself can compile.
    """
    try:
        fixed = Fixed(*_values_read(module, tensors))
    except RuntimeError as error:
        if not type(error).__module__.startswith("torch._dynamo"):
            raise
        raise BackendError(
            f"the model compiles a part of itself, which no trace follows ({first_line(error)}): use eager"
        ) from error
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield fixed
    converted = [warning for warning in said if warning.category.__name__ == "TracerWarning"]
    fixed.converted = bool(converted)
    whole = [warning for warning in converted if _WHOLE.search(str(warning.message))]
    fixed.numbers += [f"{Path(warning.filename).name}:{warning.lineno}" for warning in whole]
    if fixed.numbers and getattr(module, "numbers", False):
        raise BackendError(
            f"the model returns numbers that it reads out of tensors ({fixed.numbers[0]}), and a trace leaves out what "
            "those are computed by: let it return tensors, or use eager"
        )
    for warning in said:
        if warning.category.__name__ != "TracerWarning":
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _values_read(module: nn.Module, tensors: tuple[torch.Tensor, ...]) -> tuple[list[str], list[str]]:
    """Return where ``module`` reads truth values, and where numbers, out of tensors in a forward."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    decisions: list[str] = []
    numbers: list[str] = []

    class Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
        """Notes every read of a value into Python."""

        supports_higher_order_operators = True

        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            """Say no: to be skipped it would first be imported, which takes two seconds."""
            return False

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func.name() == "aten::_local_scalar_dense":
                (decisions if args[0].dtype == torch.bool else numbers).append(_caller())
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Reads():  # type: ignore[no-untyped-call]
        module(*tensors)
    return decisions, numbers


def _caller() -> str:
    """Return the innermost line that is neither torch's nor ours."""
    import torch

    ours = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
    frames = [frame for frame in traceback.extract_stack() if not frame.filename.startswith(ours)]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
