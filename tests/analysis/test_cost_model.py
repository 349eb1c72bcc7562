from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from profiler.analysis.cost_model import TWO_TERMS, CostModel, cost_models, fit_terms
from profiler.analysis.frame import TERMS
from profiler.analysis.nonnegative import non_negative_fit
from profiler.analysis.rows import checked_rows
from profiler.models.complexity import Complexity
from tests import DATA
from tests.analysis.tables import measured_unevenly, networks, pooled


def test_two_terms_predict_families_of_the_published_table_unseen() -> None:
    model = pooled(pd.read_csv(DATA / "pycls_v100.csv"), "infer_ms").two_term
    assert model is not None
    assert model.lofo_mape is not None
    assert model.lofo_mape < 0.15
    assert model.loo_mape is not None
    assert model.loo_mape < 0.08


def test_a_held_out_network_does_not_predict_itself() -> None:
    frame = networks(noise=0)
    frame.loc[3, "latency_ms"] *= 10
    model = pooled(frame).two_term
    acts, flops = (frame["acts"] / 1e6).to_numpy(), (frame["flops"] / 1e9).to_numpy()
    y = frame["latency_ms"].to_numpy()
    errors = []
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        t0, a, f = non_negative_fit(np.column_stack([acts[rest], flops[rest]]), y[rest])
        errors.append(abs(t0 + a * acts[i] + f * flops[i] - y[i]) / y[i])
    assert model is not None
    assert model.loo_mape == pytest.approx(np.mean(errors))


def test_one_family_cannot_be_left_out() -> None:
    model = pooled(networks(family="a")).two_term
    assert model is not None
    assert model.lofo_mape is None


def test_parameters_layers_and_padding_have_costs_of_their_own() -> None:
    rng = np.random.default_rng(5)
    layers, padding = rng.integers(20, 300, 60), rng.uniform(0, 2e9, 60)
    frame = networks(n=60, noise=0.02, layers=layers, padding_flops=padding)
    frame["latency_ms"] += 0.4 * frame["params"] / 1e6 + 0.03 * layers + 12 * padding / 1e9
    model, simpler = pooled(frame).full, pooled(frame).two_term
    assert model is not None
    assert simpler is not None
    assert [term.column for term in model.terms] == ["acts", "flops", "params", "layers", "padding_flops"]
    assert [term.coefficient for term in model.terms] == pytest.approx([0.5, 2, 0.4, 0.03, 12], rel=0.1)
    assert max(model.mape, model.loo_mape or 1) < 0.03 < simpler.mape


def test_without_those_counts_there_are_no_such_terms() -> None:
    holed = networks(layers=[None, *[100] * 23], padding_flops=0.0)
    few = networks(n=7, layers=100, padding_flops=1e8)
    bytes_of = networks(layers=100, padding_flops=1e8).rename(columns={"latency_ms": "peak_memory_bytes"})
    for frame, y in (
        (networks(), "latency_ms"),
        (holed, "latency_ms"),
        (few, "latency_ms"),
        (bytes_of, "peak_memory_bytes"),
    ):
        assert pooled(frame, y).full is None


def two_term(frame: pd.DataFrame) -> CostModel:
    return fit_terms(checked_rows(frame, "latency_ms"), {}, "latency_ms", TWO_TERMS)


def test_intervals_of_measurement_weigh_the_two_term_model() -> None:
    off = []
    for seed in range(10):
        frame = measured_unevenly(seed)
        found = [two_term(f) for f in (frame, frame.drop(columns="latency_ci_low_ms"))]
        assert [model.weights is not None for model in found] == [True, False]
        off.append([(model.terms[0].coefficient - 0.5) ** 2 for model in found])
    weighted, alike = np.sqrt(np.mean(off, axis=0))
    assert weighted < 0.6 * alike


def test_a_fit_shows_the_very_model_that_predicts() -> None:
    one, (model,) = pooled(measured_unevenly()), cost_models(measured_unevenly(), "latency_ms")[0]
    assert one.two_term == model
    assert model.fitted == pytest.approx(one.two_term.fitted if one.two_term else [])


@pytest.mark.parametrize("columns", [TWO_TERMS, ("acts", "params"), tuple(TERMS)])
def test_every_list_of_terms_is_fitted_alike(columns: tuple[str, ...]) -> None:
    frame = networks(n=30, noise=0, layers=np.arange(30) * 7 % 30 + 20, padding_flops=np.linspace(0, 2e9, 30))
    true = dict(zip(TERMS, (0.5, 2.0, 0.4, 0.03, 12.0), strict=True))
    frame["latency_ms"] = 3 + sum(true[c] * frame[c] / TERMS[c].scale for c in columns)
    model = fit_terms(checked_rows(frame, "latency_ms"), {}, "latency_ms", columns)
    assert model.t0 == pytest.approx(3)
    assert {term.column: term.coefficient for term in model.terms} == pytest.approx({c: true[c] for c in columns})
    counts = Complexity(flops=4 * 10**9, params=10**7, acts=5 * 10**6, layers=50, padding_flops=10**8)
    assert model.value(counts) == pytest.approx(3 + sum(true[c] * getattr(counts, c) / TERMS[c].scale for c in columns))
