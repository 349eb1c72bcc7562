"""Whatever the standard streams are, a command says what it has to say, or ends with one sentence and its exit code."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

#: What the interpreter and the libraries print of an exception that nobody caught.
UNCAUGHT = re.compile("Traceback|Exception ignored|panicked|Aborted")
FULL = Path("/dev/full")


def started(folder: Path, *arguments: str, **given) -> subprocess.Popen[bytes]:
    names = given.pop("environment", {})
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache"), **names}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | given
    command = [sys.executable, "-m", "profiler", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, **streams)


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=240)
    said = err.decode(errors="replace") if err is not None else ""
    assert not UNCAUGHT.search(said), said
    return process.returncode, out.decode("latin-1") if out is not None else "", said


@pytest.mark.parametrize(
    "names",
    [
        {"PYTHONIOENCODING": "cp1252"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""},
    ],
    ids=["cp1252", "LC_ALL=C"],
)
def test_letters_that_a_stream_lacks_are_spelt_with_others(tmp_path, names):
    plan = ["run", "--model", "resnet50", "--backend", "fake", "--threads", "1", "--dry-run"]
    code, out, _ = ended(started(tmp_path, *plan, environment=names))
    assert code == 0
    label = "resnet50 - fake - cpu fp32 t1 b1" if "LC_ALL" in names else "resnet50 \xb7 fake \xb7 cpu fp32 t1 b1"
    assert label in out


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["models"], ["run", "--help"]], ids=" ".join)
def test_a_full_standard_output_is_one_sentence_and_no_success(tmp_path, arguments):
    with FULL.open("wb") as full:
        code, _, said = ended(started(tmp_path, *arguments, stdout=full))
    assert code == 2
    assert re.fullmatch(r"profiler: standard output cannot be written \(No space left on device\): .*\n", said)


def test_a_pipe_that_nobody_reads_ends_quietly(tmp_path):
    read, write = os.pipe()
    os.close(read)
    assert ended(started(tmp_path, "models", stdout=write)) == (0, "", "")
    os.close(write)


def test_closed_streams_are_not_the_next_files(tmp_path):
    """What is opened next would be the standard stream, and what is printed would end in it."""
    closed = "import os, sys; os.closerange(0, 3); os.execv(sys.argv[1], sys.argv[1:])"
    program = "from profiler.cli.app import main\nimport sys\nsys.argv = ['profiler', 'models']\n"
    program += "try:\n    main()\nfinally:\n    open('first', 'w').write('kept')\n    print('lost')\n"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", closed, sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0
    assert (tmp_path / "first").read_text() == "kept"


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_run_is_saved_with_few_files_no_input_and_a_full_output(tmp_path):
    plan = ["run", "--model", "resnet50", "--backend", "fake:duration_ms=1", "--rounds", "1", "--visit", "20ms"]
    plan.append("--report")

    def surroundings() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
        os.close(0)

    with FULL.open("wb") as full:
        process = started(tmp_path, *plan, "--out", "made", stdout=full, preexec_fn=surroundings)
        code, _, said = ended(process)
    assert code == 0, said
    assert "standard output cannot be written" in said
    assert {file.name for file in (tmp_path / "made").iterdir()} >= {"journal.jsonl", "cases.csv", "report.html"}


def test_too_few_files_to_start_a_process_are_one_sentence(tmp_path):
    plan = ["run", "--model", "resnet50", "--backend", "fake", "--visit", "20ms", "--out", "made"]
    few = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))}
    code, _, said = ended(started(tmp_path, *plan, **few))
    assert code == 2
    assert said.splitlines()[-1].startswith("profiler: no process can be started to measure in (Too many open files)")


def test_an_error_breaks_between_words_on_a_terminal(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    with started(tmp_path, "latency", "resnt50", stderr=theirs, environment={"COLUMNS": "40"}) as process:
        os.close(theirs)
        said = os.read(ours, 1 << 16)
        assert process.wait() == 2
    os.close(ours)
    lines = said.decode().splitlines()
    assert lines[0] == "profiler: --model: unknown model"
    assert max(map(len, lines)) <= 40
