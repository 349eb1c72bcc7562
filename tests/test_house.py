"""The rules of the house that no other tool checks: sizes, and one name for one thing."""

from __future__ import annotations

import ast
from collections import defaultdict

import pytest

from tests import ROOT

FILES = sorted(path for top in ("profiler", "backends") for path in (ROOT / top).rglob("*.py"))
TREES = {path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
PLACES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def test_no_file_is_longer_than_350_lines() -> None:
    assert [path for path in FILES if len(path.read_text(encoding="utf-8").splitlines()) > 350] == []


def test_no_function_is_longer_than_60_lines() -> None:
    functions = [node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, PLACES[:2])]
    assert len(functions) > 1000
    assert [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= 60] == []


@pytest.mark.parametrize("top", ["profiler", "backends"])
def test_no_two_public_classes_or_functions_share_a_name(top: str) -> None:
    homes = defaultdict(set)
    for path, tree in TREES.items():
        if path.parts[0] == top and "backends" not in path.parts[1:]:
            for node in tree.body:
                if isinstance(node, PLACES) and not node.name.startswith("_"):
                    homes[node.name].add(str(path))
    assert len(homes) > 40
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}
