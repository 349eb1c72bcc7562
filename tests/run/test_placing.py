"""Placing visits on a fleet that is a script: who is asked, what is lost, what is blamed; on a clock of its own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler import __version__
from profiler.backends.base import Placement
from profiler.errors import StoppedError, UserError
from profiler.machine import host
from profiler.plan.cases import Site, expand
from profiler.plan.read import from_flags
from profiler.records.circumstances import Conditions
from profiler.records.reading import read
from profiler.records.types import Budget, Case, Failure, Measurement, Record, Warmup
from profiler.run import agent, placing
from profiler.run.calibrations import Calibrations
from profiler.run.child import Limits
from profiler.run.errand import (
    Errand,
    Introduction,
    Lost,
    Missing,
    answer_of,
    answered_text,
    errand_of,
    introduction_of,
    to_text,
)
from profiler.run.experiment import measure_into
from profiler.run.far import found_sites, site_facts
from profiler.run.fleet import Member, SchedulerLostError, sites_of, unlike_versions
from profiler.run.lab import Lab
from profiler.run.meeting import Meeting
from profiler.run.placing import Awake, Placing, Way, asked_sites
from profiler.run.processes import LocalExecutor
from profiler.run.schedule import Progress
from profiler.run.travel import Depot, Luggage, digest_of, moved
from profiler.run.turns import Turns

VERSIONS = {"latency-profiler": __version__, **host.versions()}
GOOD = Measurement(((1_000_000,) * 10,) * 3, 1, (), None, Warmup((1,), steady=True), 0.0, Conditions(), {}, {})


def member(label: str, address: str, node: str = "", **facts: Any) -> Member:
    said = {"hostname": address, "host": {"cores": 2}, "key": "cafe0001", "versions": VERSIONS}
    known = Introduction(label, "cpu", together=False, node=node or address, **said)  # type: ignore[arg-type]
    return Member(address, replace(known, **facts))


def record(errand: Errand, outcome: Measurement | Failure = GOOD) -> Record:
    return Record(
        errand.case, None, None, "cafe0001", errand.number, "now", 0.1, outcome, measures=errand.measures, worker="w"
    )


@dataclass
class Script:
    """A fleet: what each errand brings, and how long the clock goes on meanwhile."""

    there: list[Member]
    answers: Callable[[Member, Errand], Any] = lambda _m, errand: record(errand)
    clock_s: float = 0.0
    sent: list[tuple[Member, Errand]] = field(default_factory=list)
    flying: dict[int, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    lost: int = 0
    connects: int = 0
    most: Counter[str] = field(default_factory=Counter)
    meeting: Meeting = field(default_factory=lambda: Meeting("tcp://127.0.0.1:1"))

    def clock(self) -> float:
        return self.clock_s

    def members(self) -> list[Member]:
        if self.lost:
            self.lost -= 1
            raise SchedulerLostError("gone")
        return list(self.there)

    def connect(self, _timeout_s: float = 0) -> None:
        self.connects += 1
        self.flying.clear()

    def send(self, to: Member, errand: Errand) -> int:
        number = len(self.sent) + 1000 * len(self.files)
        self.sent.append((to, errand))
        self.flying[number] = (to, errand, errand_of(to_text(errand)))
        for name, of in (("host", to.known.node), ("worker", to.address)):
            now = sum((m.known.node if name == "host" else m.address) == of for m, *_ in self.flying.values())
            self.most[name] = max(self.most[name], now)
        return number

    def send_file(self, _to: Member, digest: str, _data: bytes) -> int:
        self.files.append(digest)
        self.flying[-len(self.files)] = None
        return -len(self.files)

    def landed(self, timeout_s: float) -> Any:
        for number, flight in list(self.flying.items()):
            if flight is None:
                del self.flying[number]
                return number, None
            to, errand, read_back = flight
            assert read_back == errand
            answer = self.answers(to, errand) if to in self.there else None
            if answer is not None:
                self.flying.pop(number, None)
                self.clock_s += 0.1
                return number, answer_of(answered_text(answer))
        self.clock_s += timeout_s
        return None

    def give_up(self, number: int) -> None:
        self.flying.pop(number, None)


class Told:
    def __init__(self) -> None:
        self.events: list[str] = []

    def fleet(self, *_: Any) -> None:
        pass

    event = property(lambda self: self.events.append)
    preparing = before = after = fleet


BUDGET = Budget(min_rounds=2, rounds=2)


def go(
    folder: Path, script: Script, *, budget: Budget = BUDGET, resume: bool = False, clock: Any = None, **flags: Any
) -> Told:
    """Measure resnets on the machines of a script into ``folder``."""
    plan = from_flags(
        "fleet", models=flags.pop("models", "resnet50,resnet101,resnet152"), backends="fake", seed=1, **flags
    )
    sites = asked_sites(sites_of(script.there), list(plan.sweeps[0].devices), [])
    lab = Lab(budget, LocalExecutor(), lambda _: Limits(), Calibrations(LocalExecutor(), folder, lambda _: Limits()))
    told = Told()
    measure = Placing(script, Way(sites, 60.0), told, clock or script.clock)  # type: ignore[arg-type]
    facts = site_facts(sites, script.there)
    cases = expand(plan, 1, sites=sites)
    measure_into(folder, plan, cases, lab, watcher=told, measure=measure, facts=facts, resume=resume)
    return told


def visits(folder: Path) -> Counter[tuple[str, str, int]]:
    return Counter((r.case.fleet_label, r.case.model, r.round) for r in read(folder).records)


def test_each_case_is_visited_on_each_label_once_a_round(tmp_path: Path) -> None:
    script = Script([member("a", "a1"), member("a", "a2"), member("b", "b1")])
    go(tmp_path, script, devices="a,b")
    expected = {(label, f"resnet{n}", r) for label in "ab" for n in (50, 101, 152) for r in (0, 1)}
    assert visits(tmp_path) == Counter(dict.fromkeys(expected, 1))
    assert script.most["worker"] == 1
    assert {to.address for to, _ in script.sent} == {"a1", "a2", "b1"}


def test_a_host_has_one_visit_at_a_time_unless_asked(tmp_path: Path) -> None:
    two = [member("a", "a1", "node"), member("b", "b1", "node")]
    script = Script(two)
    go(tmp_path / "one", script, devices="a,b")
    assert script.most["host"] == 1
    script = Script([replace(m, known=replace(m.known, together=True)) for m in two])
    go(tmp_path / "two", script, devices="a,b")
    assert script.most["host"] == 2


def test_what_a_worker_lost_is_made_again_elsewhere_and_its_case_is_not_blamed(tmp_path: Path) -> None:
    script = Script([member("a", "a1"), member("a", "a2")])

    def answers(to: Member, errand: Errand) -> Record | None:
        if to.address == "a1" and len(script.sent) > 3:
            script.there = [member("a", "a2")]
            return None
        return record(errand)

    script.answers = answers
    told = go(tmp_path, script, devices="a")
    assert set(visits(tmp_path).values()) == {1}
    assert not [r for r in read(tmp_path).records if isinstance(r.outcome, Failure)]
    assert any("a1 is gone; its visit" in said for said in told.events)


def test_a_case_that_takes_worker_after_worker_with_it_fails_and_the_others_go_on(tmp_path: Path) -> None:
    script = Script([member("a", "a0")])

    def answers(to: Member, errand: Errand) -> Record | None:
        if errand.case.model == "resnet101":
            script.there = [member("a", f"a{len(script.sent)}")]
            return None
        return record(errand)

    script.answers = answers
    go(tmp_path, script, devices="a")
    failed = [r for r in read(tmp_path).records if isinstance(r.outcome, Failure)]
    assert [(r.case.model, r.outcome.status) for r in failed] == [("resnet101", "crashed")]  # type: ignore[union-attr]
    assert len([e for _, e in script.sent if e.case.model == "resnet101"]) == placing._BLAMED
    assert sum(visits(tmp_path).values()) == 5


def test_a_worker_with_a_full_disk_is_left_alone_and_the_run_ends_with_its_reason(tmp_path: Path) -> None:
    script = Script([member("a", "a1"), member("a", "a2")])
    full = Lost("the disk of a1 is full (/tmp)")
    script.answers = lambda to, errand: full if to.address == "a1" else record(errand)
    go(tmp_path / "one", script, devices="a")
    assert set(visits(tmp_path / "one").values()) == {1}
    assert len([to for to, _ in script.sent if to.address == "a1"]) == 1
    script = Script([member("a", "a1")], lambda _to, _errand: full)
    with pytest.raises(StoppedError, match=r"no worker of a could be asked for 60.0 s \(the disk of a1 is full"):
        go(tmp_path / "two", script, devices="a")
    assert not visits(tmp_path / "two")


def test_a_label_that_is_gone_for_too_long_ends_the_run_after_the_others(tmp_path: Path) -> None:
    script = Script([member("a", "a1"), member("b", "b1")])

    def answers(to: Member, errand: Errand) -> Record | None:
        script.there = [member("a", "a1")]
        return record(errand)

    script.answers = answers
    with pytest.raises(StoppedError, match="no worker of b"):
        go(tmp_path, script, devices="a,b")
    found = visits(tmp_path)
    assert sum(n for (label, *_), n in found.items() if label == "a") == 6
    script.there.append(member("b", "b2"))
    script.answers = lambda _to, errand: record(errand)
    go(tmp_path, script, devices="a,b", resume=True)
    assert set(visits(tmp_path).values()) == {1}
    assert len(visits(tmp_path)) == 12


def test_a_scheduler_that_comes_back_costs_what_was_under_way(tmp_path: Path) -> None:
    script = Script([member("a", "a1")])

    def answers(_to: Member, errand: Errand) -> Record | None:
        if len(script.sent) == 3 and not script.connects:
            script.lost = 1
            return None
        return record(errand)

    script.answers = answers
    told = go(tmp_path, script, devices="a")
    assert script.connects == 1
    assert set(visits(tmp_path).values()) == {1}
    assert len(visits(tmp_path)) == 6
    assert "the scheduler is back" in told.events


def test_a_machine_that_stood_still_has_not_used_up_its_patience(tmp_path: Path) -> None:
    """Stopped for minutes with all that is on it, its workers are dropped and come back a moment after it goes on."""
    script = Script([member("a", "a1")])
    went_on: list[float] = []

    def answers(_to: Member, errand: Errand) -> Record | None:
        if len(script.sent) == 3 and not went_on:
            script.there.clear()
            script.clock_s += 400
            went_on.append(script.clock_s)
            return None
        return record(errand)

    def there() -> list[Member]:
        if went_on and script.clock_s > went_on[0] + 20:
            script.there = [member("a", "a2")]
        return list(script.there)

    script.answers, script.members = answers, there  # type: ignore[method-assign]
    go(tmp_path, script, clock=Awake(script.clock), devices="a")
    assert set(visits(tmp_path).values()) == {1}
    assert len(visits(tmp_path)) == 6


def test_a_fleet_is_waited_for_before_a_run_as_within_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its scheduler may be gone for a moment, and its workers come one by one."""
    script = Script([member("a", "a1")], lost=2)
    monkeypatch.setattr("time.sleep", lambda _s: script.connects == 2 and script.there.append(member("b", "b1")))
    plan = from_flags("fleet", models="resnet50", devices="a,b")
    assert set(found_sites(script, plan, 60.0)[0]) == {"a", "b"}  # type: ignore[arg-type]
    assert script.connects == 2
    with pytest.raises(UserError, match=r"no worker is labelled c \(there is a, b\)"):
        found_sites(script, from_flags("fleet", models="resnet50", devices="c"), 0.0)  # type: ignore[arg-type]
    script.lost = 1
    with pytest.raises(UserError, match="does not answer"):
        found_sites(script, plan, 0.0)  # type: ignore[arg-type]


def test_a_late_comer_that_is_another_machine_is_not_asked(tmp_path: Path) -> None:
    script = Script([member("a", "a1")])

    def answers(_to: Member, errand: Errand) -> Record:
        script.there = [member("a", "a1"), member("a", "other", key="dead0001")]
        script.clock_s += 2
        return record(errand)

    script.answers = answers
    told = go(tmp_path, script, devices="a")
    assert {to.address for to, _ in script.sent} == {"a1"}
    assert any("is a machine unlike the a of this run" in said for said in told.events)


def test_an_answer_for_another_case_is_no_answer(tmp_path: Path) -> None:
    script = Script([member("a", "a1")])
    wrong = iter([True])

    def answers(_to: Member, errand: Errand) -> Record:
        return record(replace(errand, case=replace(errand.case, batch=7)) if next(wrong, False) else errand)

    script.answers = answers
    told = go(tmp_path, script, devices="a")
    assert any("answered for another case" in said for said in told.events)
    assert {r.case.batch for r in read(tmp_path).records} == {1}


def test_another_machine_is_not_resumed_on(tmp_path: Path) -> None:
    go(tmp_path, Script([member("a", "a1")]), devices="a")
    with pytest.raises(UserError, match=r"another machine .*a: \"cafe0001\" there, \"dead0001\" here"):
        go(tmp_path, Script([member("a", "a1", key="dead0001")]), devices="a", resume=True)


def test_the_time_holds_for_each_label(tmp_path: Path) -> None:
    """A slow machine does not take from what a quick one has."""
    script = Script([member("a", "a1"), member("b", "b1")])
    go(tmp_path, script, devices="a,b", time="20s", budget=Budget(precision=None, rounds=10**9, min_rounds=3))
    made = Counter(r.case.fleet_label for r in read(tmp_path).records)
    assert made["a"] > 50
    assert abs(made["a"] - made["b"]) < 10
    assert script.clock_s < 25


@pytest.mark.parametrize("losing", [False, True])
def test_no_visit_is_handed_out_that_would_end_after_the_time(losing: bool) -> None:
    """But the first of each case: of 20 that take a second each, in 25 s, 5 have another one."""
    cases, clock_s = [case("resnet50", batch=n + 1) for n in range(20)], 0.0
    progress = Progress(cases, Budget(rounds=100, precision=None))
    turns = Turns(progress, [], 0, 25.0, lambda: clock_s)
    made = 0
    while (turn := turns.take()) is not None:
        clock_s += 1.0
        if losing and clock_s == 25:
            turns.lost(turn)
            continue
        done = replace(record(Errand(turn.case, turn.number, turn.measures, Budget(), None)), wall_s=1.0)  # type: ignore[arg-type]
        made += 1
        progress.add(done)
        turns.done(done)
    assert (made, clock_s, turns.out) == (25 - losing, 25, 0)


def test_unlike_versions_and_machines_are_said_by_name() -> None:
    old = replace(member("a", "a1").known, versions=VERSIONS | {"torch": "1.0.0", "latency-profiler": "0.0.1"})
    assert f"latency-profiler is {__version__} here and 0.0.1 there" in unlike_versions(old)
    assert "torch is" in unlike_versions(old)
    gpu = {name: v for name, v in VERSIONS.items() if name != "onnxruntime"}
    torch = VERSIONS["torch"].partition("+")[0] + "+cu130"
    same = gpu | {"torch": torch, "onnxruntime-gpu": VERSIONS["onnxruntime"]}
    assert unlike_versions(replace(old, versions=same)) == ""
    other = member("a", "a2", key="dead0001", host={"cores": 2, "cpu": "unlike"})
    with pytest.raises(UserError, match=r"label a is of unlike machines, a1 and a2 .*cpu is None here"):
        sites_of([member("a", "a1"), other])
    with pytest.raises(UserError, match=r"no worker is labelled h100 \(there is a\)"):
        asked_sites(sites_of([member("a", "a1")]), ["h100"], ["a"])


def test_what_is_no_record_is_refused() -> None:
    for text in ("{}", "[]", '{"record": 1}', "no json"):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever is wrong, nobody reads it
            answer_of(text)
    with pytest.raises(ValueError, match="is text"):
        answer_of(b"pickle")
    with pytest.raises(ValueError, match="no worker"):
        introduction_of(None)
    assert introduction_of(to_text(member("a", "a1").known)) == member("a", "a1").known
    assert answer_of(answered_text(Missing(("1", "2")))) == Missing(("1", "2"))


def case(model: str, **more: Any) -> Case:
    return Case(model, "", 1.0, "fake", Placement(), **more)


def test_files_travel_once_and_only_what_is_beside_the_model(tmp_path: Path) -> None:
    home, away = tmp_path / "home", tmp_path / "away"
    (home / "sub").mkdir(parents=True)
    for name in ("net.py", "sub/part.py", "x.npz"):
        (home / name).write_text(name)
    (tmp_path / "else.py").write_text("not sent")
    asked = case(f"{home}/net.py:make", input_file=str(home / "x.npz"))
    luggage, depot = Luggage(), Depot(away)
    parcel = luggage.parcel(asked, [str(home / "sub/part.py"), str(tmp_path / "else.py")])
    assert set(parcel.files) == {"model/net.py", "model/sub/part.py", "input/x.npz"}
    for digest in depot.missing(parcel):
        depot.keep(digest, luggage.content(digest))
    there = moved(asked, parcel, depot.unpacked(parcel))
    assert Path(there.model.rpartition(":")[0]).read_text() == "net.py"
    assert Path(there.input_file).read_text() == "x.npz"
    assert (Path(there.model).parent / "sub/part.py").read_text() == "sub/part.py"
    assert depot.missing(parcel) == ()
    with pytest.raises(ValueError, match="arrived with content"):
        depot.keep(digest_of(b"a"), b"b")
    for wicked in ("../out", "/etc/passwd"):
        with pytest.raises(ValueError, match="no path inside"):
            depot.unpacked(replace(parcel, files={wicked: digest_of(b"a")}))
    (home / "net.py").write_text("edited")
    with pytest.raises(OSError, match="has changed since this run began"):
        luggage.content(parcel.files["model/net.py"])


def test_missing_files_are_sent_before_the_errand_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import torch\ndef net():\n    return torch.nn.ReLU(), torch.ones(1, 4)\n")
    script = Script([member("a", "a1")])

    def answers(_to: Member, errand: Errand) -> Any:
        left = [digest for digest in errand.parcel.files.values() if digest not in script.files]
        return Missing(tuple(left)) if left else record(errand)

    script.answers = answers
    go(tmp_path / "out", script, models=f"{tmp_path}/net.py:net", devices="a")
    assert len(script.files) == 1
    assert set(visits(tmp_path / "out").values()) == {1}


def test_a_failure_beside_a_full_disk_is_the_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = Failure("error", "OSError: [Errno 28] No space left on device")
    assert "is full" in agent._full(failed)
    assert agent._full(Failure("error", "no such model")) == ""
    monkeypatch.setattr(agent, "_free", lambda _place: 1000)
    assert "is full" in agent._full(Failure("crashed", "exit code 1"))


@given(st.lists(st.sampled_from(["take", "done", "lost"]), max_size=60), st.integers(1, 4), st.integers(0, 5))
def test_no_turn_is_handed_out_twice_or_forgotten(steps: list[str], rounds: int, seed: int) -> None:
    cases = [case(f"resnet{n}") for n in (50, 101, 152)]
    progress = Progress(cases, Budget(rounds=rounds, min_rounds=rounds, precision=None))
    turns, out = Turns(progress, ["memory"], seed), []
    made: Counter[tuple[str, str, int]] = Counter()

    def finish(turn: Any) -> None:
        done = record(Errand(turn.case, turn.number, turn.measures, Budget(), None))  # type: ignore[arg-type]
        progress.add(done)
        turns.done(done)
        made[turn.case.model, turn.measures, turn.number] += 1

    for step in steps:
        if step == "take" and (turn := turns.take()) is not None:
            assert turn.case not in [each.case for each in out]
            out.append(turn)
        elif step == "done" and out:
            finish(out.pop(0))
        elif step == "lost" and out:
            turns.lost(out.pop())
    while out or (turn := turns.take()) is not None:
        finish(out.pop() if out else turn)
    assert set(made.values()) == {1}
    assert len(made) == 3 * (rounds + 1)
    assert turns.out == 0


def test_certificates_and_addresses_are_checked_together(tmp_path: Path) -> None:
    for wrong, why in (
        (Meeting("foo"), "expected an address"),
        (Meeting("tls://a:1"), "folder of certificates"),
        (Meeting("tcp://a:1", tls=tmp_path), "does not speak TLS"),
        (Meeting(file=tmp_path / "none"), "No such file"),
    ):
        with pytest.raises(UserError, match=why):
            wrong.found()
    (tmp_path / "file").write_text(json.dumps({"address": "tcp://10.0.0.1:8786"}))
    assert Meeting(file=tmp_path / "file").found() == "tcp://10.0.0.1:8786"
    assert sites_of([member("a", "a1")]) == {"a": Site("cpu", 2, "cafe0001")}
