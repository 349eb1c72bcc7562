"""The pytest side: what a test hands to the fixture ``latency_gate``."""

from __future__ import annotations

from profiler.testing.arguments import onnx, torch_model, zoo

__all__ = ["onnx", "torch_model", "zoo"]
