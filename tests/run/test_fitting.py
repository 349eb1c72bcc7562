"""The largest batch of each label is searched for on its machines: a script of them, where batches of some size fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from profiler.errors import StoppedError, UserError
from profiler.plan.cases import expand
from profiler.plan.read import from_flags
from profiler.records.types import Budget, Case, Failure
from profiler.run.batch import with_batches
from profiler.run.calibrations import Calibrations
from profiler.run.child import Limits
from profiler.run.errand import Errand, Lost
from profiler.run.fitting import fleet_probe
from profiler.run.fleet import Member, sites_of
from profiler.run.lab import Lab
from profiler.run.placing import Placing, Way, asked_sites
from profiler.run.processes import LocalExecutor
from tests.run.test_placing import GOOD, Script, Told, member, record

FITS = {"big": 12, "small": 5}
NODE = [member("big", "b1", "node"), member("small", "s1", "node")]


def answer(to: Member, errand: Errand) -> Any:
    fits = errand.case.batch <= FITS[to.known.label]
    return record(errand, GOOD if fits else Failure("oom", "no room"))


def search(
    folder: Path, there: list[Member], answers: Callable[[Member, Errand], Any] = answer
) -> tuple[list[Case], Script, list[str]]:
    plan = from_flags("fleet", models="resnet50,resnet101", backends="fake", devices="big,small", batches="max,3")
    sites = asked_sites(sites_of(there), ["big", "small"], [])
    script, said = Script(there, answers), list[str]()
    limits = lambda _: Limits(memory_bytes=1 << 30)  # noqa: E731 - as short as can be
    lab = Lab(Budget(), LocalExecutor(), limits, Calibrations(LocalExecutor(), folder, limits))
    cases = expand(plan, 1, sites=sites)
    placing = Placing(script, Way(sites, 60.0), Told(), script.clock)  # type: ignore[arg-type]
    found = with_batches(cases, folder, lab, said.append, resume=False, probe=fleet_probe(placing, lab, cases))
    return list(found), script, said


def test_each_label_and_network_gets_its_own_in_a_few_tries_of_all_at_once(tmp_path: Path) -> None:
    found, script, said = search(tmp_path, NODE)
    largest = {(case.model, case.fleet_label): case.batch for case in found if case.batch_asked}
    assert largest == {(model, label): FITS[label] for model in ("resnet50", "resnet101") for label in FITS}
    assert sum(not case.batch_asked and case.batch == 3 for case in found) == 4
    assert len(said) == 4
    tried = [(errand.case.fleet_label, errand.case.model, errand.case.batch) for _, errand in script.sent]
    assert len(set(tried)) == len(tried)
    assert [batch for label, model, batch in tried if (label, model) == ("big", "resnet50")] == [
        1,
        2,
        4,
        8,
        16,
        12,
        14,
        13,
    ]
    assert script.most["host"] == 1
    assert all(errand.budget.rounds == 1 and errand.budget.visit_s < 0.01 for _, errand in script.sent)


def test_a_try_that_was_lost_is_made_again(tmp_path: Path) -> None:
    lost: list[Errand] = []

    def once(to: Member, errand: Errand) -> Any:
        if errand.case.batch == 4 and to.known.label == "big" and not lost:
            lost.append(errand)
            return Lost("the disk is full")
        return answer(to, errand)

    found, script, _ = search(tmp_path, NODE, once)
    assert {case.batch for case in found if case.batch_asked} == set(FITS.values())
    assert sum(errand.case == lost[0].case for _, errand in script.sent) == 2


def test_a_label_that_is_gone_while_it_is_searched_for_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    there = list(NODE)

    def gone(to: Member, errand: Errand) -> Any:
        if errand.case.batch == 4:
            there[:] = [each for each in there if each.known.label == "big"]
        return answer(to, errand)

    with pytest.raises(StoppedError, match=r"no worker of small .* while the largest batch was searched for"):
        search(tmp_path, there, gone)


def test_without_a_limit_nothing_is_tried(tmp_path: Path) -> None:
    plan = from_flags("fleet", models="resnet50", backends="fake", devices="big", batches="max")
    cases = expand(plan, 1, sites=sites_of(NODE[:1]))
    lab = Lab(
        Budget(), LocalExecutor(), lambda _: Limits(), Calibrations(LocalExecutor(), tmp_path, lambda _: Limits())
    )
    with pytest.raises(UserError, match="--memory-limit"):
        with_batches(cases, tmp_path, lab, str, resume=False, probe=lambda _: [])
