"""``profiler latency``, with a backend whose time is known."""

from __future__ import annotations

import json
import re
from pathlib import Path

from typer.testing import CliRunner

from profiler.cli.app import app
from profiler.records.reading import read
from profiler.records.table import rows


def ask(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["latency", *words])
    return done.exit_code, done.stdout


def test_the_faster_of_two_is_named_with_its_interval(tmp_path: Path) -> None:
    code, said = ask(
        "resnet50",
        "--backend",
        "fake:duration_ms=20,fake:duration_ms=5",
        "--time",
        "3s",
        "--save",
        str(tmp_path / "kept"),
    )
    assert code == 0, said
    assert "resnet50 takes input float32 1x3x224x224" in said
    assert re.search(r"Fastest (is|was) fake:duration_ms=5", said)
    kept = read(tmp_path / "kept")
    assert len(kept.records) >= 3
    slow, fast = (row["latency_ms"] for row in rows(kept))
    assert isinstance(slow, float)
    assert isinstance(fast, float)
    assert slow > fast


def test_a_model_is_measured_in_the_layout_that_is_asked_for() -> None:
    code, said = ask("resnet50", "--backend", "fake", "--memory-format", "channels_last", "--time", "1ms", "--json")
    assert code == 0, said
    assert [case["memory_format"] for case in json.loads(said)["cases"]] == ["channels_last"]


def test_json_has_the_sentence_and_the_rows() -> None:
    code, said = ask("resnet50", "--backend", "fake:duration_ms=1", "--time", "1ms", "--json")
    found = json.loads(said)
    assert code == 0
    assert found["answer"].startswith("fake:duration_ms=1 takes")
    assert found["cases"][0]["model"] == "resnet50"


def test_what_cannot_be_measured_is_one_sentence_and_fails() -> None:
    code, said = ask("nothere.onnx", "--backend", "fake,eager", "--time", "1ms")
    assert code == 1
    assert "no such file" in said
    assert said.startswith("Nothing could be measured: ")
    assert said.count("\n") == 1
