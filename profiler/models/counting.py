"""Counts of any torch module: one forward is watched, operator by operator.

The conventions are those of ``profiler.models.complexity``. Attention counts as its two products; a recurrent layer as
its matrix products without biases, and its output sequence as acts.

torch is imported when a function is called and not before: this module is on the path of commands that never run a
network.
"""

from __future__ import annotations

import copy
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

from profiler.backends.base import BackendError
from profiler.backends.torch_tree import computes_later, tensors, wants_gradients
from profiler.errors import UserError
from profiler.models.complexity import Complexity
from profiler.models.operators import total

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import torch
    from torch import Tensor, nn

    from profiler.models.watching import OperatorWatch

    _Mode = Callable[[], AbstractContextManager[object]]


class KeepsError(UserError):
    """A model looks up more than half of what an earlier forward computed of its inputs."""


def count(
    module: nn.Module, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, *, examples: int = 1
) -> Complexity:
    """Count a module by watching one forward pass in evaluation mode.

    What runs is a copy that shares the parameters alone: modes, buffers, hooks, inputs and random numbers stay as they
    were.

    Args:
        module: Any module: of Python, scripted, traced, frozen, exported or compiled.
        args: Inputs of the forward pass, on the device of the module. On the meta device counting costs neither memory
            nor arithmetic.
        kwargs: Inputs by keyword.
        examples: How many examples the inputs hold.

    Returns:
        Counts for one example.

    Raises:
        UserError: The forward pass fails.
        KeepsError: It looks up most of what it computed before.
    """
    import torch

    module = getattr(module, "_orig_mod", module)  # what torch.compile keeps the original under
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return _watched(module, args, kwargs or {}, examples, torch.inference_mode)
            except RuntimeError as error:
                if not wants_gradients(error):
                    raise
                return _watched(module, args, kwargs or {}, examples, torch.no_grad)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"could not be counted: {type(error).__name__}: {said}") from error


def _watched(
    module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], examples: int, mode: _Mode
) -> Complexity:
    from torch.nn.parameter import is_lazy

    from profiler.models.watching import OperatorWatch

    copied, args, kwargs = _copied(module, tuple(args), dict(kwargs))
    others = _others(args, kwargs)

    def ran(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[OperatorWatch, Any]:
        watch = OperatorWatch(_learned(copied))
        with _drawing_alike(copied), _threads_seen(watch.unknown), watch:
            return watch, copied(*args, **kwargs)

    with _evaluating(copied), _plainly(mode):
        watch, made = ran(args, kwargs)
        try:
            other, differs = ran(*others)
        except Exception:  # noqa: BLE001 - values that the model may refuse
            others = args, kwargs
            other, differs = ran(*others)
        _check_computes(watch, other, ran(*others)[0], same=_equal(made, differs))
        if other.elements < watch.elements:  # the first forward set up what later ones use
            watch, made = ran(args, kwargs)
    if computes_later(made):
        raise UserError(
            f"could not be counted: the model returned a {type(made).__name__}, which computes when it is read"
        )
    # A copy of a scripted module shares nothing, not even within itself; a lazy one has its sizes in the copy alone.
    sized = copied if any(map(is_lazy, module.parameters())) else module
    params = sum(tensor.numel() for tensor in _learned(sized)) + sum(watch.packed.values())
    return total(watch.operations, params, [*watch.unknown, *_undispatched(module)], examples)


def _others(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs of other values: floats halved and moved by a quarter, so none leaves 0 to 1; else integers in reverse."""
    import torch
    from torch.utils._pytree import tree_leaves, tree_map

    def dense(one: object) -> bool:
        return isinstance(one, torch.Tensor) and one.layout == torch.strided and one.dim() > 0

    floats = any(dense(one) and one.is_floating_point() for one in tree_leaves((args, kwargs)))

    def changed(one: Any) -> Any:
        if not dense(one) or one.is_floating_point() != floats:
            return one
        return one.detach() / 2 + 0.25 if floats else one.flip(-1)

    args, kwargs = tree_map(changed, (args, kwargs))
    return args, kwargs


def _check_computes(first: OperatorWatch, other: OperatorWatch, again: OperatorWatch, *, same: bool) -> None:
    """Refuse a model that looks results up.

    What a first forward does and no later one is setting up, unless the results are the ``same`` for other inputs.

    Args:
        first: A forward of the example.
        other: One of other values, after it.
        again: One of these once more.
        same: Whether the first two gave the same.
    """
    pairs = [(other.elements, again.elements), *([(first.elements, other.elements)] if same else [])]
    for whole, rest in pairs:
        if rest < whole / 2:
            raise KeepsError(
                f"the model keeps what it computed: a second forward of the same input does {rest / whole:.0%} of the "
                "work of the first, and its latency would be that of looking the rest up; let every forward compute"
            )


def _equal(made: object, other: object) -> bool:
    """Whether two forwards gave the same tensors; no, where these hold no numbers."""
    import torch

    try:
        return all(map(torch.equal, tensors(made), tensors(other)))
    except (BackendError, RuntimeError):
        return False


def _copied(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    """Copy everything but parameters, which a forward does not change; what cannot be copied runs as it is."""
    from torch import Tensor
    from torch.nn.parameter import is_lazy

    held = (value for part in module.modules() for value in vars(part).values())
    computed = (one for one in held if isinstance(one, Tensor) and not one.is_leaf)
    shared = [*(one for one in module.parameters() if not is_lazy(one)), *computed]
    try:
        return copy.deepcopy((module, args, kwargs), {id(one): one for one in shared})
    except Exception:  # noqa: BLE001 - whatever the parts of a user's module raise
        return module, args, kwargs


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = {part: part.training for part in module.modules() if hasattr(part, "training")}  # not in a frozen one
    try:
        module.eval()
    except NotImplementedError:  # an exported module runs in the mode that it was exported in
        training = {}
    try:
        yield
    finally:
        for part, mode in training.items():
            part.training = mode


@contextmanager
def _plainly(mode: _Mode) -> Iterator[None]:
    """Run operator by operator, in a mode without gradients: nothing compiled or fused."""
    import torch
    from torch.backends import mha

    fast = mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(mode())
        stack.enter_context(torch.jit.optimized_execution(should_optimize=False))  # type: ignore[attr-defined]
        if "torch._dynamo" in sys.modules:  # nothing can be compiled where it was never imported
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.callback(mha.set_fastpath_enabled, fast)
        mha.set_fastpath_enabled(False)
        yield


@contextmanager
def _drawing_alike(module: nn.Module) -> Iterator[None]:
    """Put random numbers back, so that every forward draws the same ones."""
    import numpy as np
    import torch

    devices = {one.device for one in module.parameters() if one.device.type == "cuda"}
    python, state = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's code may draw from it
    try:
        with torch.random.fork_rng(list(devices)):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(state)  # noqa: NPY002 - see above


@contextmanager
def _threads_seen(unknown: set[str]) -> Iterator[None]:
    """Note that threads were given work, in which no operator can be watched."""

    def noting(call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            unknown.add("operators in threads of the model")
            return call(*args, **kwargs)

        return noted

    with ExitStack() as stack:
        for kind, name in ((threading.Thread, "start"), (ThreadPoolExecutor, "submit")):
            stack.enter_context(mock.patch.object(kind, name, noting(getattr(kind, name))))
        yield


def _learned(module: nn.Module) -> Iterable[Tensor]:
    """Each parameter once, also where two share their memory; frozen modules have theirs as constants."""
    from profiler.models.watching import storage

    frozen = [scripted for scripted in _scripted(module) if not [*scripted.parameters()]]
    found = [*module.parameters(), *(one for scripted in frozen for one in _constants(scripted))]
    return {(storage(one), one.storage_offset(), one.shape): one for one in found}.values()


def _constants(scripted: torch.jit.ScriptModule) -> Iterator[Tensor]:
    """Constants that were learned: no numbers without a dimension, and no running numbers of a batch norm."""
    running = {("aten::batch_norm", 3), ("aten::batch_norm", 4)}
    for node in _nodes(scripted):
        constant = node.kind() in {"prim::Constant", "prim::ConstantMKLDNNTensor"} and node.hasAttribute("value")
        if constant and node.kindOf("value") == "t":
            tensor: Tensor = node.t("value")
            uses = {(use.user.kind(), use.offset) for use in node.output().uses()}
            if tensor.dim() and tensor.is_floating_point() and not uses <= running:
                yield tensor


def _undispatched(module: nn.Module) -> set[str]:
    """Operators of scripted modules that the interpreter runs by itself, where nobody can watch."""
    from profiler.models.rules import may_multiply

    kinds = {node.kind() for scripted in _scripted(module) for node in _nodes(scripted)}
    return {kind for kind in kinds if kind.startswith("prim::") and may_multiply(kind)}


def _scripted(module: nn.Module) -> list[torch.jit.ScriptModule]:
    """The scripted modules that no other one contains."""
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        return [module]
    return [one for child in module.children() for one in _scripted(child)]


def _nodes(scripted: torch.jit.ScriptModule) -> Iterator[Any]:
    graph = scripted.inlined_graph  # held: nodes die with it
    waiting = [*graph.nodes()]
    while waiting:
        node = waiting.pop()
        waiting += [inner for block in node.blocks() for inner in block.nodes()]
        yield node
