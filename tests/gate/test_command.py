"""``profiler gate``: exit codes and every output.

What is timed runs in this process, in short slots, where no test asks about processes.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from profiler.cli.app import app
from profiler.errors import UserError
from profiler.gate.suite import load_suite, pairs_of_flags
from profiler.gate.verdict import Verdict
from profiler.machine import host
from profiler.report import verdicts
from tests.gate.here import stay_here

FAKE = "regnety_200mf @fake:duration_ms="
MIB = 1 << 20


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    stay_here(monkeypatch)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "gate-cache"))


def _run(*arguments: str, command: str = "gate") -> Result:
    result = CliRunner().invoke(app, [command, *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.usefixtures("here")
def test_exit_0_and_1_with_every_output(tmp_path: Path) -> None:
    junit, table = tmp_path / "junit.xml", tmp_path / "table.md"
    files = ("--junit", str(junit), "--markdown", str(table))
    same = _run("--baseline", f"{FAKE}0.3", "--candidate", f"{FAKE}0.3", *files)
    assert same.exit_code == 0, same.output
    assert same.stdout.startswith("PASS")
    assert ET.parse(junit).getroot().attrib["failures"] == "0"
    slower = _run("--baseline", f"{FAKE}0.3", "--candidate", f"{FAKE}0.36", "--no-self-test", *files)
    assert slower.exit_code == 1, slower.output
    assert slower.stdout.startswith("REGRESSION")
    assert "confirmed in fresh processes" in slower.stdout
    root = ET.parse(junit).getroot()
    assert root.attrib["failures"] == "1"
    failure = root.find("testcase/failure")
    assert failure is not None
    assert "confirmed" in failure.attrib["message"]
    assert "| regression | regnety_200mf @fake:duration_ms=0.3 -> " in table.read_text(encoding="utf-8")


def test_exit_2_names_what_went_wrong() -> None:
    crashed = _run("--baseline", f"{FAKE}0.3", "--candidate", f"{FAKE}0.3,fault=segfault", "--no-self-test")
    assert crashed.exit_code == 2
    assert "SIGSEGV" in crashed.stdout


@pytest.mark.usefixtures("here")
def test_exit_1_when_the_candidate_computes_something_else(tmp_path: Path) -> None:
    junit, table = tmp_path / "junit.xml", tmp_path / "table.md"
    sides = ("--baseline", f"{FAKE}0.3", "--candidate", f"{FAKE}0.3,fault=parity", "--no-self-test")
    other = _run(*sides, "--junit", str(junit), "--markdown", str(table))
    assert other.exit_code == 1, other.output
    assert other.stdout.startswith("DIFFERENT OUTPUT")
    assert "--allow-different-output" in other.stdout
    assert ET.parse(junit).getroot().find("testcase/failure") is not None
    assert "differs by 0.5 of its largest value" in table.read_text(encoding="utf-8")
    allowed = _run(*sides, "--allow-different-output", "--max-slowdown", "99%")
    assert allowed.exit_code == 0, allowed.output
    assert "as is allowed" in allowed.stdout


@pytest.mark.usefixtures("here")
def test_exit_4_when_the_inputs_differ() -> None:
    sides = ("--baseline", f"{FAKE}0.3", "--candidate", "efficientnet_b1 @fake:duration_ms=0.3", "--no-self-test")
    other = _run(*sides)
    assert other.exit_code == 4, other.output
    assert "input is float32 1x3x224x224 in the baseline and float32 1x3x240x240 in the candidate" in other.stdout
    assert "--allow-different-inputs" in other.stdout
    allowed = _run(*sides, "--allow-different-inputs", "--max-slowdown", "99%")
    assert allowed.exit_code == 0, allowed.output


@pytest.mark.usefixtures("here")
def test_each_shape_is_a_pair_of_its_own() -> None:
    sides = ("--baseline", f"{FAKE}0.3", "--candidate", f"{FAKE}0.3", "--no-self-test", "--max-slowdown", "99%")
    found = _run(*sides, "--shape", "height=64/96,width=64/96", "--json")
    assert found.exit_code == 0, found.output
    shapes = ["height=64,width=64", "height=96,width=96"]
    names = [f"regnety_200mf {shape} @fake:duration_ms=0.3" for shape in shapes]
    assert [verdict["name"] for verdict in json.loads(found.stdout)["verdicts"]] == [f"{n} -> {n}" for n in names]


def test_a_file_gives_shapes_and_values_under_the_name_of_its_pair(tmp_path: Path) -> None:
    values, suite = tmp_path / "v.npz", tmp_path / "suite.toml"
    values.touch()
    pair = 'name = "detector"\nbaseline = "m:a"\ncandidate = "m:b"\nshapes = ["x=1x8", "x=1x4/1x2"]\n'
    suite.write_text(f'input_file = "{values}"\n[[pair]]\n{pair}', encoding="utf-8")
    pairs = load_suite(suite)
    assert [pair.label for pair in pairs] == [f"detector x=1x{size}" for size in (8, 4, 2)]
    assert {(side.case.shape, side.case.input_file) for side in (pairs[0].baseline, pairs[0].candidate)} == {
        ("x=1x8", str(values))
    }


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"shapes": ["64"]}, r"^--shape: shape '64'"),
        ({"shapes": ["h=1/2,w=1/2/3"]}, "^--shape: .*as many of each name"),
        ({"input_file": "none.npz"}, r"^--input none\.npz: no such file"),
    ],
)
def test_inputs_that_are_none_are_one_sentence_that_names_the_flag(flags: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        pairs_of_flags(baseline="m:a", candidate="m:b", **flags)


@pytest.mark.usefixtures("here")
def test_a_tail_is_gated_beside_the_median() -> None:
    sides = ("--baseline", f"{FAKE}0.05", "--candidate", f"{FAKE}0.05", "--no-self-test", "--time", "0.1s")
    found = json.loads(_run(*sides, "--max-slowdown", "99%", "--max-p99", "50%", "--json").stdout)
    [verdict] = found["verdicts"]
    assert [(rule["of"], rule["max_slowdown"]) for rule in verdict["rules"]] == [("median", 0.99), ("p99", 0.5)]
    assert "99th percentile" in verdict["reason"]
    assert verdict["p99"]["calls"] == sum(len(block["candidate_ns"]) for block in verdict["trials"][0]["blocks"])
    # A slot of a millisecond holds twenty single calls, and four samples of several.
    assert len(verdict["trials"][0]["blocks"][0]["baseline_ns"]) > 8
    [verdict] = json.loads(_run(*sides, "--max-slowdown", "99%", "--json").stdout)["verdicts"]
    assert verdict["p99"] is None
    assert len(verdict["trials"][0]["blocks"][0]["baseline_ns"]) == 8


@pytest.mark.usefixtures("here")
def test_exit_3_when_it_cannot_tell() -> None:
    # Times that differ by a factor from call to call: 80 blocks cannot tell a tenth of a percent.
    wild = f"{FAKE}0.3,jitter=1.0,seed="
    sides = ("--baseline", f"{wild}4", "--candidate", f"{wild}5")
    undecided = _run(*sides, "--max-slowdown", "0.1%", "--no-self-test", "--seed", "1")
    assert undecided.exit_code == 3, undecided.output
    assert undecided.stdout.startswith("INCONCLUSIVE")


@pytest.mark.usefixtures("here")
def test_exit_4_when_the_stored_run_is_of_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, stored = tmp_path / "plan.toml", tmp_path / "stored"
    plan.write_text(
        'models = ["regnety_200mf"]\nbackends = ["fake:duration_ms=1"]\nthreads = 1\n'
        '[budget]\nvisit_s = "20ms"\nrounds = 3\nmin_rounds = 3\n',
        encoding="utf-8",
    )
    monkeypatch.setattr("profiler.cli.run.finish", lambda *_, **__: None)
    _run(str(plan), "--out", str(stored), command="run")
    same = _run(str(plan), "--against", str(stored), "--max-slowdown", "50%", "--out", str(tmp_path / "now"))
    assert same.exit_code == 0, same.output
    journal = stored / "journal.jsonl"
    key = host.key()
    text = journal.read_text(encoding="utf-8").replace(key, "0" * len(key))
    journal.write_text(re.sub(r'"cpu": ?"[^"]*"', '"cpu": "another"', text), encoding="utf-8")
    other = _run(str(plan), "--against", str(stored), "--out", str(tmp_path / "again"))
    assert other.exit_code == 4, other.output
    assert "cpu is" in other.stdout


@pytest.mark.usefixtures("here")
def test_json_holds_the_raw_blocks_the_machine_and_the_rule() -> None:
    done = _run("--baseline", f"{FAKE}0.3", "--candidate", f"{FAKE}0.36", "--no-self-test", "--json")
    whole = json.loads(done.stdout)
    assert whole["exit_code"] == done.exit_code == 1
    assert whole["host"]["key"]
    [verdict] = whole["verdicts"]
    assert verdict["status"] == "regression"
    assert [len(trial["blocks"]) for trial in verdict["trials"]] == [10, 10]
    assert verdict["change"]["low"] < verdict["change"]["estimate"] < verdict["change"]["high"]


@pytest.mark.usefixtures("here")
def test_a_suite_of_pairs_shares_its_false_alarms(tmp_path: Path) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(
        f"""
        max_slowdown = "10%"
        [[pair]]
        name = "same"
        baseline = "{FAKE}0.3"
        candidate = "{FAKE}0.3"
        [[pair]]
        name = "slower"
        baseline = "{FAKE}0.3"
        candidate = "{FAKE}0.45"
        max_slowdown = "5%"
        allow_different_output = true
        [[pair]]
        name = "other"
        baseline = "{FAKE}0.3"
        candidate = "{FAKE}0.3,fault=nan"
        """,
        encoding="utf-8",
    )
    done = _run(str(suite), "--json", "--no-self-test")
    found = {verdict["name"]: verdict for verdict in json.loads(done.stdout)["verdicts"]}
    assert {name: verdict["status"] for name, verdict in found.items()} == {
        "same": "pass", "slower": "regression", "other": "different output",
    }  # fmt: skip
    assert found["same"]["rules"][0]["alpha"] == pytest.approx(0.0025 / 3)
    assert [found[name]["max_slowdown"] for name in ("same", "slower")] == [0.10, 0.05]
    assert done.exit_code == 1


def test_memory_is_gated_beside_latency() -> None:
    done = _run(
        "--baseline", f"{FAKE}0.3,at=load,bytes={8 * MIB}", "--candidate", f"{FAKE}0.3,at=load,bytes={40 * MIB}",
        "--max-memory-growth", "10%", "--no-self-test", "--json",
    )  # fmt: skip
    [verdict] = json.loads(done.stdout)["verdicts"]
    assert done.exit_code == 1
    assert "surely less than 5%" in verdict["reason"]
    assert verdict["peak_memory_bytes"]["candidate"] - verdict["peak_memory_bytes"]["baseline"] == pytest.approx(
        32 * MIB, abs=2 * MIB
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--baseline", "regnety_200mf"], "--candidate is missing"),
        (["--baseline", "regnety_200mf", "--candidate", "regnety_200mf", "--threads", "0"], "--threads"),
        (["--baseline", "regnety_200mf", "--candidate", "regnety_200mf", "--max-slowdown", "much"], "--max-slowdown"),
        (["--baseline", "regnety_200mf", "--candidate", "regnety_200mf @nothing"], "nothing"),
        (["--baseline", "regnety_200mf", "--candidate", "regnety_200mf", "--junit", "no/such/x.xml"], "does not exist"),
        (["missing.toml"], "no such file"),
        (["--baseline", "regnety_200mf", "--candidate", "missing.onnx"], "there is no file 'missing.onnx'"),
        (["--baseline", "no/net.py:build", "--candidate", "regnety_200mf"], "there is no file 'no/net.py'"),
        (["missing.toml", "--baseline", "regnety_200mf"], "names pairs already"),
        (["missing.toml", "--max-p99", "5%"], "leave out --max-p99 (in the file it is max_p99)"),
        (["quick", "--against", "x", "--max-p99", "5%"], "leave out --max-p99"),
        (["quick", "--against", "x", "--allow-different-output"], "leave out --allow-different-output"),
        (["--baseline", "regnety_200mf", "--candidate", "regnety_200mf", "--max-p99", "much"], "--max-p99"),
    ],
)
def test_bad_input_is_one_sentence_and_measures_nothing(arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(app, ["gate", *arguments])
    assert isinstance(result.exception, UserError)
    assert sentence in str(result.exception)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[pair]]\nbaseline = 'regnety_200mf'\n", "candidate"),
        ("[[pair]]\nbaseline = 'a'\ncandidate = 'b'\n", r"pair\[0\]"),
        ("max_slowdwn = '5%'\n[[pair]]\n", "max_slowdown"),
        ("pair = []\n", "pair"),
        ("not toml", "TOML"),
    ],
)
def test_a_wrong_suite_names_the_key(text: str, sentence: str, tmp_path: Path) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(app, ["gate", str(suite)])
    assert isinstance(result.exception, UserError)
    assert re.search(sentence, str(result.exception))
    assert str(suite) in str(result.exception)


def test_on_a_terminal_no_option_of_the_next_step_is_broken() -> None:
    verdict = Verdict("one", "different output", "it computes something else")
    assert len(verdicts.text(verdict).splitlines()) == 3
    lines = verdicts.text(verdict, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-1] == f"{'':14}--allow-different-output compares them so"


def test_markdown_tells_the_reason_of_what_did_not_pass() -> None:
    text = verdicts.markdown([Verdict("one", "inconclusive", "too noisy"), Verdict("other", "pass", "fine")])
    assert "too noisy" in text
    assert "fine" not in text
    assert text.count("\n|") == 3


def test_a_limit_that_is_none_is_one_sentence_that_names_its_flag() -> None:
    with pytest.raises(UserError, match=r"^--max-slowdown: '-5%' is not a share: write it like 5% or 0\.05\.$"):
        pairs_of_flags(baseline="resnet50", candidate="resnet50", max_slowdown="-5%")
    with pytest.raises(UserError, match=r"^--max-slowdown: 5 is 500%; expected a share .*; for 5% write 5%$"):
        pairs_of_flags(baseline="resnet50", candidate="resnet50", max_slowdown="5")
