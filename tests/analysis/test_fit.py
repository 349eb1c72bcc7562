from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

from profiler.analysis import fit as module
from profiler.analysis.fit import fit
from profiler.analysis.frame import latency_column, rows_of, unit_of
from profiler.analysis.regression import (
    bca_interval,
    fisher_interval,
    non_negative_fit,
    precision_weights,
    resample_weights,
    slope_interval,
    weighted_correlations,
)
from profiler.cli.fit import run
from profiler.errors import UserError
from profiler.report.console import print_fits
from profiler.report.words import full_sentence, outliers_sentence, rates, rates_sentence
from tests import DATA

ZOO = DATA / "pycls_v100.csv"


def networks(n: int = 24, seed: int = 0, noise: float = 0.05, **columns: object) -> pd.DataFrame:
    """Networks over two decades whose latency is 3 ms + 0.5 ms per million acts + 2 ms per GF, with noise."""
    rng = np.random.default_rng(seed)
    acts = np.exp(rng.uniform(np.log(2e6), np.log(1e8), n))
    flops = acts * np.exp(rng.normal(5, 0.7, n))
    frame = pd.DataFrame(
        {
            "model": [f"net{i}" for i in range(n)],
            "family": [("a", "b", "c")[i % 3] for i in range(n)],
            "acts": acts,
            "flops": flops,
            "params": np.exp(rng.uniform(np.log(2e6), np.log(1e8), n)),
            "latency_ms": (3 + 0.5 * acts / 1e6 + 2 * flops / 1e9) * np.exp(noise * rng.normal(size=n)),
            "backend": "eager",
            "status": "ok",
            "reason": "",
        }
    )
    return frame.assign(**columns)


def pooled(frame: pd.DataFrame, y: str = "latency_ms") -> module.Fit:
    found = [one for one in fit(frame, y) if one.family is None]
    assert len(found) == 1
    return found[0]


# --- The numbers agree with others' implementations ---


@pytest.mark.parametrize(("proxy", "scale"), [("acts", 1e6), ("flops", 1e9), ("params", 1e6)])
def test_a_line_is_that_of_linregress(proxy: str, scale: float) -> None:
    frame = networks()
    line = pooled(frame).line(proxy)
    expected = stats.linregress(frame[proxy] / scale, frame["latency_ms"])
    assert line is not None
    assert line.slope == pytest.approx(expected.slope, rel=1e-12)
    assert line.intercept == pytest.approx(expected.intercept, rel=1e-10)
    assert line.r == pytest.approx(expected.rvalue, rel=1e-12)
    assert line.r2 == pytest.approx(expected.rvalue**2, rel=1e-12)


def test_the_standard_error_is_statsmodels_hc3() -> None:
    frame = networks(n=17, noise=0.3)
    x = (frame["acts"] / 1e6).to_numpy()
    y = frame["latency_ms"].to_numpy()
    theirs = sm.OLS(y, sm.add_constant(x)).fit(cov_type="HC3")
    line = pooled(frame).line("acts")
    assert line is not None
    assert line.slope_se == pytest.approx(theirs.bse[1], rel=1e-9)
    assert line.slope_interval is not None
    half = line.slope_interval[1] - line.slope
    assert half > theirs.bse[1] * stats.t.ppf(0.975, len(x) - 2)  # fewer degrees of freedom than n - 2


def test_errors_are_those_of_the_residuals() -> None:
    frame = networks(noise=0.2)
    line = pooled(frame).line("acts")
    assert line is not None
    residuals = frame["latency_ms"] - (line.intercept + line.slope * frame["acts"] / 1e6)
    assert line.rmse == pytest.approx(np.sqrt((residuals**2).mean()))
    assert line.mape == pytest.approx((residuals.abs() / frame["latency_ms"]).mean())


def test_the_bca_interval_is_scipys() -> None:
    frame = networks(n=20, noise=0.3)
    x, y = frame["acts"].to_numpy(), frame["latency_ms"].to_numpy()
    line = pooled(frame).line("acts")
    theirs = stats.bootstrap(
        (x, y),
        lambda a, b, axis: stats.pearsonr(a, b, axis=axis).statistic,
        paired=True,
        n_resamples=4000,
        method="BCa",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert line is not None
    assert line.r_bootstrap == pytest.approx((theirs.low, theirs.high), abs=0.01)


@given(
    r=st.floats(-0.999, 0.999),
    n=st.integers(4, 500),
)
def test_fishers_interval_is_scipys(r: float, n: int) -> None:
    x = np.linspace(-1, 1, n)
    flat = x - x.mean()
    bent = flat**2 - (flat**2).mean()
    y = r * flat / np.linalg.norm(flat) + np.sqrt(1 - r * r) * bent / np.linalg.norm(bent)
    theirs = stats.pearsonr(flat, y).confidence_interval(0.95)
    assert fisher_interval(r, n) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


def test_three_networks_say_nothing_about_r() -> None:
    assert fisher_interval(0.9, 3) == (-1.0, 1.0)


@given(weights=st.lists(st.integers(0, 4), min_size=12, max_size=12).filter(lambda w: np.count_nonzero(w) > 2))
def test_a_weighting_is_the_correlation_of_repeated_rows(weights: list[int]) -> None:
    frame = networks(n=12)
    x, y = frame["acts"].to_numpy(), frame["latency_ms"].to_numpy()
    found = weighted_correlations(x, y, np.array([weights], dtype=float))[0]
    repeated = np.corrcoef(np.repeat(x, weights), np.repeat(y, weights))[0, 1]
    assert found == pytest.approx(repeated, abs=1e-6)


def test_a_resample_of_one_network_has_no_correlation() -> None:
    x = np.array([1.0, 2.0, 3.0])
    assert np.isnan(weighted_correlations(x, x, np.array([[0.0, 3.0, 0.0]]))[0])


def test_rows_of_one_network_are_drawn_together() -> None:
    weights = resample_weights(np.array([0, 0, 1, 2, 2]), 50, seed=1)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 4]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()


# --- Intervals hold the truth as often as they say ---


@pytest.mark.parametrize("spread", ["even", "decades"])
@pytest.mark.parametrize("noise", ["constant", "proportional"])
def test_the_slope_interval_holds_the_slope(spread: str, noise: str) -> None:
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(1000):
        x = rng.uniform(1, 50, 40) if spread == "even" else np.exp(rng.uniform(0, np.log(50), 40))
        y = 3 + 2 * x + rng.normal(size=40) * (2 if noise == "constant" else 0.2 * x)
        found = slope_interval(x, y)
        assert found is not None
        hits += found[1][0] <= 2 <= found[1][1]
    assert 930 <= hits <= 970


@pytest.mark.parametrize("kind", ["fisher", "bootstrap"])
def test_the_interval_of_r_holds_r(kind: str) -> None:
    rng = np.random.default_rng(11)
    true, n, times = 0.9, 40, 500
    each = np.arange(n)
    hits = 0
    for seed in range(times):
        x, e = rng.normal(size=(2, n))
        y = true * x + np.sqrt(1 - true**2) * e
        r = float(np.corrcoef(x, y)[0, 1])
        low, high = fisher_interval(r, n)
        if kind == "bootstrap":
            draws = weighted_correlations(x, y, resample_weights(each, 1000, seed))
            low, high = bca_interval(r, draws, weighted_correlations(x, y, 1 - np.eye(n)))
        hits += low <= true <= high
    # 95% less what the bootstrap is known to lose at this size, and three standard errors of 500 trials.
    assert (0.92 if kind == "fisher" else 0.90) <= hits / times <= 0.98


# --- The published table ---


def test_published_correlations_are_reproduced() -> None:
    frame = pd.read_csv(ZOO)
    one = pooled(frame, "infer_ms")
    for proxy in ("acts", "flops", "params"):
        line = one.line(proxy)
        assert line is not None
        assert line.r == pytest.approx(np.corrcoef(frame[proxy], frame["infer_ms"])[0, 1], abs=1e-12)
    # What the authors of fast scaling found: over families, activations predict the time on a V100 best.
    assert one.n == 36
    assert one.winner is not None
    assert one.winner.proxy == "acts"
    assert [round(line.r, 3) for line in one.lines] == [0.891, 0.808, 0.757]


def test_two_terms_predict_families_of_the_published_table_unseen() -> None:
    model = pooled(pd.read_csv(ZOO), "infer_ms").two_term
    assert model is not None
    assert model.lofo_mape is not None
    assert model.lofo_mape < 0.15
    assert model.loo_mape is not None
    assert model.loo_mape < 0.08


# --- Two terms ---


@settings(max_examples=40)
@given(
    t0=st.floats(0, 20),
    per_acts=st.floats(0.01, 5),
    per_flops=st.floats(0.01, 5),
)
def test_two_terms_are_found_exactly_without_noise(t0: float, per_acts: float, per_flops: float) -> None:
    frame = networks()
    acts, flops = (frame["acts"] / 1e6).to_numpy(), (frame["flops"] / 1e9).to_numpy()
    found = non_negative_fit(np.column_stack([acts, flops]), t0 + per_acts * acts + per_flops * flops)
    assert found == pytest.approx([t0, per_acts, per_flops], rel=1e-6, abs=1e-6)


def test_no_term_is_negative() -> None:
    frame = networks()
    acts, flops = (frame["acts"] / 1e6).to_numpy(), (frame["flops"] / 1e9).to_numpy()
    found = non_negative_fit(np.column_stack([acts, flops]), np.maximum(0.1, 50 - 0.4 * acts))
    assert (found >= 0).all()


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


# --- Weights, exponents, families, outliers, speeds ---


def measured_unevenly(seed: int = 2) -> pd.DataFrame:
    """Latencies of which every other one is ten times as uncertain as the rest, and says so."""
    frame = networks(n=40, noise=0)
    rng = np.random.default_rng(seed)
    sd = np.where(np.arange(40) % 2, 0.02, 0.2)
    frame["latency_ms"] *= np.exp(sd * rng.normal(size=40))
    frame["latency_ci_low_ms"] = frame["latency_ms"] * np.exp(-1.96 * sd)
    frame["latency_ci_high_ms"] = frame["latency_ms"] * np.exp(1.96 * sd)
    return frame


def test_parameters_layers_and_padding_have_costs_of_their_own() -> None:
    rng = np.random.default_rng(5)
    layers, padding = rng.integers(20, 300, 60), rng.uniform(0, 2e9, 60)
    frame = networks(n=60, noise=0.02, layers=layers, padding_flops=padding)
    frame["latency_ms"] += 0.4 * frame["params"] / 1e6 + 0.03 * layers + 12 * padding / 1e9
    model, simpler = pooled(frame).full, pooled(frame).two_term
    assert model is not None
    assert simpler is not None
    found = (model.per_acts, model.per_flops, model.per_params, model.per_layer, model.per_padding)
    assert found == pytest.approx((0.5, 2, 0.4, 0.03, 12), rel=0.1)
    assert max(model.mape, model.loo_mape or 1) < 0.03 < simpler.mape
    assert "per M params" in (full_sentence(pooled(frame)) or "")


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


def test_intervals_of_measurement_weigh_the_two_term_model() -> None:
    off = []
    for seed in range(10):
        frame = measured_unevenly(seed)
        found = [pooled(f).two_term for f in (frame, frame.drop(columns="latency_ci_low_ms"))]
        assert [model.weighted for model in found if model] == [True, False]
        off.append([(model.per_acts - 0.5) ** 2 for model in found if model])
    weighted, alike = np.sqrt(np.mean(off, axis=0))
    assert weighted < 0.6 * alike


def test_a_weighted_line_is_that_of_statsmodels() -> None:
    frame = measured_unevenly()
    one = fit(frame, weighted=True)[0]
    line, alike = one.line("acts"), pooled(frame).line("acts")
    x, y = (frame["acts"] / 1e6).to_numpy(), frame["latency_ms"].to_numpy()
    spread = np.log(frame["latency_ci_high_ms"] / frame["latency_ci_low_ms"]).to_numpy() / 3.92
    t0, a, f = non_negative_fit(np.column_stack([x, frame["flops"] / 1e9]), y)
    weights = precision_weights(spread, (t0 + a * x + f * frame["flops"].to_numpy() / 1e9) / y - 1) / y**2
    theirs = sm.WLS(y, sm.add_constant(x), weights=weights).fit(cov_type="HC3")
    assert line is not None
    assert alike is not None
    assert (line.intercept, line.slope) == pytest.approx(tuple(theirs.params), rel=1e-6)
    assert line.slope_se == pytest.approx(theirs.bse[1], rel=1e-6)
    assert line.slope != pytest.approx(alike.slope, rel=1e-3)
    assert line.r == alike.r


def test_the_exponent_of_a_power_law_is_found_with_its_interval() -> None:
    frame = networks(noise=0)
    frame["latency_ms"] = (frame["acts"] / 1e6) ** 0.7
    line = pooled(frame).line("acts")
    assert line is not None
    assert line.exponent == pytest.approx(0.7)
    assert line.exponent_interval == pytest.approx((0.7, 0.7), abs=1e-6)


def test_families_of_unlike_level_share_a_slope() -> None:
    frame = networks(noise=0)
    level = frame["family"].map({"a": 0.0, "b": 50.0, "c": 100.0})
    frame["latency_ms"] = 1 + level + 2 * frame["acts"] / 1e6
    line = pooled(frame).line("acts")
    assert line is not None
    assert line.within_slope == pytest.approx(2)
    assert line.slope != pytest.approx(2, rel=0.01)
    assert pooled(networks(family="a")).lines[0].within_slope is None


def test_a_network_far_from_the_model_is_named() -> None:
    frame = networks(noise=0.02)
    frame.loc[7, "latency_ms"] *= 1.6
    one = pooled(frame)
    assert [out.network for out in one.outliers] == ["net7"]
    assert one.outliers[0].excess == pytest.approx(0.6, abs=0.15)
    assert "Far from the two-term model: net7 +" in str(outliers_sentence(one))
    assert pooled(networks(noise=0.02)).outliers == ()


def test_slopes_are_told_as_speeds() -> None:
    frame = networks(noise=0, precision="fp32", batch=8)
    found = rates(pooled(frame))
    assert found is not None
    # 0.5 ms for a million activations of each of 8 images: 16 activations a nanosecond.
    assert found.acts_per_s == pytest.approx(16e9, rel=1e-3)
    assert found.flops_per_s == pytest.approx(4e12, rel=1e-3)
    said = str(rates_sentence(pooled(frame)))
    assert "16.0 G activations/s, 64.0 GB/s written once; 4.00 TF/s of multiply-adds" in said


def test_what_is_no_time_has_no_speeds() -> None:
    frame = networks().rename(columns={"latency_ms": "peak_mib"})
    assert rates(pooled(frame, "peak_mib")) is None


def test_a_term_of_zero_has_no_speed() -> None:
    frame = networks(noise=0)
    frame["latency_ms"] = 1 + frame["acts"] / 1e6
    found = rates(pooled(frame))
    assert found is not None
    assert found.flops_per_s is None or found.flops_per_s > 1e15


# --- Who wins ---


def test_the_true_cause_wins_surely() -> None:
    frame = networks(noise=0.02)
    frame["latency_ms"] = 1 + frame["acts"] / 1e6
    winner = pooled(frame).winner
    assert winner == module.Winner("acts", 1.0)


def test_proxies_in_proportion_tie() -> None:
    frame = networks(noise=0.2)
    frame["flops"] = frame["acts"] * 100
    frame["params"] = 1e6 * (1 + np.arange(len(frame)) % 4)
    winner = pooled(frame).winner
    assert winner is not None
    assert winner.probability == pytest.approx(0.5, abs=0.01)


def test_the_same_table_gives_the_same_numbers() -> None:
    assert fit(networks()) == fit(networks())


def test_the_order_of_rows_does_not_change_a_line() -> None:
    first, second = pooled(networks()), pooled(networks().sample(frac=1, random_state=3))
    assert [line.slope for line in first.lines] == pytest.approx([line.slope for line in second.lines])
    assert [line.r for line in first.lines] == pytest.approx([line.r for line in second.lines])


# --- Groups, families, rows that are left out ---


def test_unlike_rows_are_never_pooled() -> None:
    frames = [
        networks(backend=backend, batch=batch, host=host, seed=batch)
        for backend in ("eager", "onnxruntime")
        for batch in (1, 8)
        for host in ("aaaa", "bbbb")
    ]
    fits = fit(pd.concat(frames))
    assert len([one for one in fits if one.family is None]) == 8
    assert len([one for one in fits if one.family == "a"]) == 8
    assert fits[0].label == "host aaaa · eager · batch 1"


def test_one_host_is_not_named() -> None:
    assert pooled(networks(host="aaaa")).label == "eager"


def test_a_table_without_groups_is_one_group() -> None:
    one = pooled(networks()[["model", "acts", "flops", "params", "latency_ms"]])
    assert (one.group, one.label, one.n) == ({}, "all networks", 24)


def test_rows_of_a_group_are_found_again() -> None:
    frame = pd.concat([networks(threads=1.0), networks(threads=2.0)])
    groups = [one.group for one in fit(frame) if one.family is None]
    assert groups == [{"backend": "eager", "threads": "1"}, {"backend": "eager", "threads": "2"}]
    assert all(len(rows_of(frame, group)) == 24 for group in groups)


def test_failed_and_empty_rows_are_left_out_and_named() -> None:
    frame = networks()
    frame.loc[0, ["status", "reason", "latency_ms"]] = ["oom", "needs 12 GB", np.nan]
    frame.loc[1, "acts"] = np.nan
    frame.loc[2, "latency_ms"] = 0
    frame.loc[3, "status"] = "unstable"
    one = pooled(frame)
    assert one.n == 21
    assert one.left_out == (
        module.LeftOut("net0", "oom: needs 12 GB"),
        module.LeftOut("net1", "no number in acts"),
        module.LeftOut("net2", "latency_ms is 0, not positive"),
    )
    assert one.lines == pooled(frame.drop(index=[0, 1, 2])).lines


def test_a_failed_row_may_hold_anything() -> None:
    frame = networks().astype({"latency_ms": object})
    frame.loc[0, ["status", "latency_ms"]] = ["error", "n/a"]
    assert pooled(frame).n == 23


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_networks_give_a_reason(count: int) -> None:
    one = pooled(networks().head(count))
    assert one.lines == ()
    assert one.reason is not None
    assert f"only {count} network" in one.reason
    assert one.two_term is None


def test_three_networks_give_a_line_without_bootstrap() -> None:
    one = pooled(networks().head(3))
    line = one.line("acts")
    assert line is not None
    assert line.r_bootstrap is None
    assert line.r_interval == (-1.0, 1.0)
    assert one.winner is not None
    assert one.winner.probability is None


def test_a_slope_that_one_network_sets_has_no_error() -> None:
    frame = networks().head(4).assign(acts=[1e6, 1e6, 1e6, 9e6])
    line = pooled(frame).line("acts")
    assert line is not None
    assert line.slope_se is None
    assert line.slope_interval is None


def test_a_constant_proxy_is_named_and_the_others_fitted() -> None:
    one = pooled(networks(flops=4e9))
    assert [line.proxy for line in one.lines] == ["acts", "params"]
    assert one.unfit == {"flops": "flops is the same for all networks"}
    assert one.two_term is None
    assert one.reason is None


def test_a_constant_latency_gives_a_reason() -> None:
    one = pooled(networks(latency_ms=5.0))
    assert one.reason == "latency_ms is the same for all networks"
    assert one.lines == ()


def test_all_failed_gives_a_reason() -> None:
    one = pooled(networks(status="timeout", latency_ms=np.nan))
    assert one.reason == "none of the 24 cases has a measurement"
    assert len(one.left_out) == 24


def test_flops_in_billions_keep_their_unit() -> None:
    frame = networks()
    frame["flops"] /= 1e9
    line = pooled(frame).line("flops")
    assert line is not None
    assert line.x_unit == "unit of flops"
    assert line.slope == pytest.approx(stats.linregress(frame["flops"], frame["latency_ms"]).slope)


# --- Bad tables ---


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.drop(columns="acts"), "missing column acts: the table has model"),
        (lambda f: f.drop(columns="latency_ms"), "missing column latency_ms"),
        (lambda f: f.head(0), "no rows"),
        (
            lambda f: f.astype({"flops": object}).assign(flops="many"),
            r"'flops' holds 'many' in row 1 \(net0\)",
        ),
    ],
)
def test_bad_tables_are_one_sentence(change: object, said: str) -> None:
    assert callable(change)
    with pytest.raises(UserError, match=said):
        fit(change(networks()))


def test_the_latency_column_is_found() -> None:
    frame = networks()
    assert latency_column(frame.assign(latency_raw_ms=1), None) == "latency_ms"
    assert latency_column(pd.read_csv(ZOO), None) == "infer_ms"
    assert latency_column(frame, "params") == "params"


@pytest.mark.parametrize(
    ("columns", "asked", "said"),
    [
        (["model", "acts"], None, "no latency column: name one with --y; the table has model, acts"),
        (["model", "cpu_ms", "gpu_ms"], None, r"several columns look like a latency \(cpu_ms, gpu_ms\)"),
        (["model", "acts"], "speed", "no column 'speed': the table has model, acts"),
    ],
)
def test_a_latency_column_that_is_not_there(columns: list[str], asked: str | None, said: str) -> None:
    with pytest.raises(UserError, match=said):
        latency_column(pd.DataFrame(columns=columns), asked)


@pytest.mark.parametrize(
    ("column", "unit"), [("latency_ms", "ms"), ("infer (ms)", "ms"), ("epoch_s", "s"), ("latency", "")]
)
def test_units_are_read_off_names(column: str, unit: str) -> None:
    assert unit_of(column) == unit


# --- The command ---


def test_json_is_strict_and_complete(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    frame = pd.concat([networks(), networks(backend="broken", status="error", latency_ms=np.nan)])
    frame.to_csv(tmp_path / "table.csv", index=False)
    run(tmp_path / "table.csv", json=True, y=None, chart=None)

    def no_constant(name: str) -> float:
        raise AssertionError(name)

    told = json.loads(capsys.readouterr().out, parse_constant=no_constant)
    assert [one["label"] for one in told["fits"]].count("broken") == 4
    first = told["fits"][0]
    assert first["n"] == 24
    assert first["lines"][0]["slope"] == pytest.approx(pooled(networks()).lines[0].slope)
    assert first["lines"][0]["r_bootstrap"][0] < first["lines"][0]["r"]


def test_the_table_says_who_wins(capsys: pytest.CaptureFixture[str]) -> None:
    run(ZOO, json=False, y="infer_ms", chart=None)
    said = " ".join(capsys.readouterr().out.split())
    assert "Activations predict infer_ms best: r = 0.891" in said
    assert "over 36 networks; flops 0.808, parameters 0.757" in said
    assert said.index("pooled") < said.index("per family") < said.index("resnext")


@pytest.mark.parametrize("brief", [False, True])
def test_nothing_is_cut_off_on_a_log_of_80_columns(brief: bool) -> None:
    frame = networks(backend="onnxruntime", device="cpu", precision="fp32", threads=16, batch=128, mode="infer")
    frame["latency_ms"] *= 12345.678
    console = Console(width=80, file=io.StringIO())
    print_fits(fit(frame), console, brief=brief)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in said
    assert ("per family" in said) is not brief
    assert said.index("pooled on") < said.index(" predict latency best")


def test_the_table_names_what_was_left_out(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    frame = networks()
    frame.loc[5, ["status", "reason", "latency_ms"]] = ["oom", "needs [12] GB", np.nan]
    frame.to_csv(tmp_path / "t.csv", index=False)
    run(tmp_path / "t.csv", json=False, y=None, chart=None)
    assert "Left out 1 case: net5 (oom: needs [12] GB)" in " ".join(capsys.readouterr().out.split())


def test_the_command_writes_a_chart(tmp_path: Path) -> None:
    run(ZOO, json=True, y=None, chart=tmp_path / "chart.svg")
    assert "Activations: r = 0.891" in (tmp_path / "chart.svg").read_text()


@pytest.mark.parametrize("content", ["", "model,flops\n", "\x00\x01"])
def test_files_that_are_no_table(tmp_path: Path, content: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(UserError):
        run(tmp_path / "t.csv", json=False, y=None, chart=None)
