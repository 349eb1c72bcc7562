from __future__ import annotations

import functools
import struct
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pytest

from profiler.analysis.fit import Fit, fit
from profiler.analysis.frame import PROXIES
from profiler.errors import UserError
from profiler.report.charts.batch import against_batch
from profiler.report.charts.behind import behind
from profiler.report.charts.panels import costs, latency_panels
from profiler.report.charts.parts import _RULE_COLOURS
from profiler.report.charts.sides import side_by_side
from profiler.report.charts.sizes import against_size, varying_size
from profiler.report.render import empty, svg, write_chart
from profiler.report.vega import Chart

RULES = ("", "d", "w", "dWr", "d1_w8_g8_r1")


def table(backends: tuple[str, ...] = ("eager", "onnxruntime"), **columns: object) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {
            "model": model,
            "family": model,
            "scaling": rule,
            "factor": 1.0 if rule == "" else 2.0,
            "acts": int(rng.uniform(2e6, 5e7)),
            "flops": int(rng.uniform(2e8, 8e9)),
            "params": int(rng.uniform(2e6, 6e7)),
            "backend": backend,
            "status": "ok",
            "reason": "",
        }
        for backend in backends
        for model in ("regnety", "resnet", "efficientnet")
        for rule in RULES
    ]
    frame = pd.DataFrame(rows)
    frame["latency_ms"] = 2 + frame["acts"] / 1e6 + rng.normal(size=len(frame))
    frame["latency_ci_low_ms"] = frame["latency_ms"] * 0.98
    frame["latency_ci_high_ms"] = frame["latency_ms"] * 1.02
    return frame.assign(**columns)


@functools.cache
def usual() -> dict[str, Any]:
    return specification(table(("eager",)))


def specification(frame: pd.DataFrame, y: str = "latency_ms") -> dict[str, Any]:
    return checked(latency_panels(frame, fit(frame, y)))


def checked(chart: Chart) -> dict[str, Any]:
    """The specification of a chart, held against Vega-Lite's schema."""
    made = chart.to_dict()
    settings = made.get("config", {})
    legend = {key: value for key, value in settings.get("legend", {}).items() if key != "layout"}  # not in the schema
    alt.Chart.from_dict(made | {"config": settings | {"legend": legend}})
    return made


def elements_of(page: str) -> list[tuple[str, dict[str, str | None]]]:
    found: list[tuple[str, dict[str, str | None]]] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, dict(attrs)))

    Parser().feed(page)
    return found


def marks(panel: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [layer for layer in panel["layer"] if layer["mark"]["type"] == kind]


def test_three_panels_a_row_per_backend() -> None:
    rows = specification(table())["vconcat"]
    assert [row["title"]["text"] for row in rows] == ["eager", "onnxruntime"]
    for row in rows:
        fields = [marks(panel, "point")[0]["encoding"]["x"]["field"] for panel in row["concat"]]
        assert fields == list(PROXIES)


def test_every_measured_network_is_a_point_with_a_name() -> None:
    frame = table(("eager",))
    frame.loc[0, ["status", "latency_ms"]] = ["oom", np.nan]
    spec = specification(frame)
    dots = marks(spec["vconcat"][0]["concat"][0], "point")[0]
    names = [row["network"] for row in spec["datasets"][dots["data"]["name"]]]
    assert len(names) == len(set(names)) == len(frame) - 1
    assert "resnet dWr x2" in names
    assert {"network", "y", "low", "high", "acts"} <= {tip["field"] for tip in dots["encoding"]["tooltip"]}


def test_the_line_is_the_fitted_one() -> None:
    frame, spec = table(("eager",)), usual()
    line = fit(frame)[0].line("flops")
    ends = spec["datasets"][marks(spec["vconcat"][0]["concat"][1], "line")[0]["data"]["name"]]
    assert line is not None
    assert [end["flops"] for end in ends] == pytest.approx([frame["flops"].min() / 1e9, frame["flops"].max() / 1e9])
    for end in ends:
        assert end["y"] == pytest.approx(line.intercept + line.slope * end["flops"])


def test_titles_say_what_is_seen_and_axes_their_units() -> None:
    frame = table(("eager",))
    acts = usual()["vconcat"][0]["concat"][0]
    line = fit(frame)[0].line("acts")
    assert line is not None
    assert acts["title"]["text"] == f"Activations: r = {line.r:.3f} (best)"
    encoding = marks(acts, "point")[0]["encoding"]
    assert encoding["x"]["title"] == "activations of one image (millions)"
    assert encoding["y"]["axis"]["title"] == "latency (ms)"


def test_error_bars_only_where_intervals_are() -> None:
    with_bars = usual()["vconcat"][0]["concat"][0]
    without = specification(table(("eager",)).drop(columns=["latency_ci_low_ms"]))["vconcat"][0]["concat"][0]
    assert len(marks(with_bars, "rule")) == 1
    assert marks(without, "rule") == []


def test_another_column_does_not_get_the_bars_of_latency() -> None:
    frame = table(("eager",)).rename(columns={"latency_ms": "step_ms"})
    panel = specification(frame, "step_ms")["vconcat"][0]["concat"][0]
    assert marks(panel, "rule") == []


def test_a_rule_keeps_its_colour_whatever_else_is_drawn() -> None:
    def colours(spec: dict[str, Any]) -> dict[str, str]:
        panel = spec["vconcat"][0]["concat"][0]
        scale = marks(panel, "point")[0]["encoding"]["color"]["scale"]
        return dict(zip(scale["domain"], scale["range"], strict=True))

    every = colours(usual())
    some = colours(specification(table(("eager",)).query("scaling in ['', 'dWr']")))
    assert every["dWr"] == some["dWr"] == _RULE_COLOURS["dWr"]
    assert len(set(every.values())) == len(every) == len(RULES)


def test_families_are_coloured_where_nothing_is_scaled() -> None:
    frame = table(("eager",), scaling="")
    panel = specification(frame)["vconcat"][0]["concat"][0]
    assert marks(panel, "point")[0]["encoding"]["color"]["field"] == "family"


def test_panels_of_a_row_share_their_range_and_hold_every_bar() -> None:
    frame = table(("eager",))
    domains = [
        layer["encoding"]["y"]["scale"]["domain"]
        for panel in usual()["vconcat"][0]["concat"]
        for layer in marks(panel, "point")
    ]
    assert domains[0] == domains[1] == domains[2]
    assert domains[0][1] >= frame["latency_ci_high_ms"].max()


def test_points_without_a_fit_are_drawn_without_a_line() -> None:
    panel = specification(table(("eager",)).head(2))["vconcat"][0]["concat"][0]
    assert marks(panel, "line") == []
    assert len(marks(panel, "point")) == 1
    assert "only 2 networks" in panel["title"]["subtitle"]


# --- Behind the fits, and across groups ---


def pooled_of(frame: pd.DataFrame, y: str = "latency_ms") -> list[Fit]:
    return [one for one in fit(frame, y) if one.family is None]


def test_growth_and_residuals_stand_behind_a_fit() -> None:
    frame = table(("eager",))
    chart = behind(frame, pooled_of(frame)[0])
    assert chart is not None
    panels = checked(chart)["concat"]
    titles = [panel["title"]["text"] for panel in panels]
    assert titles == ["Growth of activations with s", "Growth of latency with s", "Residuals of the two-term model"]
    domains = [marks(panel, "point")[0]["encoding"]["color"]["scale"] for panel in panels]
    assert domains[0] == domains[1] == domains[2]


def test_dashed_lines_are_the_powers_of_theory() -> None:
    frame = table(("eager",))
    chart = behind(frame, pooled_of(frame)[0])
    assert chart is not None
    spec = checked(chart)
    line = marks(spec["concat"][0], "line")[0]
    ends = [row for row in spec["datasets"][line["data"]["name"]] if row["scaling"] == "w"]
    for end in ends:
        assert end["acts"] == pytest.approx(end["s"] ** 0.5)


def test_residuals_are_relative_to_the_prediction() -> None:
    frame = table(("eager",))
    one = pooled_of(frame)[0]
    spec = checked(behind(frame, one))  # type: ignore[arg-type]
    rows = spec["datasets"][marks(spec["concat"][2], "point")[0]["data"]["name"]]
    assert len(rows) == len(frame)
    for row in rows:
        assert row["off"] == pytest.approx(100 * (row["y"] / row["predicted"] - 1))
    assert one.two_term is not None
    assert one.two_term.mape == pytest.approx(np.mean([abs(r["predicted"] / r["y"] - 1) for r in rows]))


def test_without_a_model_and_scalings_nothing_stands_behind() -> None:
    frame = table(("eager",), scaling="").head(2)
    assert behind(frame, pooled_of(frame)[0]) is None


def test_backends_stand_side_by_side() -> None:
    frame = table()
    chart = side_by_side(frame, pooled_of(frame))
    assert chart is not None
    spec = checked(chart)["concat"][0]
    (dots,) = marks(spec, "point")
    assert dots["encoding"]["color"]["scale"]["domain"] == ["eager", "onnxruntime"]
    assert spec["title"].endswith(" networks, with 95% intervals")
    one = table(("eager",))
    assert side_by_side(one, pooled_of(one)) is None


def test_of_many_networks_forty_are_shown() -> None:
    frame = pd.concat([table(model=f"m{i}") for i in range(4)])
    frame["factor"] = np.arange(len(frame)) % 300
    chart = side_by_side(frame, pooled_of(frame))
    assert chart is not None
    spec = checked(chart)
    assert spec["concat"][0]["title"].startswith("40 of ")
    assert len(marks(spec["concat"][0], "point")[0]["encoding"]["y"]["sort"]) == 40


def test_throughput_and_latency_against_batch_with_the_knee_ringed() -> None:
    frame = pd.concat([table(("eager",), batch=b) for b in (1, 4, 16)])
    chart = against_batch(frame, pooled_of(frame))
    assert chart is not None
    spec = checked(chart)
    throughput, latencies = spec["concat"]
    assert [panel["layer"][0]["encoding"]["y"]["title"] for panel in (throughput, latencies)] == [
        "images/s",
        "latency (ms) of the batch",
    ]
    lines, rings = (spec["datasets"][layer["data"]["name"]] for layer in throughput["layer"])
    assert {row["batch"] for row in lines} == {1, 4, 16}
    # Latency does not depend on the batch here, so that the largest has the best throughput and is the knee.
    assert {row["batch"] for row in rings} == {16}
    assert len(rings) == len({row["network"] for row in lines})
    assert all(row["throughput"] == pytest.approx(1000 * row["batch"] / row["latency"]) for row in lines)
    one = table(("eager",), batch=4)
    assert against_batch(one, pooled_of(one)) is None


def test_memory_is_drawn_where_it_was_measured() -> None:
    frame = table(("eager",))
    frame["memory_peak_mib"] = frame["acts"] / 1e5
    chart = costs(frame, pooled_of(frame))
    assert chart is not None
    (panel,) = checked(chart)["concat"]  # latency, which was fitted, is drawn elsewhere
    assert panel["title"]["text"] == "memory peak (MiB)"
    without = table(("eager",))
    assert costs(without, pooled_of(without)) is None


def test_nothing_measured_is_said_in_the_chart() -> None:
    frame = table(status="timeout", latency_ms=np.nan)
    assert "Nothing to draw: none of the 15 cases has a measurement" in svg(latency_panels(frame, fit(frame)))


def test_no_fits_is_said_in_the_chart() -> None:
    assert "Nothing to draw: the table has no measured case" in svg(latency_panels(table(), []))


def test_files_need_nothing_else(tmp_path: Path) -> None:
    frame = table(("eager",))
    chart = latency_panels(frame, fit(frame))
    for name in ("new/chart.html", "chart.svg", "chart.png"):
        write_chart(chart, tmp_path / name)
    page = (tmp_path / "new" / "chart.html").read_text(encoding="utf-8")
    elements = elements_of(page)
    assert [tag for tag, _ in elements].count("script") == 3
    assert not [attributes for _, attributes in elements if {"src", "href"} & attributes.keys()]
    assert "resnet dWr x2" in page
    drawing = (tmp_path / "chart.svg").read_text(encoding="utf-8")
    assert drawing.startswith("<svg")
    assert "latency (ms)" in drawing
    png = (tmp_path / "chart.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", png[16:24])
    assert width > 1800  # twice the size of three panels: sharp on every screen
    assert height > 500


def test_a_name_cannot_leave_its_script(tmp_path: Path) -> None:
    frame = table(("eager",), model="</script><img src=x>")
    write_chart(latency_panels(frame, fit(frame)), tmp_path / "chart.html")
    assert "img" not in {tag for tag, _ in elements_of((tmp_path / "chart.html").read_text(encoding="utf-8"))}


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"chart\.pdf: a chart is written as \.html, \.png, \.svg"):
        write_chart(empty("no reason"), tmp_path / "chart.pdf")
    assert list(tmp_path.iterdir()) == []


def sweep(*shapes: str, backends: tuple[str, ...] = ("eager", "onnxruntime"), **columns: object) -> pd.DataFrame:
    rows = [
        {"model": "m.py:net", "shape": shape, "backend": backend, "latency_ms": 10.0 * number, "status": "ok"}
        for backend in backends
        for number, shape in enumerate(shapes, start=1)
    ]
    return pd.DataFrame(rows).assign(
        acts=1e6, flops=1e9, params=1e6, latency_ci_low_ms=9.0, latency_ci_high_ms=31.0, **columns
    )


def against(frame: pd.DataFrame) -> dict[str, Any]:
    chart = against_size(frame, [one for one in fit(frame) if one.family is None])
    return {"concat": []} if chart is None else checked(chart)


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        (["height=128,width=64", "height=64,width=64"], ("height", [128, 64])),
        (["height=128,width=128", "height=64,width=64"], ("height = width", [128, 64])),
        (["a=1x3x8x8,b=2", "a=1x3x9x9,b=4"], ("a[2] = a[3]", [8, 9])),
        (["a=1x3x8x8,b=1x4", "a=1x3x8x16,b=1x4"], ("a[3]", [8, 16])),
        (["a=1x8,b=2", "a=1x8,b=4"], ("b", [2, 4])),
        (["a=1x8", "a=1x8"], ("", [])),
        (["a=1x8", "b=1x8"], ("", [])),
        (["a=8", ""], ("", [])),
        ([], ("", [])),
    ],
)
def test_the_size_that_varies_is_named(shapes: list[str], expected: tuple[str, list[int]]) -> None:
    assert varying_size(shapes) == expected


def test_latency_against_size_has_a_line_per_backend_and_whiskers() -> None:
    drawn = against(sweep("n=64", "n=16", "n=32"))
    (panel,) = drawn["concat"]
    (rule,), (line,) = marks(panel, "rule"), marks(panel, "line")
    data = drawn["datasets"][line["data"]["name"] if "data" in line else panel["data"]["name"]]
    eager = [(row["size"], row["y"]) for row in data if row["backend"] == "eager"]
    assert eager == [(16, 20.0), (32, 30.0), (64, 10.0)]
    assert line["encoding"]["x"]["title"] == "n"
    assert line["encoding"]["color"]["scale"]["domain"] == ["eager", "onnxruntime"]
    assert rule["encoding"]["y"]["field"] == "low"


def test_an_interval_of_any_width_does_not_flatten_the_points() -> None:
    frame = sweep("n=1", "n=2").assign(latency_ci_low_ms=1e11, latency_ci_high_ms=1e12 / 4)
    (panel,) = against(frame)["concat"]
    assert marks(panel, "line")[0]["encoding"]["y"]["scale"]["domain"] == [0, 30.0]
    latencies = specification(frame)["vconcat"][0]["concat"][0]
    assert marks(latencies, "point")[0]["encoding"]["y"]["scale"]["domain"][1] == 30.0


@pytest.mark.parametrize("frame", [sweep("n=8"), table(), sweep("n=8", "n=16", status="error")])
def test_nothing_is_drawn_against_size_without_several_shapes(frame: pd.DataFrame) -> None:
    assert against(frame)["concat"] == []


def test_each_model_and_placement_has_a_panel_against_size() -> None:
    one, other = sweep("n=8", "n=16", threads=1), sweep("x=1x8", "x=1x16", threads=1).assign(model="other")
    frame = pd.concat([one, other, one.assign(threads=2)], ignore_index=True)
    panels = against(frame)["concat"]
    assert [(panel["title"]["text"], panel["title"]["subtitle"]) for panel in panels] == [
        ("m.py:net", "1 thread"),
        ("other", "1 thread"),
        ("m.py:net", "2 threads"),
    ]
