"""Advice, prediction and growth for a family of the user's, from a table whose latencies follow a known law."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from profiler.analysis.advise import Advice, _advised
from profiler.analysis.fit import fit
from profiler.analysis.goal import prepare
from profiler.analysis.growth import growth, steps
from profiler.analysis.predict import predict
from profiler.analysis.verify import verify
from profiler.cli.app import app
from profiler.errors import UserError
from profiler.measure.describe import DescribeTask, describe
from profiler.measure.families import networks
from profiler.measure.visit import Task
from profiler.models.brought import Brought, Wanted, counts_of
from profiler.models.complexity import Complexity
from profiler.records.types import Budget, Conditions, Measurement, Warmup
from profiler.run.calibrations import Calibrations
from profiler.run.child import Limits
from profiler.run.lab import Lab
from tests.models.own_families import write_mlp

ROOT = Path(__file__).parents[2]
RULES = ("d", "w", "r", "dwr")


def law(counts: Complexity) -> float:
    """Milliseconds of a machine on which activations cost nearly everything."""
    return 0.5 + 20 * counts.acts / 1e6 + 0.1 * counts.flops / 1e9


def sent(function: Any, argument: Any) -> Any:
    """Answer in this process, as through a pipe; tests/run/ asks others."""
    return pickle.loads(pickle.dumps(function(pickle.loads(pickle.dumps(argument)))))


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("advise", "verify"):
        monkeypatch.setattr(f"profiler.analysis.{module}.answered", sent)


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("mlp")
    return f"{folder}/{write_mlp(folder)}"


@pytest.fixture(scope="module")
def frame(mlp: str) -> pd.DataFrame:
    found = networks([Wanted(mlp), *(Wanted(mlp, rule, s) for rule in RULES for s in (0.5, 2.0, 4.0, 8.0))])
    assert isinstance(found, dict)
    rows = [
        {
            "model": mlp, "family": mlp, "scaling": one.scaling, "factor": one.factor, "flops": counts.flops,
            "params": counts.params, "acts": counts.acts, "latency_ms": law(counts),
        }
        for one in found.values() for counts in [counts_of(one)]
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(backend="fake", threads=1, batch=1, status="ok")


@pytest.fixture(scope="module")
def run(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("run") / "run.csv"
    frame.to_csv(path, index=False)
    return str(path)


@pytest.fixture(scope="module")
def advice(mlp: str, frame: pd.DataFrame) -> Advice:
    return _advised((mlp, prepare(frame, mlp, "flops", 4e5, "400kF")))


def test_where_activations_cost_everything_width_is_advised(advice: Advice) -> None:
    first = advice.best[0]
    assert isinstance(first.arch, Brought)
    assert first.counts.flops == pytest.approx(4e5, rel=0.02)
    size = dict(first.arch.parameters)
    assert first.counts.flops == size["depth"] * size["tokens"] * size["width"] * (size["width"] + 1)
    assert first.latency == pytest.approx(law(first.counts), rel=0.01)
    assert size["width"] >= 64
    assert size["depth"] <= 6
    assert {one.mark for one in advice.marked} == {"dWr", "dwr", "w"}
    assert advice.base == Brought(
        advice.base.name, advice.base.name, "", 1.0, (("depth", 4), ("width", 32), ("tokens", 16)),
        None, Complexity(67584, 4224, 2048),
    )  # fmt: skip


def test_the_command_advises_in_processes_as_a_user_starts_them(mlp: str, run: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "profiler", "advise", mlp, run, "--latency", "0.6ms", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    told = json.loads(done.stdout)
    assert 0.5 < told["best"]["latency"] <= 0.6
    assert told["best"]["parameters"].keys() == {"depth", "width", "tokens"}
    assert told["basis"].startswith(f"17 networks of {mlp}")


def test_what_is_printed_names_each_parameter_of_the_best(
    advice: Advice, mlp: str, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiler.cli.advise.advise_own", lambda name, goal: advice)
    done = CliRunner().invoke(app, ["advise", mlp, run, "--flops", "400kF"])
    assert done.exit_code == 0, done.output
    assert "It has depth 6; width 64; tokens 16." in done.stdout
    assert "was published, for convolutional networks" in " ".join(done.stdout.split())


def test_a_model_that_is_no_family_is_one_sentence(run: str, tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text("def net():\n    return None\n")
    for name in (f"{tmp_path}/plain.py:net", "net.onnx"):
        done = CliRunner().invoke(app, ["advise", name, run, "--flops", "4GF"], catch_exceptions=True)
        assert isinstance(done.exception, UserError)
        assert str(done.exception).startswith(f"{name} cannot be scaled: ")


def test_prediction_and_measurement_of_one_network_agree(mlp: str, frame: pd.DataFrame) -> None:
    found = networks([Wanted(mlp, "d", 4.0)])
    assert isinstance(found, dict)
    (one,), without = predict(frame, found[Wanted(mlp, "d", 4.0)])
    assert one.value == pytest.approx(one.measured, rel=0.01)
    assert without == {}


def test_growth_has_the_exponents_of_linear_layers(frame: pd.DataFrame) -> None:
    pooled = next(one for one in fit(frame) if one.family is None)
    found = {one.rule: one for one in growth(steps(frame, pooled))}
    assert found.keys() == {"d", "w", "r", "dwr"}
    for one in found.values():
        assert one.acts.value == pytest.approx(one.theory, abs=0.07)


class Scripted:
    """Visits take what the law says of what was described; models are described in this process."""

    def __init__(self) -> None:
        self.known: dict[str, Complexity] = {}
        self.rng = np.random.default_rng(0)

    def call(self, function: Any, argument: Any, timeout_s: float, limits: Limits) -> Any:
        if isinstance(argument, DescribeTask):
            found = describe(argument)
            assert found.complexity is not None
            self.known[found.content] = found.complexity
            return found
        assert isinstance(argument, Task)
        ns = round(1e6 * law(self.known[argument.case.content]) * np.exp(0.002 * self.rng.normal()))
        return Measurement(((ns,) * 10,) * 3, 1, (), None, Warmup((ns,), steady=True), 0.0, Conditions(), {}, {})

    def close(self) -> None:
        pass


def test_advice_that_is_true_holds(advice: Advice, tmp_path: Path) -> None:
    executor = Scripted()
    calibrations = Calibrations(executor, tmp_path / "cache", lambda _: Limits())
    lab = Lab(Budget(min_rounds=3, rounds=3), executor, lambda _: Limits(), calibrations)
    (check,) = verify(advice, 1, tmp_path / "run", lab=lab)
    assert check.held is True
    assert check.flops_ratio == pytest.approx(1, rel=0.02)
    assert check.ratio == pytest.approx(law(check.advised.counts) / law(counts_of(check.control)), rel=0.01)
