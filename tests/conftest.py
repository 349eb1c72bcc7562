"""Plugins and settings of the whole suite."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["pytester", "tests.machine.nvml_stub"]

# A busy neighbour must not turn a law red, and a red one must be red again.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")

# Programs and nested runs that tests start are no workers of pytest-xdist, whoever runs this suite.
for _name in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:
    del os.environ[_name]

#: Files whose tests run whole commands in processes of their own, seconds each: an environment of their own has them.
_WHOLE = {
    "analysis/test_own_advise.py",
    "cli/test_own_folders.py",
    "cli/test_terminal.py",
    "cli/test_width.py",
    "gate/test_checkout.py",
    "report/test_extra.py",
    "run/test_fleet.py",
    "run/test_quiet.py",
    "run/test_remote.py",
    "run/test_rounds.py",
    "test_docs.py",
    "test_mutated.py",
    "testing/test_fixture.py",
    "testing/test_live.py",
    "testing/test_own_folders.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that run whole commands."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.path.relative_to(here).as_posix() in _WHOLE:
            item.add_marker("whole")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread: the same numbers, and no wait for a core that another test keeps busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
