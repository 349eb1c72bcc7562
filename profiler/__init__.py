"""What a network costs on your hardware: latency, memory and training time, and what predicts them.

    >>> import profiler
    >>> profiler.latency(net, x)                                        # a torch module, in this process
    >>> profiler.latency("resnet50", backend="eager,onnxruntime")       # a name, in fresh processes
    >>> profiler.compare({"small": a, "large": b}, [x])                 # which is faster, and how surely
    >>> profiler.run("quick", time="1min")                              # a plan, as a data frame

The first three return an ``Answer``: a table that prints itself, with ``.latency_ms``, ``.interval_ms`` and
``.to_pandas()``. From a shell it is ``profiler latency`` and ``profiler run``; ``profiler --help`` lists the rest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from profiler.api import Answer, compare, latency

__version__ = "0.1.0"

__all__ = ["Answer", "__version__", "compare", "latency"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: a command needs little of it."""
    if name in ("Answer", "compare", "latency"):
        return getattr(importlib.import_module("profiler.api"), name)
    if name == "run":
        return importlib.import_module("profiler.run")
    raise AttributeError(f"module 'profiler' has no attribute {name!r}")
