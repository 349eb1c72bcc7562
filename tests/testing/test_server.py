"""The end of a process that runs a test again: its answers, and what must not be imported there."""

from __future__ import annotations

import gc
import itertools
import json
import os
import sys
import types
from collections.abc import Iterator
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from profiler.backends.base import Placement
from profiler.gate.decision import Rule
from profiler.measure import reference, timing, warming
from profiler.measure.visit import Task, visit
from profiler.records.circumstances import Conditions
from profiler.records.nominal import Calibration
from profiler.records.types import Budget, Case, Measurement
from profiler.testing import server
from profiler.testing.arguments import Live, torch_model
from profiler.testing.rerun import from_json
from profiler.testing.server import Server, _foreign
from tests import ROOT


class Conversation:
    """A server whose requests are written before it reads them."""

    def __init__(self) -> None:
        read, self._ask = os.pipe()
        self._answers, self._write = os.pipe()
        self.server = Server(read, self._write)

    def ask(self, *requests: dict[str, Any]) -> None:
        for request in requests:
            os.write(self._ask, json.dumps(request).encode() + b"\n")
        os.close(self._ask)

    def close(self) -> None:
        self.server._requests.close()
        for descriptor in (self._answers, self._write):
            os.close(descriptor)

    def answers(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in os.read(self._answers, 1 << 20).splitlines()]


@pytest.fixture
def conversation() -> Iterator[Conversation]:
    held = Conversation()
    yield held
    held.close()
    # Serving turns it off.
    gc.enable()


def module(backend: str = "eager") -> Live:
    from torch import nn, zeros

    return torch_model(nn.Linear(4, 4), zeros(1, 4), backend=backend)


def test_a_server_serves_slots_of_one_side(conversation: Conversation) -> None:
    conversation.ask({"do": "load", "side": "baseline", "left": ""}, {"do": "ready", "single": False}, {"do": "slot"})
    with pytest.raises(pytest.skip.Exception):
        conversation.server(module(), baseline="git:before @fake:duration_ms=3")
    loaded, ready, slot = conversation.answers()
    assert loaded == {"loaded": True}
    assert ready["facts"]["duration_ms"] == 3
    assert min(slot["ns"]) >= 3e6


def test_a_server_compares_the_baseline_with_a_copy_of_itself(
    conversation: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    kept = server._opened

    def opened(model: Live) -> Any:
        loaded.append(model)
        return kept(model)

    rule = {"max_slowdown": 1.0, "alpha": 0.0025, "looks": [10]}
    conversation.ask({"do": "blocks", "rules": [rule], "seed": 1, "seconds": 9.0, "itself": True})
    old, new = module("fake:duration_ms=2.5"), module("fake:duration_ms=5")
    monkeypatch.setattr(server, "_opened", opened)
    with pytest.raises(pytest.skip.Exception):
        conversation.server(new, baseline=old)
    (answer,) = conversation.answers()
    assert [model.backend for model in loaded] == [old.backend, old.backend]
    assert loaded[0].module is old.module is not loaded[1].module
    assert len(answer["trial"]["blocks"]) == 10


CASE = Case("Linear", "", 1.0, "eager", Placement(threads=1))
BUDGET = Budget(visit_s=0.01, warmup_s=0.1)


def visited(conversation: Conversation, task: Task, backend: str = "eager") -> Measurement:
    conversation.ask({"do": "visit", "task": asdict(task)})
    with pytest.raises(pytest.skip.Exception):
        conversation.server(module(backend), max_latency="1s")
    return from_json(Measurement, conversation.answers()[0]["measurement"])


def test_a_server_measures_with_the_reference(conversation: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    threads: list[int] = []
    kept = reference.Reference
    monkeypatch.setattr(reference, "Reference", lambda *given: threads.append(torch.get_num_threads()) or kept(*given))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    measured = visited(conversation, Task(CASE, BUDGET, Calibration(1, 1e6, 0.0, 5, ""), None, energy=False))
    torch.set_num_threads(before)
    assert measured.nominal_ns == 1e6
    assert len(measured.reference_ns) == len(measured.samples_ns) + 1
    assert all(len(block) == timing.REFERENCE_CALLS for block in measured.reference_ns)
    # The reference runs on the threads of the model, as in a visit of a run.
    assert threads == [1]


def test_a_live_module_is_timed_as_a_case_is(conversation: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same task takes the same blocks, waits and facts, whether a test holds the model or a case names it."""
    clock = itertools.count(step=100_000)
    for module, name in ((warming, "warm_up"), (timing, "measure")):
        monkeypatch.setattr(module, name, partial(getattr(module, name), clock=lambda: next(clock)))
    fake = "fake:duration_ms=0.1"
    task = Task(Case("regnety_200mf", "", 1.0, fake, Placement(threads=1)), BUDGET, None, None, energy=False)
    clock = itertools.count(step=100_000)
    live = visited(conversation, task, fake)
    clock = itertools.count(step=100_000)
    named = visit(task)
    assert isinstance(named, Measurement)
    assert (live.samples_ns, live.calls_per_sample) == (named.samples_ns, named.calls_per_sample)
    assert live.warmup == named.warmup
    assert set(live.phases_s) == set(named.phases_s) - {"device", "build", "load", "first", "parity"} != set()
    known = {field.name for field in fields(Conditions) if getattr(named.conditions, field.name) is not None}
    assert known == {field.name for field in fields(Conditions) if getattr(live.conditions, field.name) is not None}
    assert known


def test_a_server_answers_with_what_went_wrong(conversation: Conversation) -> None:
    conversation.ask({"do": "load", "side": "baseline", "left": ""})
    with pytest.raises(pytest.skip.Exception):
        conversation.server(module(), max_latency="1s")
    assert "no baseline" in conversation.answers()[0]["failure"]["reason"]


@pytest.mark.parametrize("name", ["left_behind", "backends.mine"])
def test_modules_of_the_current_code_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert _foreign(tmp_path) is None
    # Ours are meant to be those that ask.
    assert _foreign(ROOT / "profiler") is None
    module = types.ModuleType(name)
    module.__file__ = str(tmp_path / "left_behind.py")
    monkeypatch.setitem(sys.modules, name, module)
    assert _foreign(tmp_path) == str(tmp_path / "left_behind.py")


def test_the_rule_reaches_a_worker_unchanged() -> None:
    rule = Rule(0.05).shared(3)
    as_sent = json.loads(json.dumps({"max_slowdown": rule.max_slowdown, "alpha": rule.alpha, "looks": rule.looks}))
    assert from_json(Rule, as_sent) == rule
