from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from profiler.analysis.accuracy import with_accuracy
from profiler.analysis.fit import fit
from profiler.analysis.frontier import fronts
from profiler.report.charts.frontier import against_error, all_fronts
from profiler.report.figures import figures
from tests import ROOT


@pytest.fixture(scope="module")
def quick() -> pd.DataFrame:
    frame = pd.read_csv(ROOT / "results" / "reference" / "quick" / "cases.csv")
    return frame[frame["backend"] == "eager"].reset_index(drop=True)


def layers_of(chart: Any) -> list[dict[str, Any]]:
    layers: list[dict[str, Any]] = chart.to_dict()["concat"][0]["layer"]
    return layers


def rows(chart: Any, layer: dict[str, Any]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = chart.to_dict()["datasets"][layer["data"]["name"]]
    return made


def test_predicted_networks_are_hollow_with_their_interval(quick: pd.DataFrame) -> None:
    chart = all_fronts(fronts(with_accuracy(quick, predict=True), "latency_ms"))
    marks = {
        layer["mark"]["filled"]: rows(chart, layer) for layer in layers_of(chart) if layer["mark"]["type"] == "point"
    }
    assert {row["predicted"] for row in marks[True]} == {False}
    assert {row["predicted"] for row in marks[False]} == {True}
    assert all(row["best"] < row["error"] < row["worst"] for row in marks[False])
    assert {row["network"] for row in marks[True]} == {"regnety_200mf", "efficientnet_b0"}


def test_the_front_is_a_staircase_that_only_falls(quick: pd.DataFrame) -> None:
    chart = all_fronts(fronts(with_accuracy(quick, predict=True), "latency_ms"))
    [stairs] = [layer for layer in layers_of(chart) if layer["mark"].get("interpolate") == "step-after"]
    steps = rows(chart, stairs)
    assert [step["cost"] for step in steps] == sorted(step["cost"] for step in steps)
    assert [step["error"] for step in steps] == sorted((step["error"] for step in steps), reverse=True)


def test_there_is_a_line_per_family_and_per_rule_from_its_base(quick: pd.DataFrame) -> None:
    chart = all_fronts(fronts(with_accuracy(quick, predict=True), "latency_ms"))
    [lines] = [layer for layer in layers_of(chart) if layer["mark"]["type"] == "line" and "detail" in layer["encoding"]]
    found: dict[str, set[str]] = {}
    for row in rows(chart, lines):
        found.setdefault(row["line"], set()).add(row["network"])
    assert found["regnety"] == {"regnety_200mf"}
    assert found["regnety_200mf dWr"] == {"regnety_200mf", "regnety_200mf dWr x2", "regnety_200mf dWr x4"}


def test_the_report_has_it_where_two_networks_have_an_accuracy(quick: pd.DataFrame) -> None:
    pooled = [one for one in fit(quick) if one.family is None]
    assert "frontier-1" in dict(figures(quick, pooled))
    one = quick[quick["model"] != "efficientnet_b0"]
    assert against_error(one, pooled[0]) is None
    assert against_error(one.assign(model="net.onnx", top1=None), pooled[0]) is None


def test_a_front_of_nothing_says_so(quick: pd.DataFrame) -> None:
    told = with_accuracy(quick)
    spec = all_fronts(fronts(told, "energy_j")).to_dict()
    assert "Nothing to draw: no network has an accuracy and a cost" in str(spec)
