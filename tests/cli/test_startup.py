"""What the command line loads, and how long it takes, before it does anything."""

import importlib
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from profiler.cli import app as cli

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
HEAVY = {"torch", "pandas", "numpy", "altair", "onnx", "onnxruntime", "scipy", "statsmodels"}
#: Runs the command line with its arguments and tells on standard error what is loaded at its end.
PROGRAM = """
import atexit, sys
atexit.register(lambda: print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr))
from profiler.cli.app import main
main()
"""


def loaded(*arguments):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("arguments", ["--help", "--version", "models", "complexity resnet50 --scale dWr --factor 2"])
def test_what_needs_no_runtime_loads_none(arguments):
    assert not HEAVY & loaded(*arguments.split())


def test_help_loads_typer_and_little_else():
    assert not {"pydantic", "rich"} & loaded("--help")


def cpu_seconds(*arguments):
    """Return the processor time of one process: a busy neighbour takes little of it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], env=ENVIRONMENT, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_takes_little_longer_than_importing_typer():
    pairs = [(cpu_seconds("-m", "profiler", "--help"), cpu_seconds("-c", "import typer")) for _ in range(7)]
    helped, imported = map(min, zip(*pairs, strict=True))
    assert helped < 1.5 * imported


@pytest.mark.parametrize("name", cli._COMMANDS)
def test_each_command_is_the_function_of_its_module(name):
    command = vars(importlib.import_module(f"profiler.cli.{name}"))[f"{name}_command"]
    assert isinstance(command, Typer) or command.__module__ == f"profiler.cli.{name}"
    shown = CliRunner().invoke(cli.app, [name, "--help"])
    assert shown.exit_code == 0
    assert cli._COMMANDS[name][:60] in shown.stdout


def test_help_names_every_command_with_all_of_its_sentence():
    shown = " ".join(CliRunner().invoke(cli.app, ["-h"]).stdout.split())
    assert all(f"{name} {said}" in shown for name, said in cli._COMMANDS.items())


def test_help_shows_what_stands_in_brackets():
    assert "[latency_ms]" in CliRunner().invoke(cli.app, ["fit", "--help"]).stdout


def test_an_unknown_command_is_told_the_nearest():
    done = CliRunner().invoke(cli.app, ["repot"])
    assert done.exit_code == 2
    assert "Did you mean 'report'" in done.stderr
