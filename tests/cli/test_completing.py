"""What a shell is offered where a value is typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from profiler.cli.completing import backend_names, model_names, plan_names, run_names
from profiler.plan.read import BUILT_IN
from tests import ROOT

PROGRAM = """
import atexit, sys
sys.argv[0] = "profiler"
from profiler.cli.app import main
from profiler.run import processes
processes.start_server = lambda: print("server", file=sys.stderr)
atexit.register(lambda: print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr))
main()
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("results/mine/journal.jsonl", "results/mine/cases.csv", "results/kept/cases.csv", "net.onnx", "a.txt"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()


def test_the_last_of_several_values_is_completed() -> None:
    assert backend_names("eager,on") == ["eager,onnxruntime"]
    assert model_names("n,resnet15") == ["n,resnet152"]


def test_runs_plans_and_models_are_offered_and_other_files_not() -> None:
    assert run_names("results/") == ["results/mine", "results/kept/cases.csv", "results/kept/", "results/mine/"]
    assert sorted(plan_names("")) == sorted([*BUILT_IN, "results/"])
    assert model_names("ne") == ["net.onnx"]
    assert model_names("./ne") == ["./net.onnx"]
    assert run_names("nowhere/") == run_names("a") == []


def test_a_shell_is_answered_without_a_runtime_and_without_a_server_of_processes() -> None:
    asked = {"_PROFILER_COMPLETE": "complete_bash", "COMP_WORDS": "profiler run --backend torchs", "COMP_CWORD": "3"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | asked,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["torchscript"]
    assert not {"server", "torch", "onnxruntime", "pandas"} & set(done.stderr.split())
