"""Machines side by side on a page."""

from __future__ import annotations

import pandas as pd

from profiler.report.machines import machines_table
from profiler.report.page import page
from tests.analysis.test_compare import table


def test_labels_are_side_by_side_for_each_backend() -> None:
    """One machine takes twice as long, and on one backend the order of the networks is reversed."""
    own = {"fleet_label": "xeon", "host": "bbbb"}
    slow = table(factor=2.0, **own)
    turned = table(backend="onnxruntime", **own).assign(latency_ms=[*table()["latency_ms"]][::-1])
    turned = turned.drop(columns=["latency_ci_low_ms", "latency_ci_high_ms"])
    frame = pd.concat([table(fleet_label="h100"), table(fleet_label="h100", backend="onnxruntime"), slow, turned])
    made = machines_table(frame, "latency_ms")
    assert made is not None
    assert [(*row[:3], row[4]) for row in made.rows] == [
        ("xeon / h100", "eager", "8", "1.000"),
        ("xeon / h100", "onnxruntime", "8", "-1.000"),
    ]
    assert len(made.texts) + len(made.numbers) == len(made.rows[0])
    alone = machines_table(pd.concat([table(fleet_label="h100"), slow]), "latency_ms")
    assert alone is not None
    assert (alone.texts, alone.rows[0][:2]) == (("machines",), ("xeon / h100", "8"))
    assert made.rows[0][3] == "2.000 [2.000, 2.000]"
    assert "Machines side by side" in page(frame, {})


def test_one_machine_is_beside_none() -> None:
    frame = pd.concat([table(), table(backend="onnxruntime")])
    assert machines_table(frame, "latency_ms") is None
    assert "Machines side by side" not in page(frame, {})
    unlike = [table(fleet_label=label, content=label) for label in ("h100", "xeon")]
    assert machines_table(pd.concat(unlike), "latency_ms") is None
