"""Plugins of the whole suite."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the README's commands, which take minutes: begun last, they would keep one of two workers waiting."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/test_readme.py"))
