"""Families of the user's are asked in processes of their own, once each, and break in one sentence."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from profiler.backends.base import Placement
from profiler.errors import UserError
from profiler.measure.families import networks
from profiler.models.brought import Brought, Wanted, counts_of
from profiler.models.complexity import Complexity
from profiler.plan.cases import expand, wanted
from profiler.plan.read import from_flags
from profiler.records.identity import of_network
from profiler.records.types import Case, Failure
from profiler.run.child import Limits
from profiler.run.experiment import measure_into, opened_lab
from profiler.run.families import brought, families
from tests import ROOT
from tests.models.own_families import write_mlp

NAME = "mlp.py:mlp"
STEPS = [Wanted(NAME), Wanted(NAME, "w", 4.0), Wanted(NAME, "d", flops=135_168)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_mlp(tmp_path)
    (tmp_path / "plain.py").write_text(
        "def net():\n    from torch import nn\n    return nn.Linear(4, 2), __import__('torch').ones(1, 4)\n"
    )
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Counting:
    """An executor that answers by itself and keeps what it was asked."""

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self.asked: list[Any] = []
        self.answer = answer

    def call(self, function: Any, argument: Any, timeout_s: float, limits: Limits) -> Any:
        self.asked.append(argument)
        return self.answer(argument)

    def close(self) -> None:
        raise AssertionError("whoever made an executor closes it")


def test_each_family_is_asked_once_with_all_that_is_wanted() -> None:
    executor = Counting(lambda some: {one: Brought(one.model) for one in some} if some[0].model == "a:f" else "no")
    asked = [Wanted("b:f"), Wanted("a:f"), Wanted("b:f", "w", 2.0), Wanted("a:f"), Wanted("a:f", "d", 2.0)]
    found = families(asked, executor)
    assert executor.asked == [(Wanted("a:f"), Wanted("a:f", "d", 2.0)), (Wanted("b:f"), Wanted("b:f", "w", 2.0))]
    assert found[Wanted("b:f", "w", 2.0)] == "no"
    assert found[Wanted("a:f", "d", 2.0)] == Brought("a:f")
    assert families([], executor) == {}


def test_a_process_that_fails_is_one_sentence() -> None:
    with pytest.raises(UserError, match="it burnt"):
        families([Wanted("a:f")], Counting(lambda _: Failure("crashed", "it burnt")))


def test_a_family_answers_from_a_process_of_its_own_and_this_one_imports_neither_it_nor_torch() -> None:
    program = (
        "import sys\nfrom profiler.run.families import families\nfrom profiler.models.brought import Wanted\n"
        f"found = families([Wanted(*step) for step in {[tuple(step) for step in STEPS]!r}])\n"
        "assert not {'torch', 'mlp'} & sys.modules.keys()\n"
        "print(*(f'{one.scaling} {one.factor} {one.counts.flops}' for one in found.values()), sep='\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split("\n") == [" 1.0 67584", "w 4.0 266240", "d 2.0 135168", ""], done.stderr


def test_a_model_of_the_users_that_is_no_family_is_counted_as_it_is() -> None:
    assert counts_of(brought(Wanted("plain.py:net"))) == Complexity(10, 10, 2)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Wanted("plain.py:net", "w", 2.0), r"^plain.py:net cannot be scaled: it has no scale and no build; expected"),
        (Wanted("net.onnx", "w", 2.0), "^net.onnx cannot be scaled: only networks that `profiler models` lists and"),
        (Wanted("broken.py:net", "w", 2.0), "^model 'broken.py:net' imports 'nothing_of_that_name', which"),
    ],
)
def test_what_cannot_be_scaled_is_one_sentence(asked: Wanted, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        brought(asked)
    assert "\n" not in str(caught.value)


def test_rows_of_a_family_have_its_name_its_factors_and_contents_of_their_own(folder: Path) -> None:
    plan = from_flags(models=NAME, backends="fake", scalings="d,dWr", factors="1,2", threads=1, rounds=1, visit_s="1ms")
    found = families(wanted(plan), Counting(networks))
    with opened_lab(plan) as lab:
        measure_into(folder / "out", plan, expand(plan, 1, found), lab)
    with (folder / "out" / "cases.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["scaling"], row["factor"], row["flops"]) for row in rows] == [
        ("", "1.0", "67584"), ("d", "2.0", "135168"), ("dWr", "2.0", "134640"),
    ]  # fmt: skip
    assert {row["family"] for row in rows} == {NAME}
    assert len({row["content"] for row in rows}) == 3
    assert {row["resolution"] for row in rows} == {""}


def test_a_row_has_the_family_of_what_it_scales_where_no_network_was_to_be_had() -> None:
    assert of_network(Case(NAME, "w", 2.0, "eager", Placement()), [])["family"] == NAME
    assert of_network(Case(NAME, "", 1.0, "eager", Placement()), [])["family"] is None
    assert of_network(Case("a_network_of_old", "w", 2.0, "eager", Placement()), [])["family"] is None
