from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from profiler import models
from profiler.analysis import predict
from profiler.analysis.cost_model import cost_models
from profiler.analysis.source import exact_counts, read_table
from profiler.cli.app import app
from profiler.cli.predict import predict_command
from profiler.errors import UserError
from profiler.models.brought import Brought
from profiler.models.complexity import Complexity

BASES = ("efficientnet_b0", "regnety_400mf", "resnet50")


def table(noise: float = 0.02, bases: tuple[str, ...] = BASES, seed: int = 0, **columns: object) -> pd.DataFrame:
    """Real networks whose latency is 1 ms + 2 ms per million acts + 10 ms per GF, with noise in proportion."""
    rng = np.random.default_rng(seed)
    rows = []
    for base in bases:
        for rule, factor in [("", 1.0), *((r, s) for r in ("d", "w", "r", "dwr") for s in (0.5, 2.0, 3.0))]:
            arch = models.resolve(base, rule, factor)
            counts = models.complexity(arch)
            cost = 1 + 2 * counts.acts / 1e6 + 10 * counts.flops / 1e9
            rows.append(
                {
                    "model": base,
                    "family": arch.family,
                    "scaling": rule,
                    "factor": factor,
                    "flops": counts.flops,
                    "params": counts.params,
                    "acts": counts.acts,
                    "backend": "eager",
                    "batch": 1,
                    "status": "ok",
                    "latency_ms": cost * math.exp(noise * rng.normal()),
                }
            )
    return pd.DataFrame(rows).assign(**columns)


def only(frame: pd.DataFrame, model: str, rule: str = "", factor: float = 1.0) -> predict.Prediction:
    made, without = predict.predict(frame, models.resolve(model, rule, factor))
    assert without == {}
    assert len(made) == 1
    return made[0]


def test_an_unmeasured_network_is_predicted_from_the_law_of_the_others() -> None:
    arch = models.resolve("resnet50", "dWr", 1.5)
    counts = models.complexity(arch)
    one = only(table(noise=0), "resnet50", "dWr", 1.5)
    assert one.value == pytest.approx(1 + 2 * counts.acts / 1e6 + 10 * counts.flops / 1e9, rel=1e-6)
    assert one.measured is None
    assert (one.y, one.unit) == ("latency_ms", "ms")


def layered(per_layer: float) -> pd.DataFrame:
    """The same networks with a cost per layer on top, in ms."""
    frame = table()
    archs = [models.resolve(*given) for given in zip(frame["model"], frame["scaling"], frame["factor"], strict=True)]
    frame["layers"] = [models.complexity(arch).layers for arch in archs]
    return frame.assign(latency_ms=frame["latency_ms"] + per_layer * frame["layers"])


def test_what_each_layer_costs_is_found_where_the_table_counts_layers() -> None:
    frame = layered(0.2)
    arch = models.resolve("regnety_400mf", "d", 2.5)
    counts = models.complexity(arch)
    true = 1 + 2 * counts.acts / 1e6 + 10 * counts.flops / 1e9 + 0.2 * counts.layers
    with_layers, without = (only(each, "regnety_400mf", "d", 2.5) for each in (frame, frame.drop(columns="layers")))
    assert "activations, flops and layers" in with_layers.basis
    assert with_layers.value == pytest.approx(true, rel=0.05)
    assert abs(with_layers.value - true) < abs(without.value - true)


def test_a_runtime_that_pads_narrow_groups_is_seen_through() -> None:
    """RegNetZ has a group width of 4, a quarter of a block of channels."""
    frame = table(bases=("regnetx_400mf", "regnety_1.6gf", "regnetz_500mf"))
    archs = [models.resolve(*given) for given in zip(frame["model"], frame["scaling"], frame["factor"], strict=True)]
    counts = [models.complexity(arch) for arch in archs]
    frame["layers"] = [one.layers for one in counts]
    frame["padding_flops"] = [one.padding_flops for one in counts]
    frame["latency_ms"] += 10 * frame["padding_flops"] / 1e9
    counted = models.complexity(models.resolve("regnetz_500mf", "w", 2.5))
    true = 1 + 2 * counted.acts / 1e6 + 10 * counted.flops / 1e9 + 10 * counted.padding_flops / 1e9
    without = frame.drop(columns="padding_flops")
    knowing, unknowing = (only(each, "regnetz_500mf", "w", 2.5) for each in (frame, without))
    assert "parameters, layers and flops of padding" in knowing.basis
    assert knowing.value == pytest.approx(true, rel=0.05)
    assert knowing.interval[1] / knowing.interval[0] < unknowing.interval[1] / unknowing.interval[0]


def test_layers_are_no_term_where_they_are_unknown_or_foretell_nothing() -> None:
    frame = layered(0.2)
    frame.loc[frame["model"] == "resnet50", "layers"] = None
    assert "by activations and flops;" in only(frame, "resnet50", "dWr", 1.5).basis
    few = layered(0.2).head(6)
    assert "by activations and flops;" in only(few, "efficientnet_b0", "dWr", 1.5).basis


def test_a_measured_network_stands_beside_its_prediction() -> None:
    frame = table()
    one = only(frame, "resnet50", "d", 2.0)
    row = frame[(frame["model"] == "resnet50") & (frame["scaling"] == "d") & (frame["factor"] == 2.0)]
    assert one.measured == row["latency_ms"].iloc[0]


def test_extrapolation_is_said_with_the_numbers() -> None:
    one = only(table(), "efficientnet_b7")
    assert one.beyond is not None
    assert "above the most measured" in one.beyond
    assert only(table(), "resnet50", "dwr", 1.5).beyond is None


def test_a_combination_that_nothing_surrounds_is_said() -> None:
    frame = table(bases=("resnet50",))
    model = cost_models(frame, "latency_ms")[0][0]
    odd = Complexity(flops=int(frame["flops"].min()), params=1, acts=int(frame["acts"].max()))
    assert model.beyond(odd) == "no measured networks surround its combination of acts and flops"


def test_a_family_that_was_not_measured_gets_the_errors_of_families_left_out() -> None:
    frame = table()
    frame.loc[frame["family"] == "resnet", "latency_ms"] *= 1.5
    known, strange = only(frame, "efficientnet_b0", "d", 1.5), only(frame, "regnetx_400mf")
    assert "no regnetx was measured" in strange.basis
    assert "error on a family left out" in strange.basis
    ratio = [one.interval[1] / one.interval[0] for one in (known, strange)]
    assert ratio[1] > 1.5 * ratio[0]


def test_a_family_that_is_different_gets_a_fit_of_its_own() -> None:
    frame = table(noise=0.005)
    frame.loc[frame["family"] == "resnet", "latency_ms"] *= 1.5
    one = only(frame, "resnet50", "dwr", 1.5)
    assert one.basis.startswith("13 networks of resnet,")
    counts = models.complexity(models.resolve("resnet50", "dwr", 1.5))
    assert one.value == pytest.approx(1.5 * (1 + 2 * counts.acts / 1e6 + 10 * counts.flops / 1e9), rel=0.02)


def test_memory_is_predicted_from_activations_and_parameters() -> None:
    frame = table(noise=0)
    frame["memory_peak_mib"] = 50 + 4 * frame["params"] / 2**20 + 8 * frame["acts"] / 2**20
    made, _ = predict.predict(frame, models.resolve("resnet50", "dWr", 1.5))
    counts = models.complexity(models.resolve("resnet50", "dWr", 1.5))
    assert [one.y for one in made] == ["latency_ms", "memory_peak_mib"]
    assert made[1].value == pytest.approx(50 + 4 * counts.params / 2**20 + 8 * counts.acts / 2**20, rel=1e-6)


def test_groups_are_never_mixed() -> None:
    slow = table(noise=0, backend="slow")
    slow["latency_ms"] *= 3
    made, _ = predict.predict(pd.concat([table(noise=0), slow]), models.get("resnet50"))
    assert made[1].value == pytest.approx(3 * made[0].value)


def test_a_group_without_enough_networks_says_so() -> None:
    frame = pd.concat([table(), table(backend="other").head(3)])
    made, without = predict.predict(frame, models.get("resnet50"))
    assert len(made) == 1
    assert without == {"other · batch 1, latency_ms": "3 networks with latency_ms: a prediction needs at least 4"}


def test_the_command_prints_prediction_interval_and_basis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table().to_csv(tmp_path / "run.csv", index=False)
    predict_command(tmp_path / "run.csv", "resnet50", "dWr", 1.5, None, None, json=False)
    said = capsys.readouterr().out
    assert said.startswith("resnet50 dWr x1.5, ")
    assert "90%" in said
    assert "error on a network left out" in said
    assert "extrapolates" not in said


def test_an_unstable_latency_is_marked_and_memory_beside_it_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = table(peak_memory_bytes=lambda f: f["params"] * 8).assign(status="ok")
    frame.loc[frame["model"] == "resnet50", "status"] = "unstable"
    frame.to_csv(tmp_path / "run.csv", index=False)
    predict_command(tmp_path / "run.csv", "resnet50", json=False)
    said = capsys.readouterr().out
    latency, basis, memory, other = (line.strip() for line in said.splitlines()[3:7])
    unsure = int((frame["model"] == "resnet50").sum())
    assert latency.endswith("?")
    assert f" networks ({unsure} unstable) of " in basis
    assert "measured" in memory
    assert "?" not in memory
    assert "unstable" not in other
    assert said.splitlines()[-1].startswith(f"?: {unsure} of {len(frame)} are unstable, ")
    predict_command(tmp_path / "run.csv", "resnet50", json=True)
    assert [row["unstable"] for row in json.loads(capsys.readouterr().out)["predictions"]] == [True, False]


def test_json_is_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table().to_csv(tmp_path / "run.csv", index=False)
    predict_command(tmp_path / "run.csv", "resnet50", "dWr", flops="8GF", backend="eager", json=True)
    told = json.loads(capsys.readouterr().out)
    (row,) = told["predictions"]
    assert row["low"] < row["predicted"] < row["high"]
    assert row["backend"] == "eager"
    assert told["network"]["flops"] == pytest.approx(8e9, rel=0.02)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (table().head(3), "3 networks with latency_ms"),
        (table(latency_ms=np.nan), "0 networks with latency_ms"),
        (table(status="oom"), "0 networks with latency_ms"),
        (table().head(0), "no rows"),
        (table().assign(flops=lambda f: f["flops"] / 1e9), "never reaches 10,000"),
        (table(latency_ms="fast"), "expected a number"),
    ],
)
def test_tables_that_do_not_suffice_are_one_sentence(tmp_path: Path, frame: pd.DataFrame, said: str) -> None:
    frame.to_csv(tmp_path / "run.csv", index=False)
    with pytest.raises(UserError, match=said):
        predict_command(tmp_path / "run.csv", "resnet50", "", None, None, None, json=False)


def test_networks_of_a_few_thousand_flops_are_predicted_in_a_table_of_this_program(tmp_path: Path) -> None:
    tiny = table(noise=0).assign(**{name: lambda f, name=name: f[name] // 1e7 for name in ("flops", "params", "acts")})
    assert tiny["acts"].max() < 1e4
    tiny.assign(content="0123").to_csv(tmp_path / "run.csv", index=False)
    assert len(exact_counts(read_table(tmp_path / "run.csv"))) == len(tiny)
    with pytest.raises(UserError, match="never reaches 10,000, so it is taken for millions or billions of"):
        exact_counts(tiny)


def test_an_unknown_backend_is_one_sentence(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "run.csv", index=False)
    with pytest.raises(UserError, match="no row of backend 'openvino': the table has eager"):
        predict_command(tmp_path / "run.csv", "resnet50", backend="openvino", json=False)


def test_a_constant_latency_is_predicted_as_that_constant() -> None:
    one = only(table(latency_ms=5.0), "resnet50", "dWr", 1.5)
    assert one.value == pytest.approx(5)


def test_a_network_without_counts_is_not_predicted_at_0() -> None:
    nothing = Brought("mine.py:relu", counts=Complexity(flops=0, params=0, acts=0))
    free = table(noise=0).assign(latency_ms=lambda f: 2 * f["acts"] / 1e6)
    made, without = predict.predict(free, nothing)
    assert made == []
    assert set(without.values()) == {"the network has none of the counts that it is predicted by: measure it"}


def test_the_command_line_reaches_it(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "run.csv", index=False)
    done = CliRunner().invoke(
        app, ["predict", str(tmp_path / "run.csv"), "resnet50", "--scale", "dWr", "--flops", "8GF"]
    )
    assert done.exit_code == 0, done.output
    assert "resnet50 dWr x" in done.output
