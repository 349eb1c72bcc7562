"""A torch module with its example, however it was come by, as a backend takes it."""

from __future__ import annotations

import inspect
import random
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from profiler.backends.base import Model
from profiler.backends.inputs import Inputs
from profiler.backends.torch_tree import duplicated, evaluated
from profiler.errors import UserError
from profiler.models import content
from profiler.models.counting import count
from profiler.models.examples import batched, from_file, image_height, of_example, shaped
from profiler.models.loaded import Asked, Loaded
from profiler.models.shapes import parse_shapes

if TYPE_CHECKING:
    from torch import nn

    from profiler.backends.inputs import Array
    from profiler.models.complexity import Complexity


def from_module(
    module: nn.Module,
    example: object,
    asked: Asked,
    code: str = "",
    dimensions: tuple[str, ...] = (),
    *,
    again: Callable[[], nn.Module] | None = None,
) -> Loaded:
    """Return ``module`` with inputs like ``example``.

    Args:
        module: In any mode; it is put into evaluation mode.
        example: One tensor, a tuple by position, a dict by keyword, or (tuple, dict); what is no tensor is passed on.
        asked: Shapes, values and batch.
        code: Digest of the code that made it.
        dimensions: Names of shapes that whoever made it has understood.
        again: Makes another one like it, where it cannot be copied.
    """
    try:
        module = evaluated(module)
        numbers = (*module.parameters(), *module.buffers())
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"model {asked.model!r} is a module that torch cannot walk through ({type(error).__name__}: {said}); "
            "expected one whose eval() and parameters() work"
        ) from error
    if any(value.is_meta for value in numbers):
        raise UserError(
            f"model {asked.model!r} has weights on the meta device, which holds no numbers; expected them on the CPU"
        )
    given = example if isinstance(example, Inputs) else _given(module, example, asked)
    shapes = parse_shapes(asked.shape) if asked.shape else {}
    one = shaped(from_file(given, asked), shapes, asked, dimensions)
    _initialise(module, one)
    digest = content.of_parts(code, content.of_module(module), content.of_inputs(one))
    model = Model(digest, lambda: _copied(module, asked, again and (lambda: _anew(again, one))), cache=asked.cache)
    height = image_height([array.shape for array in one.arrays.values()])
    kept = _kept(module, one)
    return Loaded(model, batched(one, asked), digest, lambda: _counted(module, one), height, kept=kept)


def _given(module: nn.Module, example: object, asked: Asked) -> Inputs:
    try:
        given = of_example(example, argument_names(module))
    except (RuntimeError, TypeError, NotImplementedError) as error:
        said = str(error).partition("\n")[0]
        raise UserError(
            f"model {asked.model!r}: its example cannot be read ({said}); expected dense tensors that hold numbers"
        ) from error
    if not given.arrays:
        raise UserError(f"model {asked.model!r}: its example {example!r:.80} holds no tensor; expected at least one")
    return given


def _anew(again: Callable[[], nn.Module], inputs: Inputs) -> nn.Module:
    module = evaluated(again())
    _initialise(module, inputs)
    return module


def _copied(module: nn.Module, asked: Asked, again: Callable[[], nn.Module] | None) -> nn.Module:
    """Return a copy of ``module`` that its user may change; where there is none, the same made once more."""
    try:
        return duplicated(module)
    except Exception as error:
        made = again() if again else None
        if made is not None and content.of_module(made) == content.of_module(module):
            return made
        said = str(error).partition("\n")[0]
        raise UserError(
            f"model {asked.model!r} cannot be copied ({type(error).__name__}: {said}), and every use needs its own; "
            "let its module support copy.deepcopy"
        ) from error


def _initialise(module: nn.Module, inputs: Inputs) -> None:
    """Run ``module`` once where it has lazy layers, which learn their sizes from what they are given."""
    import torch
    from torch.nn.parameter import is_lazy

    if not any(map(is_lazy, (*module.parameters(), *module.buffers()))):
        return
    args, kwargs = _tensors(module, inputs)
    torch.manual_seed(0)
    with torch.no_grad():
        module(*args, **kwargs)


def _tensors(module: nn.Module, inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return ``inputs`` as tensors for ``module`` as it is; those in fp32 in the one type that all its floats have.

    Arrays know no bf16, and what is drawn is in fp32.
    """
    import torch

    kinds = {one.dtype for one in module.parameters() if one.is_floating_point()}
    kind = torch.bfloat16 if torch.bfloat16 in kinds else kinds.pop() if len(kinds) == 1 else torch.float32

    def put(_: str, array: Array) -> torch.Tensor:
        tensor = torch.tensor(array)
        return tensor.to(kind) if tensor.dtype == torch.float32 else tensor

    return inputs.mapped(put)


def _kept(module: nn.Module, inputs: Inputs) -> dict[str, str]:
    """Return the precision of most of the weights, or of the example, and their layout, if not the usual."""
    import torch

    types, layouts = Counter[str](), Counter[bool]()
    for one in module.parameters():
        types[str(one.dtype).removeprefix("torch.")] += one.numel()
        if one.ndim == 4 and not (one.is_contiguous() and one.is_contiguous(memory_format=torch.channels_last)):
            layouts[one.is_contiguous(memory_format=torch.channels_last)] += one.numel()
    kinds = [*(kind for kind, _ in types.most_common(1)), *(array.dtype.name for array in inputs.arrays.values())]
    half = {"float16": "fp16", "bfloat16": "bf16"}.get(kinds[0], "")
    last = "channels_last" if layouts[True] > layouts[False] else ""
    return {name: value for name, value in (("precision", half), ("memory_format", last)) if value}


def _counted(module: nn.Module, inputs: Inputs) -> Complexity:
    args, kwargs = _tensors(module, inputs)
    return count(module, args, kwargs)


def argument_names(module: nn.Module) -> tuple[str, ...]:
    """Return what the positional arguments of a module's forward are called; nothing where it does not say."""
    schema = _schema(module)
    if schema is not None:
        return schema
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(parameter.name for parameter in parameters if parameter.kind in kinds)


def _schema(module: Any) -> tuple[str, ...] | None:
    """Return the names that TorchScript keeps of a forward; None for a module of Python."""
    try:
        return tuple(argument.name for argument in module.forward.schema.arguments[1:])
    except (AttributeError, RuntimeError):
        return None


def seed_all() -> None:
    """Seed every generator that a user's code may draw from without one of its own."""
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the user's code may draw from it
    torch.manual_seed(0)


def lacks(name: str, module: str) -> UserError:
    """Return the error of a model that imports what is not there."""
    return UserError(
        f"model {name!r} imports {module!r}, which this Python does not have: install what provides it "
        f"({sys.executable} -m pip install ...), or run the profiler with the Python that has it"
    )


def called(make: Callable[[], Any], name: str) -> Any:
    """Return what ``make`` returns with every generator seeded; raises UserError with the line that failed."""
    seed_all()
    try:
        return make()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name:
            raise lacks(name, error.name) from error
        at = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"model {name!r} could not be built: {type(error).__name__}: {said} ({at.filename}:{at.lineno}); "
            "expected a function that returns a torch module"
        ) from error
