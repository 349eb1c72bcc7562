"""The parent of visits: processes, rounds, calibrations, and what is shown meanwhile.

Called, it measures a plan: ``profiler.run("quick", time="1min")`` is ``profiler.api.run_plan``.
"""

import importlib
import sys
import types
from typing import Any


class _Callable(types.ModuleType):
    """A package that is also the function of its name, which Python would hide behind the package."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return importlib.import_module("profiler.api").run_plan(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
