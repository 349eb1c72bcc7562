from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from profiler.cli.fit import fit_command
from profiler.errors import UserError
from tests import DATA
from tests.analysis.tables import networks, pooled

ZOO = DATA / "pycls_v100.csv"


def test_json_is_strict_and_complete(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    frame = pd.concat([networks(), networks(backend="broken", status="error", latency_ms=np.nan)])
    frame.to_csv(tmp_path / "table.csv", index=False)
    fit_command(tmp_path / "table.csv", json=True, y=None, chart=None)

    def no_constant(name: str) -> float:
        raise AssertionError(name)

    told = json.loads(capsys.readouterr().out, parse_constant=no_constant)
    assert [one["label"] for one in told["fits"]].count("broken") == 4
    first = told["fits"][0]
    assert first["n"] == 24
    assert first["lines"][0]["slope"] == pytest.approx(pooled(networks()).lines[0].slope)
    assert first["lines"][0]["r_bootstrap"][0] < first["lines"][0]["r"]


def test_the_table_says_who_wins(capsys: pytest.CaptureFixture[str]) -> None:
    fit_command(ZOO, json=False, y="infer_ms", chart=None, verbose=True)
    said = " ".join(capsys.readouterr().out.split())
    assert "Activations predict infer_ms best: r = 0.891" in said
    assert "over 36 networks; flops 0.808, parameters 0.757" in said
    assert said.index("pooled") < said.index("per family") < said.index("resnext")


@pytest.mark.parametrize("settings", [1, 3, 9])
def test_the_answer_fits_25_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path, settings: int) -> None:
    several = [networks(backend=f"runtime{i}") for i in range(settings)]
    pd.concat(several).to_csv(tmp_path / "t.csv", index=False)
    fit_command(tmp_path / "t.csv", json=False, y=None, chart=None)
    said = capsys.readouterr().out.splitlines()
    assert len(said) <= 25
    assert sum("runtime" in line for line in said) >= settings
    assert said[-1] == "-v prints every fit whole."


def test_the_table_names_what_was_left_out(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    frame = networks()
    frame.loc[5, ["status", "reason", "latency_ms"]] = ["oom", "needs [12] GB", np.nan]
    frame.to_csv(tmp_path / "t.csv", index=False)
    fit_command(tmp_path / "t.csv", json=False, y=None, chart=None)
    assert "Left out 1 case: net5 (oom: needs [12] GB)" in " ".join(capsys.readouterr().out.split())


def test_the_command_writes_a_chart(tmp_path: Path) -> None:
    fit_command(ZOO, json=True, y=None, chart=tmp_path / "chart.svg")
    assert "Activations: r = 0.891" in (tmp_path / "chart.svg").read_text()


@pytest.mark.parametrize("content", ["", "model,flops\n", "\x00\x01"])
def test_files_that_are_no_table(tmp_path: Path, content: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(UserError):
        fit_command(tmp_path / "t.csv", json=False, y=None, chart=None)
