"""Plugins and settings of the whole suite."""

from __future__ import annotations

from hypothesis import settings

pytest_plugins = ["pytester", "tests.machine.nvml_stub"]

# A busy neighbour must not turn a law red, and a red one must be red again.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")
