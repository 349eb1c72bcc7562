from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from profiler import models
from profiler.analysis import advise
from profiler.analysis.cost_model import cost_models
from profiler.analysis.goal import Goal, Kind, prepare
from profiler.analysis.search import directions
from profiler.analysis.verify import Check, _paired_ratio, _plan_for, _with_controls, verify
from profiler.cli.advise import _advice_sentence, _parse_goal, advise_command
from profiler.cli.app import app
from profiler.errors import UserError
from profiler.measure.visit import Task
from profiler.models.complexity import Complexity
from profiler.records.circumstances import Conditions
from profiler.records.reading import read
from profiler.records.types import Budget, Failure, Measurement, Warmup
from profiler.run.calibrations import Calibrations
from profiler.run.child import Limits
from profiler.run.lab import Lab

BASE = "regnety_4.0gf"


def table(per_acts: float, per_flops: float, t0: float = 0.5, **columns: object) -> pd.DataFrame:
    """Networks whose latency is exactly ``t0 + per_acts`` ms per million acts and ``per_flops`` ms per GF."""
    steps = [("", 1.0), *((rule, s) for rule in ("d", "w", "r", "dwr") for s in (0.5, 2.0, 4.0, 8.0))]
    archs = [models.resolve(BASE, rule, factor) for rule, factor in steps]
    rows = [
        {
            "model": BASE,
            "family": arch.family,
            "scaling": arch.scaling,
            "factor": arch.factor,
            "flops": counts.flops,
            "params": counts.params,
            "acts": counts.acts,
            "latency_ms": t0 + per_acts * counts.acts / 1e6 + per_flops * counts.flops / 1e9,
        }
        for arch in archs
        for counts in [models.complexity(arch)]
    ]
    return pd.DataFrame(rows).assign(backend="fake", threads=1, status="ok").assign(**columns)


def goal(kind: Kind, limit: float, per_acts: float, per_flops: float) -> Goal:
    (latency,), _ = cost_models(table(per_acts, per_flops), "latency_ms")
    return Goal(kind, limit, str(limit), latency, None, {"backend": "fake", "threads": "1"})


def advice(kind: Kind, limit: float, per_acts: float, per_flops: float) -> advise.Advice:
    return advise.advise(models.get(BASE), goal(kind, limit, per_acts, per_flops))


@pytest.fixture(scope="module")
def of_flops() -> advise.Advice:
    return advice("flops", 16e9, 2.0, 0.1)


EVERY = directions()


@pytest.fixture(autouse=True)
def few_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's rules and a tenth of the free ones; ``of_flops``, made once, searches all."""
    monkeypatch.setattr(advise, "directions", lambda: EVERY[:3] + EVERY[3::10])


def test_the_rules_hold_the_papers_alphas_and_free_weights() -> None:
    rules = EVERY
    assert rules[:3] == ["dWr", "dwr", "w"]
    assert {"alpha=0.00", "alpha=0.80", "alpha=1.00", "d1", "r1", "d1_w1_g1_r1"} <= set(rules)
    assert len(rules) == len(set(rules)) > 250
    for rule in rules:
        assert sum(models.parse_rule(rule).exponents) > 0


def test_where_activations_cost_everything_width_is_the_optimum(of_flops: advise.Advice) -> None:
    """Activations grow with s^(d + w/2 + r), so that w, with s^(1/2), has the fewest at equal flops."""
    first = of_flops.best[0]
    by_width = next(one for one in of_flops.marked if one.mark == "w")
    assert advise.at_equal_flops(first, of_flops.power) <= advise.at_equal_flops(by_width, of_flops.power)
    exponents = models.parse_rule(first.rule).exponents
    assert exponents[1] * 2 > 0.8
    assert first.counts.acts < 0.65 * next(one for one in of_flops.marked if one.mark == "dwr").counts.acts


def test_everything_at_given_flops_is_within_two_percent(of_flops: advise.Advice) -> None:
    assert of_flops.best
    for one in (*of_flops.best, *of_flops.front, *of_flops.marked):
        assert one.counts.flops == pytest.approx(16e9, rel=0.02)
        assert one.meets


def test_predictions_are_those_of_exact_complexities(of_flops: advise.Advice) -> None:
    for one in of_flops.front:
        again = models.complexity(models.scale(models.get(BASE), one.arch.scaling, one.arch.factor))
        assert one.counts == again
        assert one.latency == pytest.approx(0.5 + 2 * again.acts / 1e6 + 0.1 * again.flops / 1e9, rel=1e-6)


def test_the_weighted_form_gives_the_same_network_again(of_flops: advise.Advice) -> None:
    for one in of_flops.best[:20]:
        again = models.scale(models.get(BASE), one.rule, one.arch.factor)
        assert (again.depths, again.widths, again.resolution) == (
            one.arch.depths,
            one.arch.widths,
            one.arch.resolution,
        )


def test_nobody_dominates_the_front(of_flops: advise.Advice) -> None:
    front = of_flops.front
    assert [one.latency for one in front] == sorted(one.latency for one in front)
    for one in front:
        assert not any(
            other.latency <= one.latency and other.counts.flops > one.counts.flops for other in of_flops.best
        )


def test_a_limit_of_latency_buys_the_most_flops() -> None:
    found = advice("latency", 60.0, 2.0, 0.1)
    first, control = found.best[0], next(one for one in found.marked if one.mark == "dwr")
    assert 0.97 * 60 < first.latency <= 60
    assert control.latency <= 60
    assert first.counts.flops == max(one.counts.flops for one in found.best)
    assert first.counts.flops > 1.5 * control.counts.flops  # s^(1/2) against s^(5/6)


def test_where_only_flops_cost_every_rule_buys_the_same() -> None:
    found = advice("latency", 100.5, 0.0, 10.0)
    assert found.best[0].counts.flops == pytest.approx(10e9, rel=0.02)
    # A rule of the paper alone has coarse steps: widths of this base move by whole groups of 64.
    assert all(0.75 * 10e9 < one.counts.flops <= 10e9 for one in found.marked)


def test_where_nothing_costs_anything_no_rule_is_called_faster() -> None:
    found = advice("flops", 8e9, 0.0, 0.0)
    assert found.power == pytest.approx(0, abs=1e-9)
    assert re.search(r"predicted 0\.0% (faster|slower) than dwr", _advice_sentence(found))


def test_a_lead_within_the_error_of_predictions_is_not_sure() -> None:
    exact, loose = goal("flops", 8e9, 2.0, 5.0), goal("flops", 8e9, 2.0, 5.0)
    assert loose.latency.unseen is not None
    loose = replace(loose, latency=replace(loose.latency, unseen=loose.latency.unseen * np.resize([0.6, 1.6], 17)))
    sure, unsure = (_advice_sentence(advise.advise(models.get(BASE), each)) for each in (exact, loose))
    assert "faster than dwr at equal flops." in sure
    assert re.search(r"% faster than dwr at equal flops, not surely: nine predictions in ten are within \d+%;", unsure)


def test_the_power_of_flops_is_that_of_the_law() -> None:
    assert advice("flops", 100e9, 0.0, 10.0).power == pytest.approx(1, abs=0.01)


def test_smaller_than_the_base_is_searched_too() -> None:
    found = advice("flops", 1e9, 2.0, 0.1)
    assert all(one.arch.factor < 1 for one in found.marked)


def test_a_target_that_no_network_meets_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"no scaled regnety_4.0gf meets --latency 0.1"):
        advice("latency", 0.1, 2.0, 0.1)


def test_the_ratio_of_twins_in_one_search_is_one_row_per_network(of_flops: advise.Advice) -> None:
    assert of_flops.distinct < of_flops.tried
    assert of_flops.tried > 9000


class Scripted:
    """Visits take what a function of the exact complexity says, times a little noise of their own."""

    def __init__(self, ms: Callable[[Complexity, str], float], broken: str = "") -> None:
        self.ms, self.broken = ms, broken
        self.rng = np.random.default_rng(0)

    def call(self, function: Any, argument: Any, timeout_s: float, limits: Limits) -> Any:
        assert isinstance(argument, Task)
        case = argument.case
        counts = models.complexity(models.resolve(case.model, case.scaling, case.factor))
        if case.scaling == self.broken:
            return Failure("oom", "no room")
        ns = round(1e6 * self.ms(counts, case.scaling) * np.exp(0.002 * self.rng.normal()))
        return Measurement(((ns,) * 10,) * 3, 1, (), None, Warmup((ns,), steady=True), 0.0, Conditions(), {}, {})

    def close(self) -> None:
        pass


def verified(tmp_path: Path, found: advise.Advice, executor: Scripted, count: int = 2) -> list[Check]:
    calibrations = Calibrations(executor, tmp_path / "cache", lambda _: Limits())
    lab = Lab(Budget(min_rounds=3, rounds=3), executor, lambda _: Limits(), calibrations)
    return verify(found, count, tmp_path / "run", lab=lab)


def linear(counts: Complexity, _rule: str) -> float:
    return 0.5 + 2 * counts.acts / 1e6 + 0.1 * counts.flops / 1e9


def test_advice_that_is_true_holds(tmp_path: Path, of_flops: advise.Advice) -> None:
    checks = verified(tmp_path, of_flops, Scripted(linear))
    assert len(checks) == 2
    for check in checks:
        assert check.held is True
        assert check.flops_ratio == pytest.approx(1, rel=0.02)
        assert check.ratio == pytest.approx(
            check.advised.latency / linear(models.complexity(check.control), ""), rel=0.01
        )
        assert check.expected == pytest.approx(check.ratio, rel=0.01)
        assert check.sentence("ms").startswith("The advice held: regnety_4.0gf ")
        assert "faster" in check.sentence("ms")
    records = read(tmp_path / "run").records
    rows = (tmp_path / "run" / "cases.csv").read_text().splitlines()
    assert len(rows) == 1 + len({record.case.key for record in records})
    assert {record.case.scaling for record in records} >= {"dwr", of_flops.best[0].arch.scaling}


def test_advice_that_is_false_is_said_to_be(tmp_path: Path, of_flops: advise.Advice) -> None:
    checks = verified(tmp_path, of_flops, Scripted(lambda _counts, rule: 10.0 if rule == "dwr" else 20.0), 1)
    assert checks[0].held is False
    assert checks[0].predicted is False
    assert checks[0].sentence("ms").startswith("The advice did not hold")
    assert "outside the predicted" in checks[0].sentence("ms")


def test_advice_that_makes_no_difference_is_undecided(tmp_path: Path, of_flops: advise.Advice) -> None:
    checks = verified(tmp_path, of_flops, Scripted(lambda _counts, _rule: 10.0), 1)
    assert checks[0].held is None
    assert checks[0].sentence("ms").startswith("Undecided")


def test_a_control_that_fails_is_said(tmp_path: Path, of_flops: advise.Advice) -> None:
    checks = verified(tmp_path, of_flops, Scripted(linear, broken="dwr"), 1)
    assert checks[0].held is None
    assert "not verified: its control could not be measured" in checks[0].sentence("ms")


def test_networks_are_compared_with_a_control_of_equal_flops(of_flops: advise.Advice) -> None:
    for one, control in _with_controls(of_flops, 5):
        assert models.complexity(control).flops == pytest.approx(one.counts.flops, rel=0.02)


def test_rounds_that_were_disturbed_are_left_out_of_paired_ratios() -> None:
    def visit(ns: int, slow: int = 1) -> Measurement:
        # A competitor slows the model ten times as much as the reference.
        samples, reference = ((ns * slow * 10 if slow > 1 else ns,) * 10,) * 3, ((1000 * slow,) * 3,) * 4
        return Measurement(samples, 1, reference, 1000.0, Warmup((ns,), steady=True), 0.0, Conditions(), {}, {})

    ours = {number: visit(8_000_000, slow=5 if number == 2 else 1) for number in range(6)}
    theirs = {number: visit(10_000_000) for number in range(6)}
    assert _paired_ratio(ours, theirs)[0] == pytest.approx(0.8)


def test_an_interval_around_one_decides_nothing(of_flops: advise.Advice) -> None:
    first = of_flops.best[0]
    check = Check(first, first.arch, 1.0, (10.0, 10.0), 1.0, (0.9, 1.1), 1.0, predicted=True)
    assert check.held is None


def test_a_drift_of_the_machine_leaves_paired_ratios_alone() -> None:
    def visit(ns: float) -> Measurement:
        return Measurement(
            ((round(ns),) * 10,) * 3, 1, (), None, Warmup((round(ns),), steady=True), 0.0, Conditions(), {}, {}
        )

    ours = {number: visit(8e6 * 1.1**number) for number in range(6)}
    theirs = {number: visit(10e6 * 1.1**number) for number in range(1, 7)}
    ratio, interval = _paired_ratio(ours, theirs)
    assert ratio == pytest.approx(0.8)
    assert interval == pytest.approx((0.8, 0.8), rel=1e-6)
    with pytest.raises(ValueError, match="at least one round"):
        _paired_ratio({0: visit(1e6)}, {1: visit(1e6)})


def test_the_plan_measures_in_the_place_of_the_run(of_flops: advise.Advice) -> None:
    place = {
        "backend": "fake:duration_ms=2",
        "device": "cpu",
        "threads": "2",
        "batch": "4",
        "memory_format": "channels_last",
    }
    plan = _plan_for([of_flops.best[0].arch, models.get(BASE)], place)
    assert [sweep.models for sweep in plan.sweeps] == [(BASE,), (BASE,)]
    for sweep in plan.sweeps:
        assert (sweep.backends, sweep.threads, sweep.batches) == (("fake:duration_ms=2",), (2,), (4,))
        assert sweep.memory_formats == ("channels_last",)


def test_the_command_prints_the_front_and_the_papers_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(2.0, 0.1).to_csv(tmp_path / "run.csv", index=False)
    advise_command(BASE, tmp_path / "run.csv", flops="16GF")
    said = capsys.readouterr().out
    assert "dWr (d1_w8_g8_r1)" in said
    assert "Best: --scale " in said
    assert "faster than dwr at equal flops" in " ".join(said.split())
    assert "top-1 [90%]" in said
    assert "Top-1 is foretold from 36 networks under pycls" in said
    assert "…" not in said


def test_json_is_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(2.0, 0.1).to_csv(tmp_path / "run.csv", index=False)
    advise_command(BASE, tmp_path / "run.csv", latency="60ms", json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["best"]["latency"] <= 60
    marked = {row["mark"]: row for row in told["marked"]}
    assert marked.keys() == {"dWr", "dwr", "w"}
    assert marked["w"]["top1"] is None
    assert marked["dWr"]["top1_interval"][0] < marked["dWr"]["top1"] < marked["dWr"]["top1_interval"][1]


def test_accuracy_beyond_the_flops_that_were_published_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table(2.0, 0.1).to_csv(tmp_path / "run.csv", index=False)
    advise_command("efficientnet_b0", tmp_path / "run.csv", flops="16GF")
    said = " ".join(capsys.readouterr().out.split())
    assert "It extrapolates: " in said
    assert "beyond the most flops published of efficientnet, 10.3 GF, which the interval does not cover." in said


def test_a_limit_of_memory_uses_the_memory_that_was_measured() -> None:
    frame = table(2.0, 0.1)
    frame["memory_peak_mib"] = 100 + 8 * frame["acts"] / 2**20 + 4 * frame["params"] / 2**20
    asked = prepare(frame, "regnety", "memory", 900 * 2**20, "900MiB")
    assert asked.limit == pytest.approx(900)
    first = advise.advise(models.get(BASE), asked).best[0]
    assert first.memory is not None
    assert 0.9 * 900 < first.memory <= 900


def test_seconds_become_the_unit_of_the_run() -> None:
    asked = prepare(table(2.0, 0.1), "regnety", "latency", 0.06, "60ms")
    assert asked.limit == pytest.approx(60)


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ((None, None, None), "one target is needed, and none given"),
        (("4GF", "20ms", None), "one target is needed, and --flops and --latency given"),
        ((None, "0ms", None), "leaves no room"),
        (("many", None, None), "is not a number of flops"),
    ],
)
def test_targets_that_are_wrong_are_one_sentence(targets: tuple[str | None, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        _parse_goal(*targets)


def test_a_run_of_several_settings_must_be_narrowed(tmp_path: Path) -> None:
    frame = pd.concat([table(2, 1, threads=t) for t in (1, 2)])
    with pytest.raises(UserError, match="advice needs exactly one; choose it with --backend or --where"):
        prepare(frame, "regnety", "flops", 4e9, "4GF")
    frame.to_csv(tmp_path / "run.csv", index=False)
    file = tmp_path / "run.csv"
    advise_command(BASE, file, flops="8GF", backend="fake", where="threads=2", json=True)


def test_memory_that_was_not_measured_is_one_sentence() -> None:
    with pytest.raises(UserError, match="the run has no memory measured"):
        prepare(table(2, 1), "regnety", "memory", 1e9, "1GB")


def test_the_command_line_reaches_it(tmp_path: Path) -> None:
    table(2.0, 0.1).to_csv(tmp_path / "run.csv", index=False)
    done = CliRunner().invoke(app, ["advise", BASE, "--flops", "8GF", str(tmp_path / "run.csv"), "--backend", "fake"])
    assert done.exit_code == 0, done.output
    assert "Best: --scale" in done.output
