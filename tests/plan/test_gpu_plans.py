"""Plans for several GPUs say what these share."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from profiler.cli import dry_run
from profiler.cli.app import app
from profiler.machine.host import usable_cores
from profiler.plan.cases import notes
from profiler.plan.read import from_flags
from profiler.run.describing import Described


def test_a_plan_for_two_gpus_says_what_they_share():
    two = from_flags(models="resnet50", devices="cuda:0,cuda:1", backends="eager")
    assert any("share this host's power" in note for note in notes(two))
    one = from_flags(models="resnet50", devices="cpu,cuda:1", backends="eager")
    assert not any("power" in note for note in notes(one))


@pytest.mark.parametrize("flag", ["--device", "--devices"])
def test_both_spellings_take_several_gpus_and_say_once_what_they_share(flag, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dry_run, "rehearse", lambda cases: (Described(tuple(cases)), []))  # as where all are there
    told = ["run", "--model", "resnet50", "--backend", "eager", flag, "cuda:0,cuda:1", "--dry-run"]
    done = CliRunner().invoke(app, told)
    assert done.exit_code == 0, done.output
    assert [line for line in done.stdout.splitlines() if "cuda:" in line] == [
        f"resnet50 · eager · cuda:{i} fp32 t{usable_cores()} b1" for i in (0, 1)
    ]
    assert " ".join(done.output.split()).count("cuda:0, cuda:1 are visited one at a time") == 1
