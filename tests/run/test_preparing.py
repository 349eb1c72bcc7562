"""Exports are made once, before anything is timed, and as many at once as there are cores."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from profiler.backends.base import Placement
from profiler.machine import host
from profiler.measure.ahead import make_ahead
from profiler.measure.visit import Task
from profiler.records.types import Budget, Case, Failure
from profiler.run.child import Limits
from profiler.run.preparing import prepare_exports


class Counted:
    """An executor that notes what it is asked, and answers; the first two calls wait for each other."""

    def __init__(self, answer: Any = True, meet: threading.Barrier | None = None) -> None:
        self.answer, self.meet = answer, meet
        self.asked: list[Case] = []
        self.closed = 0

    def call(self, function: Any, argument: Any, timeout_s: float, limits: Limits) -> Any:
        assert function is make_ahead
        assert isinstance(argument, Task)
        if self.meet:
            self.meet.wait(10)
        self.asked.append(argument.case)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def close(self) -> None:
        self.closed += 1


def case(model: str, backend: str = "onnxruntime", **fields: Any) -> Case:
    return Case(model, "", 1.0, backend, Placement(), content="c0ffee", **fields)


def go(tmp_path: Path, executor: Counted, *cases: Case) -> list[tuple[int, int]]:
    told: list[tuple[int, int]] = []
    prepare_exports(
        cases, tmp_path, Budget(), lambda _: Limits(), lambda: executor, lambda done, total: told.append((done, total))
    )
    return told


def test_what_was_prepared_is_not_prepared_again(tmp_path: Path) -> None:
    first, second = Counted(), Counted()
    assert go(tmp_path, first, case("a"), case("b")) == [(0, 2), (1, 2), (2, 2)]
    assert go(tmp_path, second, case("a"), case("b")) == []
    assert len(first.asked) == 2
    assert first.closed
    assert not second.asked


def test_another_content_is_prepared(tmp_path: Path) -> None:
    go(tmp_path, Counted(), case("a"))
    other = Counted()
    go(tmp_path, other, Case("a", "", 1.0, "onnxruntime", Placement(), content="beef"))
    assert len(other.asked) == 1


@pytest.mark.parametrize("answer", [Failure("error", "no"), False])
def test_what_failed_is_tried_again_next_time(tmp_path: Path, answer: Any) -> None:
    go(tmp_path, Counted(answer), case("a"))
    again = Counted()
    go(tmp_path, again, case("a"))
    assert again.asked


def test_what_has_no_export_is_left_alone(tmp_path: Path) -> None:
    executor = Counted()
    go(tmp_path, executor, case("a", "eager"), case("b", "fake"), case("c", mode="train"))
    assert not executor.asked


def test_two_are_made_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "usable_cores", lambda: 2)
    executor = Counted(meet=threading.Barrier(2))
    go(tmp_path, executor, case("a"), case("b"))
    assert len(executor.asked) == 2


def test_a_cache_that_cannot_be_written_makes_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "prepared").write_text("a file where a folder would be")
    executor = Counted()
    assert go(tmp_path, executor, case("a")) == []
    assert not executor.asked


def test_whoever_stops_it_waits_for_no_export(tmp_path: Path) -> None:
    executor = Counted(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, executor, case("a"))
    assert executor.closed


def test_exports_side_by_side_use_a_thread_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    import torch

    from profiler.measure import ahead

    torch.set_num_threads(2)
    used, load = [], ahead.source.load_model

    def loading(asked: Any) -> Any:
        used.append(torch.get_num_threads())
        return load(asked)

    monkeypatch.setattr(ahead.source, "load_model", loading)
    assert make_ahead(Task(case("tests.measure.asking:model", "torchscript"), Budget(), None, tmp_path))
    assert used == [1]
