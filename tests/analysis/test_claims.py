from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from profiler import models
from profiler.analysis.claims import claims
from profiler.analysis.fit import fit
from profiler.models.complexity import Complexity

BASES = ("efficientnet_b0", "regnety_400mf", "regnetz_500mf")
FASTER = "at equal flops dWr is faster than compound scaling dwr"


def rows(cost: Callable[[Complexity], float], *networks: tuple[str, str, float], **columns: object) -> pd.DataFrame:
    made = []
    for model, rule, factor in networks:
        arch = models.resolve(model, rule if factor != 1 else "", factor)
        counts = models.complexity(arch)
        made.append(
            {
                "model": model,
                "scaling": arch.scaling,
                "factor": factor,
                "flops": counts.flops,
                "params": counts.params,
                "acts": counts.acts,
                "latency_ms": cost(counts),
                "mode": "infer",
            }
        )
    frame = pd.DataFrame(made)
    frame["latency_ci_low_ms"], frame["latency_ci_high_ms"] = frame["latency_ms"] * 0.99, frame["latency_ms"] * 1.01
    return frame.assign(**columns)


def scaled(cost: Callable[[Complexity], float], **columns: object) -> pd.DataFrame:
    networks = [(base, "", 1.0) for base in BASES]
    networks += [
        (base, rule, factor) for base in BASES for rule in ("d", "w", "r", "dwr", "dWr") for factor in (2.0, 4.0)
    ]
    return rows(cost, *networks, **columns)


def verdicts(frame: pd.DataFrame) -> dict[str, str]:
    return {claim.said: one.verdict for claim in claims(frame, fit(frame)) for one in claim.found.values()}


def test_where_activations_are_the_time_all_holds() -> None:
    found = verdicts(scaled(lambda counts: counts.acts / 1e6))
    assert set(found.values()) == {"holds"}
    assert len(found) == 6


def test_where_flops_are_the_time_nothing_about_time_does() -> None:
    found = verdicts(scaled(lambda counts: counts.flops / 1e8))
    assert found["activations predict latency better than flops do"] == "does not hold"
    assert found["scaled by dWr, activations grow about as the root of flops, and faster by dwr"] == "holds"
    assert found["dWr is nearly as fast as w"] == "holds"
    assert found[FASTER] == "undecided"


def test_where_activations_save_time_the_claim_is_turned_down() -> None:
    assert verdicts(scaled(lambda counts: counts.flops**2 / counts.acts / 1e10))[FASTER] == "does not hold"


@pytest.mark.parametrize(("bases", "few"), [(1, "one base network is"), (2, "two base networks are")])
def test_few_base_networks_decide_nothing_and_have_no_interval(bases: int, few: str) -> None:
    frame = scaled(lambda counts: counts.acts / 1e6)
    frame = frame[frame["model"].isin(BASES[:bases])]
    _, grows, *paced = (one for claim in claims(frame, fit(frame)) for one in claim.found.values())
    assert {one.verdict for one in (grows, *paced)} == {"undecided"}
    assert all(one.figures.endswith(f"; {few} too few to tell") for one in (grows, *paced))
    assert not any("[" in one.figures for one in (grows, *paced))


def test_figures_are_those_of_the_run() -> None:
    frame = scaled(lambda counts: counts.acts / 1e6)
    [claim] = [claim for claim in claims(frame, fit(frame)) if claim.said == FASTER]
    [one] = claim.found.values()
    assert one.figures.startswith("dWr takes 0.79 [0.")
    assert one.figures.endswith("of the time of dwr")
    beside = {claim.said: one for claim in claims(frame, fit(frame)) for one in claim.found.values()}
    assert beside["dWr is nearly as fast as w"].figures == "dWr takes 1.00 [0.93, 1.07] of the time of w"


@pytest.mark.parametrize(("ms", "verdict"), [(1000.0, "holds"), (9000.0, "does not hold"), (4010.0, "undecided")])
def test_the_papers_example_of_training(ms: float, verdict: str) -> None:
    pair = [("efficientnet_b4", "", 1.0), ("regnety_4.0gf", "dWr", 4.0)]
    frame = rows(lambda _: 4000.0, *pair, mode="train", batch=8, peak_memory_bytes=[5e9, 2.6e9])
    frame.loc[1, ["latency_ms", "latency_ci_low_ms", "latency_ci_high_ms"]] = [ms, ms * 0.99, ms * 1.01]
    found = {claim.said: one for claim in claims(frame, fit(frame)) for one in claim.found.values()}
    trains = found[
        "RegNetY-4GF scaled to 16 GF by dWr trains faster than EfficientNet-B4 (about four times on its GPU)"
    ]
    assert trains.verdict == verdict
    assert "for 3.6 times the flops" in trains.figures
    assert found["and with less memory"].figures == "2.42 GiB against 4.66 GiB"


def test_a_run_without_rules_to_compare_says_nothing() -> None:
    frame = rows(lambda counts: counts.acts / 1e6, *((base, "", 1.0) for base in models.names()[:8]))
    assert claims(frame, fit(frame)) == []


def test_each_group_is_judged_alone() -> None:
    costs = {"x": lambda c: c.acts / 1e6, "y": lambda c: c.flops**2 / c.acts / 1e10}
    frame = pd.concat([scaled(cost, backend=name) for name, cost in costs.items()])
    [claim] = [claim for claim in claims(frame, fit(frame)) if claim.said == FASTER]
    assert {where: one.verdict for where, one in claim.found.items()} == {
        "x · infer": "holds",
        "y · infer": "does not hold",
    }
