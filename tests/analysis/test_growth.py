from __future__ import annotations

import pandas as pd
import pytest

from profiler import models
from profiler.analysis.fit import Fit, fit
from profiler.analysis.growth import growth, paces, steps, theory

FACTORS = (0.5, 2.0, 4.0, 8.0)


def table(rules: tuple[str, ...], bases: tuple[str, ...] = ("regnety_4.0gf",)) -> pd.DataFrame:
    """Networks whose latency is the square root of their flops."""
    archs = [models.get(base) for base in bases]
    archs += [models.resolve(base, rule, s) for base in bases for rule in rules for s in FACTORS]
    rows = [
        {
            "model": a.name,
            "scaling": a.scaling,
            "factor": a.factor,
            "flops": c.flops,
            "acts": c.acts,
            "params": c.params,
        }
        for a in archs
        for c in [models.complexity(a)]
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(latency_ms=frame["flops"] ** 0.5 / 1e3, backend="eager")


def pooled(frame: pd.DataFrame) -> Fit:
    return fit(frame)[0]


@pytest.mark.parametrize(
    ("rule", "power"),
    [("w", 0.5), ("d", 1), ("r", 1), ("dwr", 5 / 6), ("dWr", 0.6), ("alpha=0.5", 0.75), ("alpha=0", 1), ("g", 0)],
)
def test_theory_is_that_of_the_paper(rule: str, power: float) -> None:
    assert theory(rule) == pytest.approx(power)


def test_a_text_that_is_no_rule_has_no_theory() -> None:
    assert theory("bigger") is None


@pytest.mark.parametrize("rule", ["w", "d", "r", "dWr", "dwr"])
def test_activations_of_real_networks_grow_nearly_as_in_theory(rule: str) -> None:
    frame = table((rule,))
    (found,) = growth(steps(frame, pooled(frame)))
    assert found.rule == rule
    assert found.acts.value == pytest.approx(theory(rule), abs=0.15)


def test_rules_rank_as_in_theory() -> None:
    frame = table(("dWr", "dwr", "r"))
    exponents = [one.acts.value for one in growth(steps(frame, pooled(frame)))]
    assert exponents == sorted(exponents)


def test_the_exponent_of_a_cost_is_found_whatever_the_level_of_each_base() -> None:
    frame = table(("w", "dWr"), ("regnety_4.0gf", "regnety_400mf"))
    frame.loc[frame["model"] == "regnety_400mf", "latency_ms"] *= 7
    found = growth(steps(frame, pooled(frame)))
    assert [one.rule for one in found] == ["w", "dWr"]
    for one in found:
        assert one.cost.value == pytest.approx(0.5)
        assert one.networks == 8


def test_networks_are_relative_to_their_base() -> None:
    frame = table(("w",))
    relative = steps(frame, pooled(frame))
    base = relative[relative["scaling"] == ""]
    assert base[["s", "acts", "cost"]].to_numpy().tolist() == [[1, 1, 1]]
    scaled = relative[relative["network"] == "regnety_4.0gf w x2"].iloc[0]
    assert scaled["cost"] == pytest.approx(scaled["s"] ** 0.5)


def test_networks_without_a_measured_base_are_left_out() -> None:
    frame = table(("w", "d"))
    assert steps(frame[frame["scaling"] != ""], pooled(frame)).empty


def test_few_steps_give_no_exponent() -> None:
    frame = table(("w",))
    few = frame[frame["factor"].isin([1.0, 2.0])]
    assert growth(steps(few, pooled(frame))) == []


def test_a_table_without_scalings_has_no_growth() -> None:
    frame = table(("w",)).drop(columns=["scaling", "factor"]).drop_duplicates("model")
    assert growth(steps(frame, pooled(table(("w",))))) == []


BASES = ("regnety_4.0gf", "regnety_400mf", "efficientnet_b0")


def test_a_machine_that_pays_for_flops_alone_prefers_no_rule() -> None:
    frame = table(("w", "dwr", "d"), BASES)
    frame["latency_ms"] = frame["flops"] / 1e6
    found = paces(steps(frame, pooled(frame)))
    assert {each.rule for each in found} == {"w", "d"}
    for each in found:
        assert each.cost.value == pytest.approx(1)
        assert each.cost.interval == pytest.approx((1, 1))
        assert (each.bases, each.networks) == (3, 9)  # factors above 1


def test_a_machine_that_pays_for_activations_prefers_width() -> None:
    frame = table(("d", "dWr", "w", "dwr"), BASES)
    frame["latency_ms"] = frame["acts"] / 1e6
    found = paces(steps(frame, pooled(frame)))
    assert {found[0].rule, found[1].rule} == {"w", "dWr"}
    assert found[2].rule == "d"
    assert found[0].cost.value < found[1].cost.value < 1 < found[2].cost.value
    for each in found:
        assert each.cost.value == pytest.approx(each.acts.value)
        assert each.cost.interval is not None
        assert each.cost.interval[0] < each.cost.value < each.cost.interval[1]


def test_one_base_has_a_ratio_without_an_interval() -> None:
    frame = table(("w", "dwr"))
    (found,) = paces(steps(frame, pooled(frame)))
    assert found.cost.interval is None
    assert found.networks == 3


def test_without_compound_scaling_there_is_nothing_to_compare_with() -> None:
    frame = table(("w", "d"))
    assert paces(steps(frame, pooled(frame))) == []
