"""Charts as a page holds them: panels apart, legends as text, colours for paper and for a dark screen."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from profiler.analysis.fit import fit
from profiler.report import vega
from profiler.report.charts.ranked import ranked_bars
from profiler.report.charts.sides import side_by_side
from profiler.report.colours import NEUTRAL, PALETTE, dark_rules
from profiler.report.html import _asset
from profiler.report.pieces import legends_of, panels_of
from profiler.report.render import PANEL
from profiler.report.vega import Chart


def light_of(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((light_of(one), light_of(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colour", [NEUTRAL, *PALETTE])
def test_every_colour_of_a_mark_is_seen_on_paper_and_on_a_dark_screen(colour: str) -> None:
    assert contrast(colour, "#ffffff") >= 3
    paper = re.findall(r"--paper: (#\w+)", _asset("page.css"))[1]
    dark = dict(re.findall(r'\[fill="(#\w+)"\] { fill: (#\w+); }', dark_rules()))
    assert contrast(dark[colour], paper) >= 3
    assert f'[stroke="{colour}"] {{ stroke: {dark[colour]}; }}' in dark_rules()


def table(settings: int, networks: int = 3) -> pd.DataFrame:
    rows = [
        {"model": f"net{n}", "backend": "eager", "threads": threads, "latency_ms": 5.0 + n + threads, "status": "ok",
         "acts": 1e6 * (n + 1), "flops": 1e9 * (n + 2), "params": 1e6 * (n + 3)}
        for threads in range(1, settings + 1) for n in range(networks)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_no_two_settings_of_a_chart_have_one_colour() -> None:
    frame = table(len(PALETTE) + 1)
    pooled = [one for one in fit(frame) if one.family is None]
    assert ranked_bars(frame, pooled) is None
    chart = side_by_side(frame, pooled)
    assert chart is not None
    (legend,) = legends_of(chart)
    assert [entry["color"] for entry in legend["entries"]] == [*PALETTE]
    assert chart.to_dict()["concat"][0]["title"] == "3 networks, 8 of 9 settings"


def shown(width: float, **parts: object) -> Chart:
    frame = pd.DataFrame({"a": [1], "b": ["x"]})
    scale = vega.given(domain=["x", "y"], range=["#004278", "#B37100"])
    seen = vega.colour("b:N", scale=scale, legend=vega.given(title="rule"))
    shapes = vega.given(domain=["x", "y"], range=["circle", "square"])
    shape = vega.channel("shape", "b:N", scale=shapes, legend=vega.given(title="rule"))
    names = vega.y("b:N", axis=vega.given(labelLimit=200))
    return vega.mark(frame, "point").encode(vega.x("a:Q"), names, seen, shape).having(width=width, height=90, **parts)


def test_a_wide_panel_is_there_twice_and_a_small_one_once() -> None:
    panels = panels_of(vega.panels(shown(PANEL), shown(2 * PANEL, title="A title. " * 20)))
    assert [panel.shown for panel in panels] == ["", "wide", "narrow"]
    wide, narrow = (panel.chart.to_dict() for panel in panels[1:])
    assert narrow["width"] + narrow["encoding"]["y"]["axis"]["labelLimit"] < 368  # what 400 pixels leave
    assert len(narrow["title"]["text"]) > len(wide["title"]["text"]) > 1
    assert {panel.chart.to_dict()["encoding"]["color"]["legend"] for panel in panels} == {None}


def test_one_legend_tells_colour_and_shape_of_a_column_for_all_panels() -> None:
    (legend,) = legends_of(vega.panels(shown(PANEL), vega.layered(shown(PANEL))))
    assert legend["title"] == "rule"
    assert [(one["name"], one["color"], one["shape"]) for one in legend["entries"]] == [
        ("x", "#004278", "circle"),
        ("y", "#B37100", "square"),
    ]
