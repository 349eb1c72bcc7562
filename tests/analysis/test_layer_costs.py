"""What layers cost: learned from networks of known costs, kept in a file, and asked by ``profiler predict``."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from profiler.analysis.by_layers import closer, layered_errors
from profiler.analysis.layer_costs import OTHERS, PRODUCTS, Costed, layer_costs, said_by_others
from profiler.analysis.layer_file import brought_together, costs_frame, read_costs, write_costs
from profiler.analysis.predict import Prediction
from profiler.analysis.source import read_table
from profiler.cli.app import app
from profiler.errors import UserError
from profiler.measure.layers import Layer
from profiler.models import get, names
from profiler.models.complexity import complexity
from profiler.records.columns import Row
from tests import ROOT

#: ns of a call, of a multiply-add and of a byte.
TRUTH = {"conv2d": (4_000.0, 0.02, 0.1), "linear": (2_000.0, 0.05, 0.2), "relu": (1_000.0, 0.0, 0.3)}


def cost(operator: str, flops: int, moved: int) -> float:
    start, per_flop, per_byte = TRUTH[operator]
    return start + per_flop * flops + per_byte * moved


def layer(operator: str, size: int, calls: int = 1) -> Layer:
    flops, moved = (0 if operator == "relu" else 1000 * size**2), 4000 * size
    ns = calls * cost(operator, flops, moved)
    return Layer(f"a{size}", operator, ns, calls * flops, 0, 0, calls * moved, f"{size} -> {size}", calls)


def network(number: int, sizes: list[int], noise: float = 0.0) -> Costed:
    layers = [layer(operator, size) for size in sizes for operator in TRUTH]
    ms = sum(one.ns for one in layers) / 1e6 * (1 + noise)
    row: Row = {"case": f"c{number}", "host": "h", "model": f"net{number}", "family": f"f{number % 2}"}
    row |= {"backend": "fake", "device": "cpu", "precision": "fp32", "memory_format": "contiguous", "mode": "infer"}
    row |= {"threads": 1, "batch": 1, "latency_ms": ms, "latency_ci_low_ms": ms, "latency_ci_high_ms": ms}
    row |= {"flops": sum(one.flops or 0 for one in layers), "acts": 10**6 + number, "params": 10**6, "status": "ok"}
    return Costed(row, tuple(layers))


NETWORKS = [network(i, random.Random(i).sample(range(2, 60), 5)) for i in range(8)]


def test_costs_of_operators_are_found_again() -> None:
    costs = layer_costs(NETWORKS)
    for operator, truth in TRUTH.items():
        found = costs.operators[operator]
        assert (found.start_ns, found.ns_per_flop, found.ns_per_byte) == pytest.approx(truth, rel=1e-6, abs=1e-9)


@given(size=st.integers(1, 500), calls=st.integers(1, 9))
def test_a_shape_that_nobody_met_costs_what_its_operator_does_and_calls_add_up(size: int, calls: int) -> None:
    costs = layer_costs(NETWORKS)
    for operator in TRUTH:
        assert costs.ns(layer(operator, size, calls)) == pytest.approx(layer(operator, size, calls).ns, rel=1e-6)


def convolution(operator: str, flops: int, params: int, padded: int) -> Layer:
    ns = 3_000.0 + 0.02 * flops + 0.5 * params + 0.04 * padded
    return Layer("a", operator, ns, flops, 0, params, 0, f"{flops} {params} {padded} -> 1", padding_flops=padded)


#: The same kernel, with something fused into it and without.
GROUPED = [
    convolution(("Conv grouped", "FusedConv grouped")[i % 2], *random.Random(i).sample(range(1_000, 90_000), 3))
    for i in range(12)
]


def test_learned_numbers_and_narrow_groups_have_costs_of_their_own() -> None:
    costs = layer_costs([Costed(NETWORKS[0].row, tuple(GROUPED))])
    found = costs.operators["Conv grouped"]
    told = (found.start_ns, found.ns_per_flop, found.ns_per_param, found.ns_per_padding_flop)
    assert told == pytest.approx((3_000.0, 0.02, 0.5, 0.04), rel=1e-6)
    assert found.met == 12
    new = convolution("FusedConv grouped", 5, 6, 7)
    assert costs.ns(new) == pytest.approx(new.ns, rel=1e-6)
    assert costs.share_met([replace(GROUPED[0], operator="FusedConv grouped")]) == 1


def test_a_shape_that_was_met_costs_what_it_did() -> None:
    odd = Layer("odd", "relu", 123_456.0, 0, 0, 0, 80, "7 8 -> 9")
    costs = layer_costs([*NETWORKS, Costed(NETWORKS[0].row, (odd,))])
    assert costs.ns(odd) == 123_456.0
    assert costs.share_met([odd]) == 1
    assert costs.share_met([Layer("new", "relu", 0.0, 0, 0, 0, 80, "1 -> 1")]) == 0


def test_operators_that_nobody_met_are_priced_by_those_like_them() -> None:
    costs = layer_costs(NETWORKS)
    assert costs.fitted(Layer("x", "einsum", 0.0, flops=10)).operator == PRODUCTS
    assert costs.fitted(Layer("x", "erf", 0.0, flops=0)).operator == OTHERS
    assert costs.ns(Layer("x", "erf", 0.0, flops=None, moved_bytes=None)) > 0


def test_networks_left_out_are_foretold_by_the_others_alone() -> None:
    said, measured = layered_errors(NETWORKS)
    assert said == pytest.approx(measured, rel=1e-6)
    lone = [network(0, [5, 6, 7, 8, 9, 10, 11])]
    assert np.isnan(said_by_others(lone, lambda one: str(one.row["model"]))).all()
    odd = Costed(NETWORKS[0].row, tuple(Layer("o", "relu", 9e9, 0, 0, 0, 4, "odd -> odd") for _ in range(2)))
    assert (
        said_by_others([odd, *NETWORKS[1:]], lambda one: str(one.row["model"]))[0] < 1
    )  # nothing is learned from itself


def foretold(error: float) -> Prediction:
    return Prediction({}, "latency_ms", "ms", 1.0, (0.5, 2.0), "by whole networks", None, None, error)


def test_the_way_with_the_smaller_error_is_taken_and_both_are_said() -> None:
    asked = network(99, [3, 61, 62])
    layered = closer(foretold(0.05), NETWORKS, asked.layers)
    assert layered.value == pytest.approx(asked.row["latency_ms"], rel=1e-6)
    assert layered.interval[0] <= layered.value <= layered.interval[1]
    assert "layer by layer" in layered.basis
    assert "by whole networks 5.0%" in layered.basis
    noisy = [network(i, [2 * i + 3, 40], noise=0.5 * (-1) ** i) for i in range(8)]
    whole = closer(foretold(0.05), noisy, asked.layers)
    assert whole.value == 1.0
    assert "layer by layer" in whole.basis


def test_a_file_keeps_networks_and_says_what_follows(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    write_costs(NETWORKS, path)
    assert read_costs(path) == NETWORKS
    assert list(read_table(path)["model"]) == [f"net{i}" for i in range(8)]
    known = NETWORKS[0].layers[2]
    [place] = json.loads(path.read_text())["costs"]
    assert (place["place"]["backend"], place["networks"]) == ("fake", 8)
    assert {one["operator"] for one in place["operators"]} == {*TRUTH, PRODUCTS, OTHERS}
    assert {"operator": "relu", "shapes": known.shapes, "ns": pytest.approx(known.ns)} in place["shapes"]
    again = network(3, [10])
    both = brought_together(NETWORKS, [again])
    assert len(both) == 8
    assert both[3] == again
    assert len(costs_frame(both)) == 8


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no file of layer costs"),
        ("{}", "format"),
        ('{"format": "latency-profiler layer costs 1", "networks": [1]}', "its networks are none"),
        ('{"format": "latency-profiler layer costs 1", "networks": []}', "no networks"),
    ],
)
def test_another_file_is_said_in_a_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    path.write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_costs(path)
    before = path.read_text()
    done = CliRunner().invoke(
        app, ["explain", "resnet50", "--backend", "fake:duration_ms=1", "--time", "1ms", "--costs", str(path)]
    )
    assert isinstance(done.exception, UserError)
    assert path.read_text() == before


@pytest.mark.parametrize("change", [{"calls": 0}, {"ns": -1.0}, {"flops": -5}, {"name": 3}])
def test_layers_that_cannot_be_are_no_costs(change: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    write_costs(NETWORKS, path)
    whole = json.loads(path.read_text())
    whole["networks"][0]["layers"][0] |= change
    path.write_text(json.dumps(whole))
    with pytest.raises(UserError, match="its networks are none"):
        read_costs(path)


def test_explain_collects_what_predict_asks(tmp_path: Path) -> None:
    """With a backend whose layers and durations are known: whole networks are all alike, so that both ways agree."""
    costs = tmp_path / "costs.json"
    small = sorted(names(), key=lambda name: complexity(get(name)).flops)[:5]
    for name in small:
        fake = ["--backend", "fake:duration_ms=4,layers=4", "--time", "1ms", "--threads", "1"]
        done = CliRunner().invoke(app, ["explain", name, *fake, "--costs", str(costs)])
        assert done.exit_code == 0, done.exception
    done = CliRunner().invoke(app, ["predict", str(costs), small[0], "--json"])
    assert done.exit_code == 0, done.exception
    [told] = json.loads(done.stdout)["predictions"]
    measured = [float(one.row["latency_ms"] or 0) for one in read_costs(costs)]
    assert 0.99 * min(measured) <= told["predicted"] <= 1.01 * max(measured)
    assert "layer by layer" in told["basis"]


def test_a_run_is_explained_network_by_network(tmp_path: Path) -> None:
    run, costs = tmp_path / "run", tmp_path / "costs.json"
    measure = [
        "--model",
        "regnety_200mf,resnet50",
        "--backend",
        "fake:duration_ms=1",
        "--rounds",
        "1",
        "--visit",
        "1ms",
    ]
    assert CliRunner().invoke(app, ["run", *measure, "--out", str(run)]).exit_code == 0
    done = CliRunner().invoke(app, ["explain", str(run), "--costs", str(costs)])
    assert done.exit_code == 0, done.exception
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["regnety_200mf", "resnet50"]
    assert [one.row["model"] for one in read_costs(costs)] == ["regnety_200mf", "resnet50"]
    for words, sentence in ((["--batch", "2"], "leave out --batch"), (["--backend", "eager"], "no latency on eager")):
        refused = CliRunner().invoke(app, ["explain", str(run), *words])
        assert sentence in str(refused.exception)


def test_the_example_of_the_docs_prices_as_we_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = [*NETWORKS, Costed(NETWORKS[0].row, tuple(GROUPED))]
    write_costs(networks, tmp_path / "costs.json")
    text = (ROOT / "docs" / "how-to" / "answers.md").read_text(encoding="utf-8")
    [program] = re.findall(r"```python\n(# price.py.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {}
    exec(program, known)
    costs = layer_costs(networks)
    asked = [layer(operator, size) for size in (10, 999) for operator in TRUTH]
    for one in (*asked, GROUPED[0], convolution("Conv grouped", 5, 6, 7)):
        counts = (one.flops, one.moved_bytes, one.params, one.padding_flops or 0)
        assert known["price_ns"](one.operator, one.shapes, *counts) == pytest.approx(costs.ns(one))
