from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from profiler.analysis.fit import fit
from profiler.analysis.nonnegative import non_negative_fit, precision_weights
from tests.analysis.tables import measured_unevenly, networks, pooled
from tests.analysis.test_regression import hc3


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


def test_the_standard_error_is_hc3() -> None:
    frame = networks(n=17, noise=0.3)
    x = (frame["acts"] / 1e6).to_numpy()
    y = frame["latency_ms"].to_numpy()
    _, errors = hc3(np.column_stack([np.ones(17), x]), y)
    line = pooled(frame).line("acts")
    assert line is not None
    assert line.slope_se == pytest.approx(errors[1], rel=1e-9)
    assert line.slope_interval is not None
    half = line.slope_interval[1] - line.slope
    assert half > errors[1] * stats.t.ppf(0.975, len(x) - 2)  # fewer degrees of freedom than n - 2


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


def test_a_weighted_line_is_that_of_weighted_least_squares() -> None:
    frame = measured_unevenly()
    one = fit(frame, weighted=True)[0]
    line, alike = one.line("acts"), pooled(frame).line("acts")
    x, y = (frame["acts"] / 1e6).to_numpy(), frame["latency_ms"].to_numpy()
    spread = np.log(frame["latency_ci_high_ms"] / frame["latency_ci_low_ms"]).to_numpy() / 3.92
    t0, a, f = non_negative_fit(np.column_stack([x, frame["flops"] / 1e9]), y)
    weights = precision_weights(spread, (t0 + a * x + f * frame["flops"].to_numpy() / 1e9) / y - 1) / y**2
    values, errors = hc3(np.column_stack([np.ones(40), x]), y, weights)
    assert line is not None
    assert alike is not None
    assert (line.intercept, line.slope) == pytest.approx(tuple(values), rel=1e-6)
    assert line.slope_se == pytest.approx(errors[1], rel=1e-6)
    assert line.slope != pytest.approx(alike.slope, rel=1e-3)
    assert line.r == alike.r


def test_the_order_of_rows_does_not_change_a_line() -> None:
    first, second = pooled(networks()), pooled(networks().sample(frac=1, random_state=3))
    assert [line.slope for line in first.lines] == pytest.approx([line.slope for line in second.lines])
    assert [line.r for line in first.lines] == pytest.approx([line.r for line in second.lines])


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


def test_three_networks_give_a_line_without_bootstrap() -> None:
    one = pooled(networks().head(3))
    line = one.line("acts")
    assert line is not None
    assert line.r_bootstrap is None
    assert line.r_interval == (-1.0, 1.0)
    assert one.winner is not None
    assert one.winner_probability is None


def test_a_slope_that_one_network_sets_has_no_error() -> None:
    frame = networks().head(4).assign(acts=[1e6, 1e6, 1e6, 9e6])
    line = pooled(frame).line("acts")
    assert line is not None
    assert line.slope_se is None
    assert line.slope_interval is None


def test_flops_in_billions_keep_their_unit() -> None:
    frame = networks()
    frame["flops"] /= 1e9
    line = pooled(frame).line("flops")
    assert line is not None
    assert line.x_unit == "unit of flops"
    assert line.slope == pytest.approx(stats.linregress(frame["flops"], frame["latency_ms"]).slope)
