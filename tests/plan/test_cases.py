"""From a plan to its cases: each once, in a stable order, with notes; and the guess at their time."""

from __future__ import annotations

import re
import string
from dataclasses import replace
from pathlib import Path

import pytest

from profiler import models
from profiler.errors import UserError
from profiler.plan import cases, plan
from profiler.plan.cases import complexities, notes
from profiler.plan.duration import estimate_seconds, round_seconds
from profiler.plan.read import BUILT_IN, from_flags, load, loads
from profiler.records.types import Budget


def expand(text: str, usable_threads: int = 2):
    return cases.expand(loads(text), usable_threads)


def test_the_base_network_appears_once_however_many_rules_have_factor_one():
    cases = expand('models = "regnety_400mf"\nscalings = ["d", "w", "dwr"]\nfactors = [1, 2]\nbackends = "eager"')
    assert [c.network for c in cases] == [
        "regnety_400mf", "regnety_400mf d x2", "regnety_400mf w x2", "regnety_400mf dwr x2",
    ]  # fmt: skip


def test_cases_are_distinct_and_in_a_stable_order():
    text = (
        'models = ["resnet50", "regnety_400mf"]\nscalings = ["d", "dWr"]\nfactors = [1, 2]\n'
        "batches = [1, 4]\nthreads = [0, 1, 2]"
    )
    cases = expand(text)
    assert len({case.key for case in cases}) == len(cases) == 2 * 3 * 3 * 2 * 2
    assert cases == expand(text)
    assert [case.model for case in cases] == sorted((case.model for case in cases), reverse=True)


def test_a_gap_is_a_case_of_its_own_and_none_leaves_the_key_as_it_was():
    gapless, back_to_back, apart = (
        expand(f'models = "resnet50"\nbackends = "eager"\n{gaps}')[0] for gaps in ("", 'gaps = "0s"', 'gaps = ["10ms"]')
    )
    assert gapless == back_to_back
    assert gapless.key == "9ce4381041bb"  # of journals that are older than gaps
    assert (apart.gap_s, apart.key != gapless.key) == (0.01, True)
    assert apart.label == f"{gapless.label} 10.0 ms apart"
    assert len(expand('models = "resnet50"\nbackends = "eager"\ngaps = ["0s", "10ms", 0.01]')) == 2


def test_overlapping_sweeps_measure_a_case_once():
    cases = expand('backends = "eager"\n[[sweep]]\nmodels = "resnet50"\n[[sweep]]\nmodels = ["resnet50", "resnet101"]')
    assert [case.model for case in cases] == ["resnet50", "resnet101"]


def test_a_sweep_inherits_the_top_and_its_flops_withdraw_inherited_factors():
    read = loads(
        'scalings = "w"\nfactors = [1, 2]\nbackends = "eager"\n[[sweep]]\nmodels = "regnety_400mf"\n'
        '[[sweep]]\nmodels = "regnety_4.0gf"\nflops = "8GF"'
    )
    assert [(c.model, c.factor, c.target_flops) for c in cases.expand(read, 1)][:2] == [
        ("regnety_400mf", 1.0, None),
        ("regnety_400mf", 2.0, None),
    ]
    last = cases.expand(read, 1)[2]
    assert (last.model, last.target_flops) == ("regnety_4.0gf", 8_000_000_000)
    assert models.complexity(models.resolve(last.model, last.scaling, last.factor)).flops == pytest.approx(
        8e9, rel=0.05
    )


def test_a_rule_that_changes_nothing_is_measured_unscaled_and_noted():
    # 3, 4, 6 and 3 blocks times 1.05 are as many.
    read = loads('models = "resnet50"\nscalings = "d"\nfactors = 1.05\nbackends = "eager"')
    (case,) = cases.expand(read, 1)
    assert (case.scaling, case.factor) == ("", 1.0)
    assert notes(read) == ["resnet50 d x1.05 is the same network as resnet50: measured once"]


def test_two_ways_to_one_network_are_measured_once_and_noted():
    read = loads('models = "regnety_400mf"\nscalings = ["dWr", "d1_w8_g8_r1"]\nfactors = 2\nbackends = "eager"')
    assert [case.scaling for case in cases.expand(read, 1)] == ["dWr"]
    assert notes(read) == ["regnety_400mf d1_w8_g8_r1 x2 is the same network as regnety_400mf dWr x2: measured once"]


def test_flops_far_from_those_asked_for_are_noted():
    (note,) = notes(loads('models = "regnety_4.0gf"\nscalings = "w"\nfactors = 4'))
    assert note == "regnety_4.0gf w x4: 12.3GF, -22.9% from 4 times regnety_4.0gf; --flops 15.9GF solves for the factor"


def test_notes_of_one_kind_are_one_sentence_where_that_is_enough():
    read = loads(
        'models = ["regnety_4.0gf", "regnety_400mf", "regnetz_4.0gf"]\nscalings = ["w", "w1_g1"]\nfactors = [2, 4]'
    )
    each, brief = notes(read), notes(read, brief=True)
    twice = [note for note in each if note.endswith("measured once")]
    off = [note for note in each if note.endswith("solves for the factor")]
    assert len(each) == len(twice) + len(off) == 3
    assert brief[0] == off[0]  # of one alone its own sentence
    assert brief[1] == "2 networks are asked for under several names, and measured once; -v lists them"
    said = r"2 networks have other flops .* whole numbers \(\+2\d\.\d% to \+2\d\.\d%\); -v lists them"
    assert re.fullmatch(said, *notes(load("quick"), brief=True))


def test_a_target_that_only_a_step_beside_the_rule_meets_is_noted_and_identified():
    read = loads('models = "efficientnet_b0"\nscalings = "dwr"\nflops = "16GF"\nbackends = "eager"')
    (case,) = cases.expand(read, 1)
    arch = models.resolve(case.model, case.scaling, case.factor, case.step)
    assert (case.step, case.network) == ("d7+1", "efficientnet_b0 dwr x42.2 d7+1")
    off = models.flops_error(arch, 16 * 10**9)
    assert abs(off) < 0.02
    assert complexities([case]) == {case.key: models.complexity(arch)}
    (note,) = notes(read)
    assert note == (
        f"efficientnet_b0 dwr 16.0GF: reached {models.complexity(arch).flops / 1e9:.1f}GF ({off:+.1%}) by a step "
        f"beside the rule: stage 7 has {arch.depths[6]} blocks, not {arch.depths[6] - 1}"
    )
    assert case.key != replace(case, step="").key


def test_a_step_beside_the_rule_is_no_repetition_of_the_network_on_it():
    text = 'models = "efficientnet_b0"\nscalings = "dwr"\nbackends = "eager"\n'
    made = expand(f'{text}[[sweep]]\nflops = "16GF"\n[[sweep]]\nfactors = 42.2')
    assert [case.step for case in made] == ["d7+1", ""]


def test_flops_that_no_scaling_has_are_refused_before_anything_else():
    with pytest.raises(UserError, match=r"^resnet50 d cannot have 1F: the nearest .*, or scale along another rule$"):
        expand('models = "resnet50"\nscalings = "d"\nflops = "1F"')


def test_own_models_among_scaled_ones_stay_as_they_are():
    read = loads(
        'models = ["resnet50", "my.nets:small", "a/b.onnx"]\nbackends = "eager"\nscalings = "d"\nfactors = [1, 2]'
    )
    assert [c.network for c in cases.expand(read, 1)] == [
        "resnet50",
        "resnet50 d x2",
        "my.nets:small",
        "a/b.onnx",
    ]
    assert [note.partition(" is ")[0] for note in notes(read)] == ["my.nets:small", "a/b.onnx"]


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_plans_load_and_every_network_exists(name):
    read = load(name)
    made = cases.expand(read, 2)
    assert read.name == name
    assert set(read.description) <= set(string.printable)
    assert all(counted is not None for counted in complexities(made).values())
    assert set(BUILT_IN) == {path.stem for path in (Path(plan.__file__).parent / "built_in").glob("*.toml")}


def test_the_quick_plan_has_time_for_two_visits_of_each_case():
    quick = load("quick")
    made = cases.expand(quick, 2)
    assert {c.model for c in made} == {"efficientnet_b0", "regnety_200mf"}
    assert quick.time == 180
    two = replace(quick.budget, rounds=2, min_rounds=2)
    assert estimate_seconds(made, complexities(made), two) < 1.3 * quick.time


def test_the_paper_plan_reaches_its_sizes():
    made = cases.expand(load("paper"), 2)
    counted = complexities(made)
    largest = {c.model: max(counted[o.key].flops for o in made if o.model == c.model) for c in made}
    assert {m: round(f / 1e9) for m, f in largest.items() if m.endswith("4.0gf")} == {
        "regnety_4.0gf": 16,
        "regnetz_4.0gf": 17,
    }
    assert len({c.scaling for c in made}) == 10


def test_the_guess_adds_up():
    cases = expand('models = "resnet50"\nbackends = ["eager", "torchscript"]\nthreads = 1')
    counted = complexities(cases)
    budget = Budget(visit_s=10.0, warmup_s=0.5, rounds=4, min_rounds=2)
    forward = counted[cases[0].key].flops / 20e9
    one = 10.0 + 3 * forward + 0.3
    assert estimate_seconds(cases, counted, budget) == pytest.approx(2 * (1.0 + 3 * one))
    assert estimate_seconds(cases, counted, replace(budget, timeout_s=2.0)) == 2 * (1.0 + 3 * 2.0)
    assert round_seconds(cases, counted, budget) == pytest.approx(2 * (1.0 + one))


def test_a_plan_of_a_million_cases_is_refused_before_it_is_expanded() -> None:
    plan = from_flags(models="resnet50", scalings="dWr", factors=list(range(2, 2002)), batches=list(range(1, 501)))
    with pytest.raises(UserError, match=r"up to 3,000,000 cases; expected at most 20,000"):
        cases.expand(plan, 1)
