"""Answers of many workers are fetched together, and what is wrong with one costs no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from profiler.run.errand import Lost, Missing, answered_text
from profiler.run.fleet import Fleet, Member
from profiler.run.meeting import Meeting


@dataclass
class _Future:
    client: _Client
    key: str
    text: object = ""
    status: str = "pending"
    called: list[Callable[[Any], None]] = field(default_factory=list)

    def add_done_callback(self, call: Callable[[Any], None]) -> None:
        self.called.append(call)

    def land(self, text: object, status: str = "finished") -> None:
        self.text, self.status = text, status
        for call in self.called:
            call(self)

    def result(self, timeout: float) -> object:
        assert timeout
        self.client.questions += 1
        if self.status == "error":
            raise OSError("the worker is gone")
        return self.text

    def release(self) -> None:
        self.client.said.append(f"release {self.key[-1]}")


class _Client:
    """As much of the engine's client as a fleet uses."""

    def __init__(self) -> None:
        self.futures: list[_Future] = []
        self.questions, self.broken = 0, False
        self.said: list[str] = []

    def submit(self, *_: object, key: str, **__: object) -> _Future:
        self.said.append(f"submit {key[-1]}")
        self.futures.append(_Future(self, key))
        return self.futures[-1]

    def sync(self, call: Callable[..., Any], *, callback_timeout: float) -> Any:
        assert callback_timeout
        return call()

    def gather(self, futures: list[_Future], *, asynchronous: bool) -> list[object]:
        assert asynchronous
        self.questions += 1
        if self.broken:
            raise OSError("lost")
        return [future.text for future in futures]


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setattr(Fleet, "connect", lambda _self: None)
    made = Fleet(Meeting("tcp://127.0.0.1:1"))
    made._client = _Client()
    return made


def sent(fleet: Fleet, count: int) -> list[_Future]:
    for n in range(count):
        assert fleet.send_file(Member(f"tcp://{n}", known=None), str(n), b"") == n  # type: ignore[arg-type]
    return fleet._client.futures  # type: ignore[no-any-return]


def all_landed(fleet: Fleet) -> dict[int, Any]:
    return dict(iter(lambda: fleet.landed(0.0), None))


def test_answers_that_are_there_are_fetched_with_one_question(fleet: Fleet) -> None:
    futures = sent(fleet, 4)
    assert fleet.landed(0.01) is None
    for n in (2, 0, 1):
        futures[n].land(answered_text(Missing((str(n),))))
    assert all_landed(fleet) == {n: Missing((str(n),)) for n in (0, 1, 2)}
    assert fleet._client.questions == 1
    futures[3].land("")
    assert fleet.landed(1.0) == (3, None)


@pytest.mark.parametrize("broken", [False, True])
def test_what_is_lost_costs_no_other_answer(fleet: Fleet, broken: bool) -> None:
    futures = sent(fleet, 4)
    fleet._client.broken = broken
    futures[0].land(answered_text(Lost("full")))
    futures[1].land(None, "error")
    futures[2].land(b"a pickle")
    futures[3].land("")
    found = all_landed(fleet)
    assert found.pop(2).reason.startswith("an answer is text")
    assert found == {0: Lost("full"), 1: Lost("the worker is gone"), 3: None}


def test_an_errand_is_sent_before_the_engine_is_told_to_forget_another(fleet: Fleet) -> None:
    futures = sent(fleet, 1)
    futures[0].land("")
    assert fleet.landed(1.0) == (0, None)
    fleet.send_file(Member("tcp://0", known=None), "x", b"")  # type: ignore[arg-type]
    assert fleet.landed(0.01) is None
    assert fleet._client.said == ["submit 0", "submit 1", "release 0"]


def test_what_was_given_up_is_not_heard_of(fleet: Fleet) -> None:
    futures = sent(fleet, 2)
    fleet.give_up(0)
    for future in futures:
        future.land("")
    assert all_landed(fleet) == {1: None}
