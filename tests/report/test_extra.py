"""Everything but charts works without the extra ``report``, and says how to get charts."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from profiler.report.extra import NO_CHARTS

ROOT = Path(__file__).parents[2]
# What is not installed cannot be found; what is loaded already would be found all the same, hence a fresh process.
PRELUDE = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "vl_convert":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from profiler.cli.app import main
sys.argv = ["profiler", *sys.argv[1:]]
main()
"""


def profiler(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-c", PRELUDE, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder with a run of the fake backend, and what running it said."""
    folder = tmp_path_factory.mktemp("run")
    brief = ["--visit", "20ms", "--rounds", "1", "--precision", "90%", "--backend", "fake:duration_ms=1", "--report"]
    networks = "regnety_200mf,regnety_400mf,efficientnet_b0,resnet50"
    return folder, profiler(folder, "run", "--model", networks, *brief, "--out", "made")


Measured = tuple[Path, subprocess.CompletedProcess[str]]


def test_a_run_ends_with_its_table_and_page_and_says_how_to_get_charts(measured: Measured) -> None:
    folder, done = measured
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(NO_CHARTS) == 1
    with (folder / "made" / "cases.csv").open(encoding="utf-8") as file:
        assert {row["status"] for row in csv.DictReader(file)} <= {"ok", "unstable"}
    page = (folder / "made" / "report.html").read_text(encoding="utf-8")
    assert "pip install &#39;latency-profiler[report]&#39;" in page
    assert "vegaEmbed=" not in page
    assert {file.name for file in (folder / "made").iterdir()} >= {"journal.jsonl", "cases.csv", "report.html"}
    assert not list((folder / "made").glob("latency.*"))


def test_fits_are_printed_where_their_chart_cannot_be_drawn(measured: Measured) -> None:
    folder, _ = measured
    done = profiler(folder, "fit", "made", "--chart", "chart.png")
    assert (done.returncode, done.stderr) == (0, f"{NO_CHARTS}\n")
    assert "pooled on" in done.stdout
    assert not (folder / "chart.png").exists()


def test_a_page_is_made(measured: Measured) -> None:
    folder, _ = measured
    done = profiler(folder, "report", "made", "-o", "page.html")
    assert (done.returncode, done.stderr) == (0, f"{NO_CHARTS}\n")
    assert "What predicts latency here" in (folder / "page.html").read_text(encoding="utf-8")
    assert not (folder / "page-charts").exists()


GATE = ["gate", "--baseline", "resnet50 @fake:duration_ms=1", "--candidate", "resnet50 @fake:duration_ms=2"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["complexity", "resnet50"], 0, "25.6 M"),
        (["predict", "made", "resnet101"], 0, "resnet101"),
        (["compare", "made", "made/cases.csv"], 0, "resnet50"),
        (
            [*GATE, "--no-self-test"],
            1,
            "REGRESSION",
        ),
    ],
    ids=["complexity", "predict", "compare", "gate"],
)
def test_what_draws_nothing_needs_nothing_that_draws(
    measured: Measured, arguments: list[str], code: int, said: str
) -> None:
    done = profiler(measured[0], *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout
