"""A few models of each form through the command, in one run."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

from tests.breadth.catalogue import HERE, packaged

NAMES = [
    "timm:mobilenetv4_conv_small",
    "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn",
    f"{HERE / 'hub.py'}:bert_by_keyword",
    f"{HERE / 'plain.py'}:normalised",
    packaged("onnx", "backend/test/data/light/light_squeezenet.onnx"),
]


def run(folder: Path, *arguments: str) -> list[dict[str, str]]:
    """Measure as briefly as it goes; return the rows."""
    command = [sys.executable, "-m", "profiler", "run", *arguments, "--rounds", "1", "--visit", "10ms"]
    done = subprocess.run(
        [*command, "--out", str(folder / "run")], check=False, cwd=folder, capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr, done.stderr
    with (folder / "run" / "cases.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_form_gets_a_latency_or_one_sentence(tmp_path: Path) -> None:
    rows = run(tmp_path, "--model", ",".join(NAMES))
    by_model = {name: [row for row in rows if row["model"] == name] for name in NAMES}
    assert [len(by_model[name]) for name in NAMES] == [3, 3, 3, 3, 1]
    for row in by_model[NAMES[1]]:
        assert row["status"] == "error"
        assert "an operator that torchvision compiles" in row["reason"]
    for row in (row for row in rows if row["model"] != NAMES[1]):
        assert row["status"] in ("ok", "unstable"), row["reason"]
        assert float(row["latency_ms"]) > 0
    assert {row["inputs"] for row in by_model[NAMES[2]]} == {"input_ids int64 1x64, attention_mask int64 1x64"}
    (exported,) = [row for row in by_model[NAMES[3]] if row["backend"] == "onnxruntime"]
    assert "exported by torch.export" in exported["reason"]


def test_a_sweep_over_sequence_length_is_one_command_and_a_chart(tmp_path: Path) -> None:
    rows = run(
        tmp_path, "--model", f"{HERE / 'hub.py'}:bert", "--shape", "sequence=32/64", "--backend", "eager", "--report"
    )
    assert [row["inputs"] for row in rows] == ["input_ids int64 1x32", "input_ids int64 1x64"]
    assert float(rows[1]["flops"]) > 1.9 * float(rows[0]["flops"])
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert 'aria-label="Latency against the size of the inputs"' in page


def test_a_sweep_over_resolution_is_one_command(tmp_path: Path) -> None:
    shape = "height=64/96,width=64/96"
    rows = run(tmp_path, "--model", "torchvision:resnet18", "--shape", shape, "--backend", "onnxruntime")
    assert [(row["inputs"], row["resolution"]) for row in rows] == [
        ("x float32 1x3x64x64", "64"),
        ("x float32 1x3x96x96", "96"),
    ]
    assert float(rows[1]["flops"]) > 2 * float(rows[0]["flops"])
