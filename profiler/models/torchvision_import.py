"""torchvision without its compiled operators, as a build for CUDA is beside a CPU build of torch.

Its import then stops where it declares those operators to torch, and with it that of timm and of most networks of
transformers. Without that one module torchvision is whole but for the models that call such an operator.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from profiler.errors import UserError

_DECLARING = "torchvision._meta_registrations"


def import_without_operators() -> None:
    """From now on let this process import torchvision where its operators do not load."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the module that declares operators as Python would; leave all others to Python."""
        found = PathFinder.find_spec(fullname, path, target) if fullname == _DECLARING else None
        if found is not None and found.loader is not None:
            found.loader = _Tolerant(found.loader)
        return found


class _Tolerant(Loader):
    def __init__(self, own: Loader) -> None:
        self._own = own

    def exec_module(self, module: ModuleType) -> None:
        """Run the module as far as the operators that it declares are there."""
        try:
            self._own.exec_module(module)
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise
            # torchvision's own sentence names five causes and not this one.
            vars(sys.modules["torchvision.extension"])["_assert_has_ops"] = _refuse_operator


def _refuse_operator() -> None:
    raise UserError(
        "the model calls an operator that torchvision compiles (nms, roi_align or another), and those of the installed "
        "torchvision do not load beside this torch: install the torchvision that was built for it"
    )
