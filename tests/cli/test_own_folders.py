"""What stands in the user's folder is theirs, whatever it is called, and keeps nothing of ours from being found."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from profiler.errors import UserError
from profiler.models import source
from profiler.models.loaded import Asked
from profiler.records.reading import read
from profiler.records.types import Measurement
from profiler.run.child import Limits
from profiler.run.processes import LocalExecutor

ROOT = Path(__file__).parents[2]
FACTORY = "import torch\n\ndef small():\n    return torch.nn.Conv2d(3, 4, 3, 8)\n"
#: As the installed command; without the report, which is not asked here.
COMMAND = """
from profiler.report import summary
from profiler.cli.app import main
summary.finish = lambda *_, **__: None
main()
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache for all tests here: one calibration is enough."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def folder(tmp_path):
    """A user's folder, with factories in modules named like some of ours, and a file named like a dependency."""
    for name in ("backends/__init__.py", "cases.py"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(FACTORY)
    (tmp_path / "onnxruntime.py").write_text("raise RuntimeError('the file of the user')\n")
    (tmp_path / "profiler").mkdir()
    return tmp_path


@pytest.fixture
def command(tmp_path_factory):
    """The installed command: Python looks for modules where the script is, not where the user stands."""
    script = tmp_path_factory.mktemp("bin") / "profiler"
    script.write_text(COMMAND)
    return (str(script),)


def profiler(folder, cache, *arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def with_package(folder):
    (folder / "profiler" / "__init__.py").write_text("raise RuntimeError('the package of the user')\n")


def test_a_run_beside_a_package_named_profiler(command, folder, cache):
    with_package(folder)
    visit = "--backend fake --threads 1 --rounds 1 --visit 10ms --out out"
    done = profiler(folder, cache, *command, "run", "--model", "backends:small,cases:small", *visit.split())
    assert done.returncode == 0, done.stderr
    assert [type(record.outcome) for record in read(folder / "out").records] == [Measurement, Measurement]


def gated(folder, cache, *start):
    sides = "--baseline backends:small --candidate cases:small --backend fake --time 1s --no-self-test"
    done = profiler(folder, cache, *start, "gate", *sides.split())
    assert done.returncode in {0, 3}, done.stderr + done.stdout


def test_a_gate_beside_a_package_named_profiler(command, folder, cache):
    with_package(folder)
    gated(folder, cache, *command)


def test_a_gate_of_the_module_beside_a_folder_named_profiler(folder, cache):
    """A package of that name would be what ``python -m`` runs: that is Python's choice."""
    gated(folder, cache, "-m", "profiler")


def loaded(spec):
    return source.load_model(Asked(spec))


def test_where_the_user_stands_is_last_once_a_model_is_made(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("backends", "cases"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        assert loaded(f"{name}:small").content
        assert sys.path.count("") == 1
        assert sys.path[-1] == ""
    with pytest.raises(UserError, match="cases has no function 'large'; it has small"):
        loaded("cases:large")
    assert sys.path[-1] == ""


@pytest.mark.parametrize("isolation", ["forkserver", "spawn"])
def test_a_child_has_the_environment_of_its_parent(isolation, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "a:b")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    executor = LocalExecutor(isolation)
    try:
        found = [executor.call(os.getenv, name, 60.0, Limits()) for name in ("PYTHONPATH", "PYTHONSAFEPATH")]
    finally:
        executor.close()
    assert found == ["a:b", None]
    assert [os.environ.get(name) for name in ("PYTHONPATH", "PYTHONSAFEPATH")] == found


#: As a test runner does: this package is imported, and the user's folder is put before everything.
RUNNER = """
import os, sys
from profiler.run import child, processes
sys.path.insert(0, os.getcwd())
print(processes.LocalExecutor().call(os.path.basename, "here/found", 60.0, child.Limits()))
"""


def test_the_fork_server_finds_the_package_of_its_parent(folder, cache):
    with_package(folder)
    (folder / "onnxruntime.py").unlink()  # in a test runner it would be that module
    done = profiler(folder, cache, "-P", "-c", RUNNER)
    assert done.stdout == "found\n", done.stderr
