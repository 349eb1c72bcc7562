"""Watching one forward of a torch module, operator by operator, as torch dispatches them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from profiler.models.operators import Operation
from profiler.models.rules import Arguments, Rule, matrix_product, may_multiply, packed, rule_of

#: Layouts of tensors that hold all elements of their shape.
_DENSE = (torch.strided, torch._mkldnn)  # type: ignore[attr-defined]  # noqa: SLF001 - oneDNN's has no other name


class OperatorWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what every operator costs that is dispatched while this is entered.

    In inference mode composite operators (linear, attention, recurrent layers) arrive whole; one without a rule is
    taken apart into those that it is made of.

    Attributes:
        operations: What ran, in order.
        unknown: Names of operators that may multiply-add and have no rule.
        packed: Sizes of the weights that quantised operators keep packed, by content.
        elements: How many elements operators have read and written.
    """

    supports_higher_order_operators = True

    def __init__(self, learned: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []
        self.unknown: set[str] = set()
        self.packed: dict[int, int] = {}
        self.elements = 0
        self._learned = {storage(tensor) for tensor in learned}
        self._products: set[int] = set()
        self._whole: set[Any] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Else torch imports its compiler for the first operator, which takes seconds."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operator and note what it costs."""
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):
            return self._higher_order(func, args, kwargs)
        schema = func._schema  # noqa: SLF001 - the names of the arguments are nowhere else
        name, rule = schema.name, rule_of(schema.name)
        if rule is None and func not in self._whole:
            with self:
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
            self._whole.add(func)
        out = func(*args, **kwargs)
        self.elements += sum(one.numel() for one in tree_leaves((args, kwargs, out)) if isinstance(one, Tensor))
        if rule is not None or self._products or "quantized" in name or may_multiply(name):
            self._note(schema, rule, _bound(schema, args, kwargs), out)
        return out

    def _note(self, schema: torch.FunctionSchema, rule: Rule | None, given: Arguments, out: Any) -> None:
        self._keep_packed(given)
        if (rule is None and may_multiply(schema.name)) or (rule is not None and not _dense(given)):
            self.unknown.add(schema.name)
        elif rule is not None:
            self.operations += rule(given, out)
        elif schema.name in {"aten::add", "aten::add_"} and isinstance(out, Tensor) and self._adds_bias(given, out):
            self.operations.append(Operation(prod(out.shape)))
        self._follow(schema, given, out)
        if rule is matrix_product and given.get("bias") is None:
            self._products.add(storage(out))

    def _follow(self, schema: torch.FunctionSchema, given: Arguments, out: object) -> None:
        """Forget products whose memory holds something else now; in a view they are what they were."""
        after = {storage(one) for one in _tensors(out)}
        self._products -= after if schema.is_mutable else after - {storage(one) for one in _tensors(given)}

    def _adds_bias(self, given: Arguments, out: Tensor) -> bool:
        pair = [part for part in (given["self"], given["other"]) if isinstance(part, Tensor)]
        rows = [part for part in pair if part.dim() == 1 and storage(part) in self._learned]
        others = [part for part in pair if storage(part) in self._products and part.shape == out.shape]
        return bool(rows and others) and rows[0].shape[0] == out.shape[-1]

    def _keep_packed(self, given: Arguments) -> None:
        for script in tree_leaves(dict(given)):
            if isinstance(script, torch.ScriptObject):
                parts = packed(script)
                self.packed[_content(parts)] = sum(part.numel() for part in parts)

    def _higher_order(self, func: HigherOrderOperator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A condition runs the branch that holds, a wrapper what it wraps; of others only the name is known."""
        name = str(func.name())  # type: ignore[no-untyped-call]
        if name == "cond":
            holds, then, otherwise, operands = args
            with self:
                return (then if holds else otherwise)(*operands)
        if name.startswith("wrap_with"):
            body = next(i for i, part in enumerate(args) if callable(part))
            with self:
                return args[body](*args[body + 1 :])
        self.unknown.add(f"higher_order::{name}")
        return func(*args, **kwargs)


def storage(tensor: Tensor) -> int:
    """Where a tensor's numbers are: the same for views of one memory, on any device."""
    if tensor.layout != torch.strided:  # its memory cannot be told
        return id(tensor)
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 - data_ptr is 0 for all of the meta device


def _bound(schema: torch.FunctionSchema, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """The arguments by name in the order of the schema, its defaults where none was given."""
    given = {**dict(zip((one.name for one in schema.arguments), args, strict=False)), **kwargs}
    return {one.name: given.get(one.name, one.default_value) for one in schema.arguments}


def _tensors(value: object) -> Iterator[Tensor]:
    """The tensors in ``value`` whose memory can be told."""
    for part in tree_leaves(dict(value) if isinstance(value, Mapping) else value):
        if isinstance(part, Tensor) and part.layout == torch.strided and not part.is_nested:
            yield part


def _dense(given: Arguments) -> bool:
    parts = (part for part in tree_leaves(dict(given)) if isinstance(part, Tensor))
    return all(part.layout in _DENSE and not part.is_nested for part in parts)


def _content(parts: Iterable[Tensor]) -> int:
    return hash(
        tuple(
            (part.shape, (part.int_repr() if part.is_quantized else part).detach().numpy().tobytes()) for part in parts
        )
    )
