from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from profiler.analysis.fit import fit
from profiler.analysis.frame import rows_of
from profiler.analysis.goal import prepare
from profiler.errors import UserError
from tests import DATA
from tests.analysis.tables import networks, pooled


def test_published_correlations_are_reproduced() -> None:
    frame = pd.read_csv(DATA / "pycls_v100.csv")
    one = pooled(frame, "infer_ms")
    for proxy in ("acts", "flops", "params"):
        line = one.line(proxy)
        assert line is not None
        assert line.r == pytest.approx(np.corrcoef(frame[proxy], frame["infer_ms"])[0, 1], abs=1e-12)
    # What the authors of fast scaling found: over families, activations predict the time on a V100 best.
    assert one.n == 36
    assert one.winner == "acts"
    assert [round(line.r, 3) for line in one.lines] == [0.891, 0.808, 0.757]


def test_the_true_cause_wins_surely() -> None:
    frame = networks(noise=0.02)
    frame["latency_ms"] = 1 + frame["acts"] / 1e6
    one = pooled(frame)
    assert (one.winner, one.winner_probability) == ("acts", 1.0)


def test_proxies_in_proportion_tie() -> None:
    frame = networks(noise=0.2)
    frame["flops"] = frame["acts"] * 100
    frame["params"] = 1e6 * (1 + np.arange(len(frame)) % 4)
    assert pooled(frame).winner_probability == pytest.approx(0.5, abs=0.01)


def test_the_same_table_gives_the_same_numbers() -> None:
    assert fit(networks()) == fit(networks())


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


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_networks_give_a_reason(count: int) -> None:
    one = pooled(networks().head(count))
    assert one.lines == ()
    assert one.reason is not None
    assert f"only {count} network" in one.reason
    assert one.two_term is None


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


def test_networks_of_which_something_was_not_counted_are_left_out_and_said_to_be() -> None:
    frame = networks()
    why = "no rule counts aten::_fft_r2c: flops and acts are at least what is given"
    frame["uncounted"] = [why if i < 2 else None for i in range(24)]
    frame.loc[:1, ["flops", "acts"]] = np.nan
    one = pooled(frame)
    assert one.left_out == (("net0", why), ("net1", why))
    assert one.n == 22
    assert one.lines == pooled(networks().tail(22)).lines


@pytest.mark.parametrize("counted", [0, 1])
def test_measured_networks_without_counts_are_told_as_measured(counted: int) -> None:
    frame = networks(4)
    frame.loc[counted:, ["acts", "params"]] = np.nan
    frame.loc[3, "status"] = "error"
    reason = (
        "only 1 network measured and counted: a line needs at least 3"
        if counted
        else "3 of the 4 cases have a measurement, but no acts, params to explain it with"
    )
    assert pooled(frame).reason == reason
    with pytest.raises(UserError, match=f"{counted} networks with latency_ms and all counts: a prediction needs"):
        prepare(frame, "a", "flops", 1e9, "1GF")


def test_one_uncounted_network_is_told_as_measured() -> None:
    one = pooled(networks(1, acts=np.nan))
    assert one.reason == "it has a measurement, but no acts to explain it with"
    assert pooled(networks(1, status="error")).reason == "the only case has no measurement"
