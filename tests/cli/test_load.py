"""``profiler load`` as it is typed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from profiler.cli.app import app, main

FAKE = ["load", "regnety_200mf", "--backend", "fake:duration_ms=2", "--time", "300ms"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_streams_and_rates_have_a_row_each_and_are_kept():
    more = ["--streams", "1,2", "--rate", "100", "--threads", "1", "--json", "--out", "kept"]
    done = CliRunner().invoke(app, [*FAKE, *more])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [(one["streams"], one["rate_per_s"], one["threads"]) for one in told["loads"]] == [
        (1, None, 1), (2, None, 1), (1, 100, 1)
    ]  # fmt: skip
    assert all(one["p50_ms"] >= 2 for one in told["loads"])
    assert "the knee is at" in told["answer"][0]
    rows = list(csv.DictReader(Path("kept/load.csv").read_text().splitlines()))
    assert [row["load"] for row in rows] == ["1 stream", "2 streams", "100 per s"]
    done = CliRunner().invoke(app, ["report", "kept"])
    assert done.exit_code == 0, done.output
    assert "fake:duration_ms=2: the knee is at" in Path("report.html").read_text()
    again = CliRunner().invoke(app, [*FAKE, "--out", "kept"])
    assert "kept already holds load.jsonl" in str(again.exception)


def test_a_limit_is_answered_by_a_search_and_threads_and_gaps_are_stated():
    more = ["--keep", "p50=1ms", "--as", "threads", "--gap", "5ms", "--report", "--out", "kept"]
    done = CliRunner().invoke(app, [*FAKE, *more])
    assert done.exit_code == 0, done.output
    said = " ".join(done.stdout.split())
    assert "no number of streams that was tried is known to keep p50 under 1.00 ms: 1 stream had 2.0" in said
    assert "All streams are threads of one process" in said
    assert "5.00 ms apart" in Path("kept/report.html").read_text()


def test_what_cannot_be_loaded_is_said_and_the_exit_says_it_too():
    done = CliRunner().invoke(app, ["load", "regnety_200mf", "--backend", "fake:fault=parity", "--streams", "1,2"])
    assert done.exit_code == 1
    said = " ".join(done.stdout.split())
    assert "computes something else than eager" in said
    assert "Nothing was measured; the reasons are kept in results/load-" in said
    assert "Every call" not in said
    [table] = Path("results").glob("load-*/load.csv")
    assert [row["status"] for row in csv.DictReader(table.read_text().splitlines())] == ["parity", "parity"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--streams", "0"], "--streams is '0': expected whole numbers from 1 to 256"),
        (["--streams", "two"], "--streams is 'two'"),
        (["--streams", ","], "--streams is ''"),
        (["--streams", "²"], "--streams is '²'"),
        (["--rate", "-3"], "--rate is '-3': expected requests per second, above 0"),
        (["--rate", "nan"], "--rate is 'nan'"),
        (["--threads", "0"], "--threads is 0: expected 1 or more"),
        (["--time", "soon"], "soon"),
        (["--keep", "p95=1ms"], "--keep is 'p95=1ms': expected p50, p90, p99"),
        (["--as", "fibres"], "--as is 'fibres': expected processes or threads"),
        (["--gap", "2h"], "--gap is '2h': expected at most 60 s"),
        (["--gap", "3"], "'3' is not a duration"),
        (["--gap", "3ms", "--rate", "5"], "--gap is between the calls of closed loops"),
    ],
)
def test_a_wrong_option_is_one_sentence(options, said, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["profiler", *FAKE[:4], *options])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code not in (0, None)
    assert said in capsys.readouterr().err
    assert not Path("results").exists()


def test_loads_are_reported_alone(monkeypatch, capsys):
    Path("loads").mkdir()
    Path("loads/load.jsonl").touch()
    monkeypatch.setattr("sys.argv", ["profiler", "report", "loads", "other"])
    with pytest.raises(SystemExit):
        main()
    assert "name it alone" in capsys.readouterr().err
