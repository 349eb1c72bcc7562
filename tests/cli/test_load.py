"""``profiler load`` as it is typed."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from profiler.cli.app import app, main

FAKE = ["load", "regnety_200mf", "--backend", "fake:duration_ms=2", "--time", "300ms"]


def test_streams_and_rates_have_a_row_each():
    done = CliRunner().invoke(app, [*FAKE, "--streams", "1,2", "--rate", "100", "--threads", "1", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [(one["streams"], one["rate"], one["threads"]) for one in told["loads"]] == [
        (1, None, 1), (2, None, 1), (1, 100, 1)
    ]  # fmt: skip
    assert all(one["p50_ms"] >= 2 for one in told["loads"])
    assert "most per second with" in told["answer"][0]


def test_a_limit_is_answered_by_a_sentence():
    done = CliRunner().invoke(app, [*FAKE, "--streams", "1", "--under", "50ms"])
    assert done.exit_code == 0, done.output
    assert "keep p99 under 50 ms" in done.stdout


def test_what_cannot_be_loaded_is_said_and_the_exit_says_it_too():
    done = CliRunner().invoke(app, ["load", "regnety_200mf", "--backend", "fake:fault=parity", "--streams", "1,2"])
    assert done.exit_code == 1
    assert "computes something else than eager" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--streams", "0"], "--streams is '0': expected whole numbers from 1 to 256"),
        (["--streams", "two"], "--streams is 'two'"),
        (["--rate", "-3"], "--rate is '-3': expected requests per second, above 0"),
        (["--rate", "nan"], "--rate is 'nan'"),
        (["--threads", "0"], "--threads is 0: expected 1 or more"),
        (["--time", "soon"], "soon"),
    ],
)
def test_a_wrong_option_is_one_sentence(options, said, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["profiler", *FAKE[:4], *options])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code not in (0, None)
    assert said in capsys.readouterr().err
