"""The page of layers: its icicle."""

from __future__ import annotations

import re
from pathlib import Path

from profiler.analysis.layers import explained
from profiler.analysis.quantity import Quantity
from profiler.measure.layers import Layer, Traced
from profiler.report.explanation import costs_table, layer_facts, tracing_sentence
from profiler.report.layers_page import write_layers_page

LAYERS = (
    Layer("stem.0", "conv2d", 1e6),
    Layer("body.0.spatial.0", "conv2d", 2e6),
    Layer("body.0.spatial.1", "relu", 1e6),
    Layer("body.1.act.0", "relu", 4e6),
    Layer("", "add", 2e6),
)


def test_modules_that_hold_nothing_but_each_other_are_one_box(tmp_path: Path) -> None:
    traced = Traced(LAYERS, 10e6)
    one = explained({"model": "net", "backend": "eager", "threads": 1, "batch": 1}, Quantity(10.0), [traced], None)
    write_layers_page(one, [], [], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    boxes = re.findall(r'title="(.*?): [^"]*?([\d.]+)%" style="left: ([\d.]+)%; width: ([\d.]+)%; top: (\d+)px', text)
    found = {(name, int(top) // 26): (float(left), float(width)) for name, _, left, width, top in boxes}
    assert found == {
        ("forward", 0): (0, 100),
        ("stem.0", 1): (0, 10),
        ("stem.0 conv2d", 2): (0, 10),
        ("body", 1): (10, 70),
        ("body.0.spatial", 2): (10, 30),
        ("body.0.spatial.0", 3): (10, 20),
        ("body.0.spatial.1", 3): (30, 10),
        ("body.0.spatial.0 conv2d", 4): (10, 20),
        ("body.0.spatial.1 relu", 4): (30, 10),
        ("body.1.act.0", 2): (40, 40),
        ("body.1.act.0 relu", 3): (40, 40),
        ("(model)", 1): (80, 20),
        ("(model) add", 2): (80, 20),
    }
    sought = re.findall(r'data-sought="(.*?)"', text)
    assert sought[:5] == ["", "stem.0", "stem.0 conv2d", "body.", "body.0.spatial."]


def test_the_table_has_names_whole_and_the_page_tells_where_it_was_measured(tmp_path: Path) -> None:
    deep = Layer("body.13.a_module_with_a_long_name.spatial.0", "conv2d", 1e6)
    row = {"model": "net", "backend": "eager", "threads": 1, "batch": 1, "cpu": "Some CPU", "torch_version": "2.13.0"}
    write_layers_page(explained(row, Quantity(10.0), [Traced((deep,), 1e6)], None), [], [], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<td>body.13.a_module_with_a_long_name.spatial.0</td>" in text
    assert "<dd>Some CPU</dd>" in text
    assert "<dd>torch 2.13.0</dd>" in text


def test_a_long_name_keeps_its_block_and_a_disturbed_latency_is_said() -> None:
    deep = Layer("body.13.branch.spatial.0", "conv2d", 1e6)
    shown = []
    for whole in (8e6, 7e6):
        one = explained({}, Quantity(10.0), [Traced((deep, Layer("", "between kernels", 1e6)), whole)], None)
        shown.append(tracing_sentence(one))
        assert list(costs_table(one).columns[0].cells) == ["body.13..spatial.0 conv2d", "(model) between kernels"]
    assert ["busy otherwise" in text for text in shown] == [True, True]
    slow = explained({}, Quantity(10.0), [Traced((deep,), 9e6)], None)
    assert "busy otherwise" not in tracing_sentence(slow)


def test_times_that_hold_waits_for_the_host_are_said_to() -> None:
    waits = Traced((Layer("0", "conv2d", 1e6),), 8e6, waited=True)
    one = explained({}, Quantity(10.0), [Traced(waits.layers, 8e6), waits], None)
    assert "waits of the device for the host among them" in tracing_sentence(one)
    assert layer_facts(one, [])["waited"] is True
