"""What is foretold of networks left out, and the correction by networks alike."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from profiler.analysis.correction import corrected_held_out, fit_correction, kin_of
from profiler.analysis.cost_model import cost_models
from profiler.analysis.holdout import HeldOut, foretold
from profiler.cli.fit import fit_command
from profiler.errors import UserError
from tests import DATA

ZOO = DATA / "pycls_v100.csv"


def table(n: int = 40, bend: float = 0.3, seed: int = 0) -> pd.DataFrame:
    """Networks whose latency is two terms, times a factor that changes slowly with their intensity."""
    draw = np.random.default_rng(seed)
    flops, ratio = np.exp(draw.uniform(19, 23, n)), np.exp(draw.uniform(-6, -4, n))
    counts = {"flops": flops, "acts": flops * ratio, "params": flops / 100}
    latency = (1 + 5e-9 * flops + 5e-7 * flops * ratio) * np.exp(bend * np.sin(3 * np.log(ratio)))
    family = [f"f{i % 4}" for i in range(n)]
    return pd.DataFrame({"model": [f"n{i}" for i in range(n)], "family": family, **counts, "latency_ms": latency})


def best(found: list[HeldOut], left_out: str = "network") -> dict[str, HeldOut]:
    return {one.model: one for one in found if one.left_out == left_out}


def test_what_is_alike_is_foretold_better_where_terms_do_not_bend() -> None:
    found = best(foretold(table(), "latency_ms")[0])
    assert found["corrected"].error < 0.5 * found["two terms"].error
    assert found["corrected"].chosen
    assert found["corrected"].hits[1] > found["two terms"].hits[1]


def test_a_table_that_terms_explain_is_not_corrected() -> None:
    draw = np.random.default_rng(1)
    frame = table(bend=0.0)
    frame["latency_ms"] *= np.exp(draw.normal(0, 0.03, len(frame)))
    [model], _ = cost_models(frame, "latency_ms")
    assert model.correction is None


def test_the_published_table_is_foretold_within_its_bounds() -> None:
    found = foretold(pd.read_csv(ZOO), "infer_ms")[0]
    network = best(found)
    assert network["two terms"].error == pytest.approx(0.078, abs=0.005)
    assert network["corrected"].error < 0.06
    assert network["corrected"].hits[1] > 0.8
    assert min(one.error for one in best(found, "family").values()) < 0.1


def test_what_is_left_out_is_not_seen() -> None:
    """What is said of a network may not change with its own time."""
    frame = table()
    counts, y = frame[["flops", "acts", "params"]].to_numpy(float), frame["latency_ms"].to_numpy(float)
    alone, none = np.arange(len(frame)), np.array([""] * len(frame))
    said = corrected_held_out(counts / 1e9, counts, none, alone, y)
    other = np.where(alone == 7, 3 * y, y)
    again = corrected_held_out(counts / 1e9, counts, none, alone, other)
    assert said is not None
    assert again is not None
    assert again[7] == said[7]
    assert (again != said).any()


def test_far_from_all_measured_networks_the_correction_is_their_mean() -> None:
    draw = np.random.default_rng(0)
    counts = np.exp(draw.uniform(0, 1, (30, 3)))
    logs = np.full(30, 0.2)
    learned = fit_correction(counts, np.array(["a"] * 30), np.arange(30), logs)
    assert learned is not None
    assert learned.factor(counts[:1], ["a"])[0] == pytest.approx(np.exp(0.2), rel=0.05)
    far = learned.factor(counts[:1] * [1e9, 1, 1], ["b"])[0]
    assert 1 < far < np.exp(0.25)


def test_the_command_says_error_and_hits_for_both(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    fit_command(ZOO, json=False, y="infer_ms", chart=None, holdout=True)
    said = capsys.readouterr().out
    assert said.count("two terms") == 2
    assert "within 5%" in said
    assert "predict" in said
    fit_command(ZOO, json=True, y="infer_ms", chart=None, holdout=True)
    told = json.loads(capsys.readouterr().out)
    assert {one["left_out"] for one in told["foretold"]} == {"network", "family"}
    table(3).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UserError, match="3 networks measured and counted, more than 3 are needed"):
        fit_command(tmp_path / "t.csv", json=False, y=None, chart=None, holdout=True)


@pytest.mark.parametrize(
    ("network", "family", "kin"),
    [
        ("regnetz_d8_evos@320", "regnetz", "regnetz evos"),
        ("regnetz_d8@256", "regnetz", "regnetz"),
        ("regnety_4.0gf dWr x4", "regnety", "regnety"),
        ("", "regnety", "regnety"),
    ],
)
def test_kin_are_called_alike(network: str, family: str, kin: str) -> None:
    assert kin_of(network, family) == kin


def test_a_variant_that_no_count_tells_is_foretold_by_its_kin() -> None:
    frame = table(bend=0.0)
    slow = [i % 3 == 0 for i in range(len(frame))]
    frame["model"] = [f"n{i}_slow" if one else f"n{i}" for i, one in enumerate(slow)]
    frame.loc[slow, "latency_ms"] *= 2
    found = best(foretold(frame, "latency_ms")[0])
    assert found["two terms"].error > 0.2
    assert found["corrected"].error < 0.08
