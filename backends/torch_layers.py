"""One forward of a torch module, operator by operator, each with the module that is open meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from torch import nn
from torch.nn.modules import module as hooks
from torch.utils._python_dispatch import TorchDispatchMode

from profiler.backends.base import Around


class LayerWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Hands every operator that is dispatched while this is entered to ``around``, with the path of its module.

    In inference mode composite operators (convolution with its padding, attention, recurrent layers) arrive whole.
    Paths start at the first module that is called.
    """

    supports_higher_order_operators = True

    def __init__(self, around: Around) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._around = around
        self._names: dict[nn.Module, str] = {}
        self._open: list[str] = [""]
        self._handles: list[Any] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Else torch imports its compiler for the first operator, which takes seconds."""
        return False

    def __enter__(self) -> LayerWatch:
        """Watch modules too, to know which one is open."""
        enter: Callable[[], LayerWatch] = super().__enter__
        self._handles = [
            hooks.register_module_forward_pre_hook(self._begin),
            hooks.register_module_forward_hook(self._end, always_call=True),
        ]
        return enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Watch no longer."""
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()

    def _begin(self, module: nn.Module, _given: Any) -> None:
        if not self._names:
            self._names = {part: name for name, part in module.named_modules()}
        self._open.append(self._names.get(module, self._open[-1]))

    def _end(self, _module: nn.Module, _given: Any, _made: Any) -> None:
        self._open.pop()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Let ``around`` run one operator."""
        return self._around(self._open[-1], func, args, kwargs or {})
