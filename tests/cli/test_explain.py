"""``profiler explain``, with a backend whose layers are known."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from profiler.backends.base import Placement
from profiler.cli.app import app
from profiler.errors import UserError
from profiler.measure import peaks
from profiler.run import explaining

FAKE = "fake:duration_ms=4,layers=4,traced=3"


def ask(*words: str) -> tuple[int, str, BaseException | None]:
    done = CliRunner().invoke(app, ["explain", *words])
    return done.exit_code, done.stdout, done.exception


def test_layers_add_up_to_the_latency_and_the_page_and_the_table_have_them(tmp_path: Path) -> None:
    table, page = tmp_path / "layers.csv", tmp_path / "layers.html"
    code, said, _ = ask(
        "resnet50", "--backend", FAKE, "--time", "1ms", "--json", "--csv", str(table), "--html", str(page)
    )
    assert code == 0, said
    found = json.loads(said)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["layer"] for row in rows] == ["layer1", "layer2", "layer3", "layer4"]
    assert [float(row["share"]) for row in rows] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert sum(layer["latency_ms"] for layer in found["layers"]) == pytest.approx(found["latency_ms"])
    assert sum(layer["traced_ms"] for layer in found["layers"]) == pytest.approx(12)
    assert found["inflation"] == pytest.approx(12 / found["latency_ms"])
    text = page.read_text()
    widths = re.findall(r"title=\"layer(\d): .*width: ([\d.]+)%", text)
    assert {name: float(width) for name, width in widths} == {"1": 10, "2": 20, "3": 30, "4": 40}


def test_the_terminal_gets_a_few_lines_that_fit_it() -> None:
    code, said, _ = ask("resnet50", "--backend", "fake:duration_ms=4,layers=30", "--time", "1ms")
    assert code == 0, said
    lines = said.splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 80
    assert "10 of its 30 layers take 55% of it" in " ".join(said.split())
    assert [line.split()[0] for line in lines if line.startswith("layer") and "Fake" in line][:2] == [
        "layer30",
        "layer29",
    ]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["resnet50", "--backend", "fake", "--batch", "1,2"], "2 cases are asked for: explain one"),
        (["resnet50", "--backend", "fake:layers=0"], "drop the option layers=0"),
        (["nothere.onnx"], "no such file"),
        (["resnet50", "--backend", "fake", "--time", "soon"], "--time"),
        (["resnet50", "--backend", "fake", "--csv", "/dev/null/layers.csv"], "/dev/null"),
    ],
)
def test_what_cannot_be_explained_is_one_sentence(words: list[str], sentence: str) -> None:
    code, _, error = ask(*words, *([] if "--time" in words else ["--time", "1ms"]))
    assert code != 0
    assert isinstance(error, UserError)
    assert sentence in str(error)


def test_peaks_are_those_of_a_plain_product_and_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peaks, "_SECONDS", 0.0)
    monkeypatch.setattr(peaks, "_WORKING_SETS", (1 << 17, 1 << 21))
    found = peaks.measure_peaks(peaks.PeaksTask(Placement(), "now"))
    assert found.bytes_per_s[1 << 17] >= found.bytes_per_s[1 << 21]
    # A processor multiplies more often in a second than it can start operators.
    assert found.flops_per_s > 1e9 / found.overhead_ns
    peaks.store_peaks(tmp_path, "here", found)
    assert peaks.stored_peaks(tmp_path, "here") == found
    assert peaks.stored_peaks(tmp_path, "there") is None
    (tmp_path / "peaks.json").write_text('{"here": {"flops_per_s": 0}}')
    assert peaks.stored_peaks(tmp_path, "here") is None


def test_advice_is_tried_as_it_says_and_the_page_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The fake takes as long whatever the batch: four examples at once are four times as fast."""
    slow = peaks.Peaks(1e9, {1 << 17: 1e12}, 3e6, "")
    monkeypatch.setattr(explaining, "peaks_of", lambda *_: slow)
    page = tmp_path / "layers.html"
    for _ in range(5):  # beside a busy neighbour its layers take longer than they are said to
        code, said, _ = ask("resnet50", "--backend", FAKE, "--time", "1ms", "--verify", "--json", "--html", str(page))
        assert code == 0, said
        found = json.loads(said)
        if found["advice"] and found["tried"][0]["gain"][0] == pytest.approx(4, rel=0.5):
            break
    assert [advice["trial"] for advice in found["advice"]] == [{"batch": "4"}]
    [tried] = found["tried"]
    assert tried["row"]["batch"] == 4
    assert tried["gain"][0] == pytest.approx(4, rel=0.5)
    text = page.read_text()
    assert found["advice"][0]["sentence"] in text
    assert tried["sentence"] in text
    places = re.findall(r"title=\"layer(\d): .*left: ([\d.]+)%; width", text)
    assert {name: float(left) for name, left in places} == {"1": 0, "2": 10, "3": 30, "4": 60}
