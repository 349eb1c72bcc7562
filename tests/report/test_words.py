from __future__ import annotations

import re

import numpy as np
import pytest

from profiler.report.words import _rates, full_sentence, outliers_sentence, rates_sentence, sentence
from tests.analysis.tables import networks, pooled


def test_slopes_are_told_as_speeds() -> None:
    frame = networks(noise=0, precision="fp32", batch=8)
    found = _rates(pooled(frame))
    assert found is not None
    acts_per_s, flops_per_s = found
    # 0.5 ms for a million activations of each of 8 images: 16 activations a nanosecond.
    assert acts_per_s == pytest.approx(16e9, rel=1e-3)
    assert flops_per_s == pytest.approx(4e12, rel=1e-3)
    said = str(rates_sentence(pooled(frame)))
    assert "16.0 G activations/s, 64.0 GB/s written once; 4.00 TF/s of multiply-adds" in said


def test_the_correlation_of_three_networks_has_no_interval_that_says_nothing() -> None:
    few, enough = sentence(pooled(networks().head(3))), sentence(pooled(networks()))
    assert re.search(r"best: r = 1\.000 over 3 networks", few)
    assert re.search(r"best: r = 0\.\d{3} \[0\.\d{3}, [01]\.\d{3}\] over", enough)


def test_what_is_no_time_has_no_speeds() -> None:
    frame = networks().rename(columns={"latency_ms": "peak_mib"})
    assert _rates(pooled(frame, "peak_mib")) is None


def test_a_term_of_zero_has_no_speed() -> None:
    frame = networks(noise=0)
    frame["latency_ms"] = 1 + frame["acts"] / 1e6
    found = _rates(pooled(frame))
    assert found is not None
    assert found[1] is None or found[1] > 1e15


def test_a_network_far_from_the_model_is_named() -> None:
    frame = networks(noise=0.02)
    frame.loc[7, "latency_ms"] *= 1.6
    one = pooled(frame)
    ((network, measured, predicted),) = one.outliers
    assert network == "net7"
    assert measured / predicted - 1 == pytest.approx(0.6, abs=0.15)
    assert "Far from the two-term model: net7 +" in str(outliers_sentence(one))
    assert pooled(networks(noise=0.02)).outliers == ()


def test_the_terms_of_all_that_is_counted_are_said_by_their_units() -> None:
    frame = networks(n=60, noise=0, layers=np.arange(60) * 7 % 60 + 20, padding_flops=np.linspace(0, 2e9, 60))
    frame["latency_ms"] += 0.4 * frame["params"] / 1e6 + 0.03 * frame["layers"] + 12 * frame["padding_flops"] / 1e9
    said = str(full_sentence(pooled(frame)))
    assert (
        "3 ms + 0.5 per M acts + 2 per GF + 0.4 per M params + 0.03 per layer + 12 per GF that padding groups" in said
    )
    assert "error fitted 0.0%, network left out 0.0%, family left out 0.0%" in said
