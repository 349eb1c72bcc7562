"""``profiler run``: options that reach the plan, and errors that are one sentence."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from profiler.cli import app as cli
from profiler.errors import UserError


@pytest.fixture
def failed(monkeypatch, capsys):
    """Run the whole program in this process; return its exit code and what it said on standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["profiler", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, capsys.readouterr().err

    return run


def test_the_flags_reach_the_plan():
    flags = "--mode train --batch max --memory --epoch --images 10 --workers 0 --images-from . --dry-run"
    done = CliRunner().invoke(cli.app, ["run", "--model", "resnet50", "--backend", "eager", *flags.split()])
    assert done.exit_code == 0
    assert "eager train" in done.stdout
    assert "b1 (max)" in done.stdout


def test_one_precision_is_that_of_numbers_and_the_other_that_of_the_result():
    words = "run --model resnet50 --backend eager --device cpu --precision"
    numbers = CliRunner().invoke(cli.app, [*words.split(), "fp32,bf16,1%", "--dry-run"])
    assert "2 cases" in numbers.stderr
    assert "bf16" in numbers.stdout


def test_more_threads_than_usable_cores_are_said_and_allowed():
    words = ["run", "--model", "resnet50", "--backend", "fake", "--threads", "1,5000", "--dry-run"]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0
    assert done.stderr.count("threads on") == 1
    assert "5000 threads on" in done.stderr
    assert "wait for each other" in done.stderr


def test_many_cases_are_counted_by_network_and_setting_and_v_lists_them():
    words = ["run", "--model", "regnety_200mf,resnet50", "--scale", "d,dWr", "--factor", "1,2,4"]
    words += ["--backend", "fake,fake:duration_ms=2", "--batch", "1,2", "--threads", "1", "--time", "2s", "--dry-run"]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.stderr
    networks, settings = done.stdout.split("where")
    assert [line.split() for line in networks.splitlines()] == [
        ["model", "as", "it", "is", "d", "dWr", "cases"],
        ["regnety_200mf", "1", "2", "2", "20"],
        ["resnet50", "1", "2", "2", "20"],
    ]
    assert [line.split()[-1] for line in settings.splitlines()[1:5]] == ["10"] * 4
    assert "-v lists every one of the 40 cases" in settings
    assert "40 cases of 10 networks; one visit of each takes about" in done.stderr
    assert "more than the 2.00 s asked for" in done.stderr
    each = CliRunner().invoke(cli.app, [*words, "-v"])
    assert len(each.stdout.splitlines()) == 40


@pytest.mark.parametrize("value", ["4 apples", "0", "1e20GB", ""])
def test_a_limit_of_memory_that_is_none_is_one_sentence_that_names_its_flag(value, failed):
    code, said = failed("run", "--model", "resnet50", "--memory-limit", value, "--dry-run")
    assert code == 2
    assert said.startswith("profiler: --memory-limit")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--threads", "-1", "expected 0 or more"),
        ("--batch", "-3", "expected 1 or more"),
        ("--batch", "1" + "0" * 400, "expected 1000000000 at most"),
        ("--rounds", "0", "expected 1 or more"),
        ("--workers", "-1", "expected 0 or more"),
        ("--factor", "-2", "expected more than 0"),
        ("--backend", "fake:duration_ms=-1", "expected float from 0 to 8.64e+07"),
    ],
)
def test_a_value_out_of_bounds_is_one_sentence(flag, value, said, failed):
    code, told = failed("run", "--model", "resnet50", "--scale", "d", "--factor", "2", flag, value, "--dry-run")
    assert code == 2
    assert told.startswith(f"profiler: {flag}: ")
    assert said in told
    assert "closest" not in told
    assert len(told.splitlines()) == 1


def test_nothing_to_measure_is_one_sentence(failed):
    code, said = failed("run")
    assert code == 2
    assert said.startswith("profiler: ")
    assert "--model" in said
    assert len(said.splitlines()) == 1


def test_a_folder_that_cannot_be_written_is_one_sentence(failed, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    out = str(tmp_path / "file" / "run")
    code, said = failed("run", "--model", "resnet50", "--visit", "0.05s", "--backend", "fake", "--out", out)
    assert code == 2
    assert said.splitlines()[-1].startswith("profiler: ")
    assert "--out" in said


@pytest.mark.parametrize(
    ("error", "code", "said"), [(KeyboardInterrupt, 130, "profiler: stopped\n"), (BrokenPipeError, 0, "")]
)
def test_an_end_that_is_no_error_of_ours_is_no_traceback(error, code, said, failed, monkeypatch):
    def app():
        raise error

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(sys.stderr, "close", lambda: None)
    assert failed("run") == (code, said)


def test_a_table_that_cannot_be_written_loses_no_visit(failed, tmp_path: Path):
    (tmp_path / "cases.csv").mkdir()
    fake = ("--model", "resnet50", "--visit", "0.05s", "--rounds", "1", "--backend", "fake", "--out", str(tmp_path))
    code, said = failed("run", *fake)
    assert code == 2
    assert said.splitlines()[-1] == (
        f"profiler: {tmp_path}/cases.csv cannot be written (Is a directory); every visit is kept: "
        f"profiler export {tmp_path} --to FILE.csv writes the table elsewhere"
    )
    code, _ = failed("export", str(tmp_path), "--to", str(tmp_path / "other.csv"))
    assert (code, (tmp_path / "other.csv").is_file()) == (0, True)


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [("--memory-limit", "4XB", "not a size"), ("--isolation", "vm", "expected forkserver or spawn")],
)
def test_how_to_run_is_checked_before_anything_else(flag: str, value: str, expected: str) -> None:
    done = CliRunner().invoke(cli.app, ["run", "--model", "resnet50", flag, value, "--dry-run"])
    assert isinstance(done.exception, UserError)
    assert expected in str(done.exception)
    assert "resnet50" not in done.stdout
