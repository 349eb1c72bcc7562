"""Plugins and settings of the whole suite."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

pytest_plugins = ["pytester", "tests.machine.nvml_stub"]

# A busy neighbour must not turn a law red, and a red one must be red again.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")

# Programs and nested runs that tests start are no workers of pytest-xdist, whoever runs this suite.
for _name in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:
    del os.environ[_name]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread: the same numbers, and no wait for a core that another test keeps busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
