"""The pytest side: what a test hands to the fixture ``latency_gate``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from profiler.testing.arguments import onnx, torch_model, zoo

__all__ = ["onnx", "torch_model", "zoo"]


def __getattr__(name: str) -> Any:
    """Import what tests hand over when a test asks for it: every pytest run imports this package for the plugin."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("profiler.testing.arguments"), name)
