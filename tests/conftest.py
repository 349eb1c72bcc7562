"""Plugins of the whole suite."""

from __future__ import annotations

pytest_plugins = ["pytester", "tests.machine.nvml_stub"]
