"""The gate: verdicts on scripted trials, then the command on real processes, files and git revisions."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from profiler.backends.base import Placement
from profiler.cli.app import app
from profiler.errors import UserError
from profiler.gate.bias import BIAS_FACTOR, Bias, Biases, measure_bias
from profiler.gate.blocks import Block, Trial
from profiler.gate.decision import LOOKS, Rule
from profiler.gate.judge import judge
from profiler.gate.subject import Pair, Subject, parse, subjects
from profiler.gate.verdict import Status, Verdict, exit_code
from profiler.machine import host
from profiler.records.types import Case, Failure
from profiler.report import verdicts

RULE = Rule(0.05)
FAKE = "regnety_200mf @fake:duration_ms="


def _pair(**limits: float | None) -> Pair:
    old, new = subjects(f"{FAKE}1", f"{FAKE}2", Placement(), None, 1)
    return Pair(old, new, **limits)  # type: ignore[arg-type]


def _trial(change: float, noise: float = 0.002, seed: int = 0, blocks: int = 10) -> Trial:
    draw = np.random.default_rng(seed)
    ratios = np.exp(math.log1p(change) + noise * draw.standard_normal(blocks))
    return Trial(
        tuple(Block(candidate_first=False, baseline_ns=(5e6,), candidate_ns=(5e6 * ratio,)) for ratio in ratios), 1.0
    )


@dataclass
class Scripted:
    """A contest whose trials are known beforehand."""

    trials: Sequence[Trial | Failure] = ()
    own: Sequence[Trial | Failure] = ()
    peaks: dict[str, dict[str, int] | Failure] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._trials: Iterator[Trial | Failure] = iter(self.trials)
        self._own: Iterator[Trial | Failure] = iter(self.own)

    def trial(self, rule: Rule, seed: int, *, itself: bool = False) -> Trial | Failure:
        self.seeds.append(seed)
        return next(self._own if itself else self._trials)

    def peak_bytes(self, side: str) -> dict[str, int] | Failure:
        return self.peaks[side]


def _judged(contest: Scripted, bias: Bias | Failure | None = None, **limits: float | None) -> Verdict:
    rule = None if limits.get("max_slowdown", 0.05) is None else RULE
    return judge(_pair(**limits), contest, rule, lambda: bias, seed=7)


def test_identical_code_passes_without_a_second_trial() -> None:
    contest = Scripted([_trial(0.0)])
    verdict = _judged(contest)
    assert (verdict.status, contest.seeds) == ("pass", [7])
    assert "surely less than 5%" in verdict.reason


def test_a_regression_fails_only_when_fresh_processes_show_it_again() -> None:
    contest = Scripted([_trial(0.10), _trial(0.11, seed=1)])
    verdict = _judged(contest)
    assert (verdict.status, len(verdict.trials)) == ("regression", 2)
    assert contest.seeds == [7, 8]
    assert "more than 5%" in verdict.reason
    assert "confirmed in fresh processes: +11" in verdict.reason
    assert verdict.change is not None
    assert verdict.change.estimate == pytest.approx(0.105, abs=0.005)


def test_a_regression_that_is_not_confirmed_is_inconclusive() -> None:
    verdict = _judged(Scripted([_trial(0.10), _trial(0.0, seed=1)]))
    assert verdict.status == "inconclusive"
    assert "not confirmed: +1" in verdict.reason


def test_a_change_between_half_the_limit_and_the_limit_says_so() -> None:
    noisy = _trial(0.045, noise=0.012, seed=3, blocks=20)
    verdict = _judged(Scripted([noisy, noisy]))
    assert verdict.status == "regression"
    assert "surely more than 2.5%, half of the limit" in verdict.reason


def test_noise_is_inconclusive_and_names_the_limit_that_would_have_passed() -> None:
    verdict = _judged(Scripted([_trial(0.0, noise=0.5, blocks=LOOKS[-1])]))
    assert verdict.status == "inconclusive"
    assert "would have passed" in verdict.reason


def test_a_failure_is_an_error_with_its_reason() -> None:
    failed = Failure("crashed", "the process was killed by signal 9 (SIGKILL)", "its last words")
    for contest in (Scripted([failed]), Scripted([_trial(0.10), failed])):
        verdict = _judged(contest)
        assert verdict.status == "error"
        assert "SIGKILL" in verdict.reason
        assert verdict.detail == "its last words"


def test_a_limit_finer_than_the_difference_between_processes_is_refused() -> None:
    bias = Bias((0.02, -0.03, 0.025, -0.015, 0.03), (0.001,) * 5)
    contest = Scripted([])
    verdict = _judged(contest, bias)
    assert (verdict.status, contest.seeds) == ("inconclusive", [])
    assert "finer than this machine can tell" in verdict.reason
    # The limit that the sentence names is accepted.
    named = math.expm1(2 * BIAS_FACTOR * bias.size)
    accepted = judge(_pair(), Scripted([_trial(0.0)]), Rule(named * 1.01), lambda: bias, seed=7)
    assert accepted.status == "pass"


def test_the_bias_is_what_the_noise_of_the_blocks_does_not_explain() -> None:
    assert Bias((0.01, -0.01, 0.01, -0.01, 0.01), (0.01,) * 5).size == 0.0
    assert Bias((0.02, -0.02, 0.02, -0.02, 0.02), (0.001,) * 5).size == pytest.approx(0.02, rel=0.01)
    measured = measure_bias(Scripted(own=[_trial(0.01, seed=s) for s in range(5)]), seed=0)
    assert isinstance(measured, Bias)
    assert measured.size == pytest.approx(0.01, abs=0.001)


def test_a_bias_is_measured_once_and_kept(tmp_path: Path) -> None:
    made = []

    def measured() -> Bias:
        made.append(1)
        return Bias((0.01,), (0.002,))

    for _ in range(2):
        assert Biases(tmp_path).get("here", measured) == Bias((0.01,), (0.002,))
    Biases(tmp_path).get("elsewhere", measured)
    assert len(made) == 2
    (tmp_path / "gate.json").write_text("{ half", encoding="utf-8")
    Biases(tmp_path).get("here", measured)
    assert len(made) == 3


MIB = 1 << 20


@pytest.mark.parametrize(
    ("old", "new", "allowed", "status"),
    [(100, 104, 0.05, "pass"), (100, 106, 0.05, "regression"), (2, 2.9, 0.05, "pass"), (100, 90, 0.0, "pass")],
)
def test_memory_fails_by_growth_beyond_its_own_noise(old: float, new: float, allowed: float, status: str) -> None:
    peaks = {"baseline": {"process": round(old * MIB)}, "candidate": {"process": round(new * MIB)}}
    verdict = _judged(Scripted(peaks=peaks), max_slowdown=None, max_memory_growth=allowed)
    assert verdict.status == status
    assert "peak memory" in verdict.reason


def test_memory_of_a_device_is_what_its_allocator_gave() -> None:
    peaks = {
        side: {"process": 100 * MIB, "allocated": size * MIB} for side, size in (("baseline", 50), ("candidate", 60))
    }
    verdict = _judged(Scripted([_trial(0.0)], peaks=peaks), max_memory_growth=0.1)
    assert verdict.status == "regression"
    assert verdict.peaks == {"baseline": 50 * MIB, "candidate": 60 * MIB}


def test_the_exit_code_of_a_suite_is_its_gravest() -> None:
    def code(*statuses: Status) -> int:
        return exit_code([Verdict(_pair(), status, "") for status in statuses])

    assert code("pass") == 0
    assert code("pass", "inconclusive") == 3
    assert code("inconclusive", "not comparable") == 4
    assert code("not comparable", "error") == 2
    assert code("error", "regression", "pass") == 1


# --- what is compared ------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("regnety_400mf", "regnety_400mf @eager"),
        ("regnety_400mf dWr x4 @torchscript", "regnety_400mf dWr x4 @torchscript"),
        ("old.onnx", "old.onnx @onnxruntime"),
        ("package.module:factory @eager", "package.module:factory @eager"),
        ("git:v1.2 package.module:factory", "git:v1.2 package.module:factory @eager"),
        ("git:main", "git:main package.net:new @eager"),
        ("git:main @torchscript", "git:main package.net:new @torchscript"),
    ],
)
def test_a_side_as_it_is_written(text: str, label: str) -> None:
    assert subjects(text, "package.net:new @eager", Placement(), None, 1)[0].label == label


def test_a_side_scaled_to_flops() -> None:
    old, _ = subjects("regnety_400mf w 800MF", "regnety_400mf", Placement(), "eager", 2)
    assert old.case.target_flops == 800_000_000
    assert old.case.factor > 1
    assert (old.case.batch, old.case.backend) == (2, "eager")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "names no model"),
        ("git:", "names no revision"),
        ("regnety_400mf dWr", "is not a model"),
        ("regnety_400mf dWr 4", "is not a model"),
        ("regnety_400mf dWr xfour", "is no scaling factor"),
        ("regnety_40mf", "regnety_40mf"),
        ("net.onnx w x2", "cannot be scaled"),
        ("git:main", "neither"),
    ],
)
def test_a_side_that_cannot_be_read_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        subjects(text, "git:main", Placement(), None, 1)


# --- the command ------------------------------------------------------------


def _run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "profiler", "gate", *arguments], capture_output=True, text=True, check=False, cwd=cwd
    )


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "gate-cache"))


def test_exit_0_and_1_with_every_output(tmp_path: Path) -> None:
    junit, table = tmp_path / "junit.xml", tmp_path / "table.md"
    files = ("--junit", str(junit), "--markdown", str(table))
    same = _run("--baseline", f"{FAKE}1", "--candidate", f"{FAKE}1", *files)
    assert same.returncode == 0, same.stdout + same.stderr
    assert same.stdout.startswith("PASS")
    assert ET.parse(junit).getroot().attrib["failures"] == "0"
    slower = _run("--baseline", f"{FAKE}1", "--candidate", f"{FAKE}1.2", "--no-self-test", *files)
    assert slower.returncode == 1, slower.stdout + slower.stderr
    assert slower.stdout.startswith("REGRESSION")
    assert "confirmed in fresh processes" in slower.stdout
    root = ET.parse(junit).getroot()
    assert root.attrib["failures"] == "1"
    failure = root.find("testcase/failure")
    assert failure is not None
    assert "confirmed" in failure.attrib["message"]
    assert "| regression | regnety_200mf @fake:duration_ms=1 -> " in table.read_text(encoding="utf-8")


def test_exit_2_names_what_went_wrong() -> None:
    crashed = _run("--baseline", f"{FAKE}1", "--candidate", f"{FAKE}1,fault=segfault", "--no-self-test")
    assert crashed.returncode == 2
    assert "SIGSEGV" in crashed.stdout
    missing = _run("--baseline", "missing.onnx", "--candidate", "missing.onnx", "--no-self-test")
    assert missing.returncode == 2
    assert "no such file" in missing.stdout


def test_exit_3_when_it_cannot_tell() -> None:
    # Times that differ by a factor from call to call: 80 blocks cannot tell a tenth of a percent.
    wild = f"{FAKE}1,jitter=1.0,seed="
    sides = ("--baseline", f"{wild}1", "--candidate", f"{wild}2")
    undecided = _run(*sides, "--max-slowdown", "0.1%", "--no-self-test", "--seed", "1")
    assert undecided.returncode == 3, undecided.stdout + undecided.stderr
    assert undecided.stdout.startswith("INCONCLUSIVE")


def test_exit_4_when_the_stored_run_is_of_another_machine(tmp_path: Path) -> None:
    plan, stored = tmp_path / "plan.toml", tmp_path / "stored"
    plan.write_text(
        'models = ["regnety_200mf"]\nbackends = ["fake:duration_ms=1"]\nthreads = 1\n'
        '[budget]\nvisit_s = "20ms"\nrounds = 3\nmin_rounds = 3\n',
        encoding="utf-8",
    )
    measured = [sys.executable, "-m", "profiler", "run", str(plan), "--out", str(stored)]
    subprocess.run(measured, check=True, capture_output=True)
    same = _run(str(plan), "--against", str(stored), "--max-slowdown", "50%", "--out", str(tmp_path / "now"))
    assert same.returncode == 0, same.stdout + same.stderr
    journal = stored / "journal.jsonl"
    key = host.key()
    text = journal.read_text(encoding="utf-8").replace(key, "0" * len(key))
    journal.write_text(re.sub(r'"cpu": ?"[^"]*"', '"cpu": "another"', text), encoding="utf-8")
    other = _run(str(plan), "--against", str(stored), "--out", str(tmp_path / "again"))
    assert other.returncode == 4, other.stdout + other.stderr
    assert "cpu is" in other.stdout


def test_json_holds_the_raw_blocks_the_machine_and_the_rule() -> None:
    done = _run("--baseline", f"{FAKE}1", "--candidate", f"{FAKE}1.2", "--no-self-test", "--json")
    whole = json.loads(done.stdout)
    assert whole["exit_code"] == done.returncode == 1
    assert whole["host"]["key"]
    [verdict] = whole["verdicts"]
    assert verdict["status"] == "regression"
    assert [len(trial["blocks"]) for trial in verdict["trials"]] == [10, 10]
    assert verdict["change"]["low"] < verdict["change"]["estimate"] < verdict["change"]["high"]


def test_a_suite_of_pairs_shares_its_false_alarms(tmp_path: Path) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(
        f"""
        max_slowdown = "10%"
        [[pair]]
        name = "same"
        baseline = "{FAKE}1"
        candidate = "{FAKE}1"
        [[pair]]
        name = "slower"
        baseline = "{FAKE}1"
        candidate = "{FAKE}1.5"
        max_slowdown = "5%"
        """,
        encoding="utf-8",
    )
    done = _run(str(suite), "--json", "--no-self-test")
    found = {verdict["name"]: verdict for verdict in json.loads(done.stdout)["verdicts"]}
    assert {name: verdict["status"] for name, verdict in found.items()} == {"same": "pass", "slower": "regression"}
    assert found["same"]["rule"]["alpha"] == pytest.approx(0.00125)
    assert [found[name]["max_slowdown"] for name in ("same", "slower")] == [0.10, 0.05]
    assert done.returncode == 1


def test_memory_is_gated_beside_latency() -> None:
    done = _run(
        "--baseline", f"{FAKE}1,at=load,bytes={8 * MIB}", "--candidate", f"{FAKE}1,at=load,bytes={40 * MIB}",
        "--max-memory-growth", "10%", "--no-self-test", "--json",
    )  # fmt: skip
    [verdict] = json.loads(done.stdout)["verdicts"]
    assert done.returncode == 1
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
        (["missing.toml", "--baseline", "regnety_200mf"], "names pairs already"),
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


def test_markdown_tells_the_reason_of_what_did_not_pass() -> None:
    text = verdicts.markdown([Verdict(_pair(), "inconclusive", "too noisy"), Verdict(_pair(), "pass", "fine")])
    assert "too noisy" in text
    assert "fine" not in text
    assert text.count("\n|") == 3


# --- other versions of the code ------------------------------------------------------------

NET = """
import torch
from torch import nn

def build():
    body = nn.Sequential(*(nn.Linear(256, 256) for _ in range({rungs})))
    return body, torch.zeros(64, 256)
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e", *arguments], cwd=tmp_path, check=True)

    git("init", "-q", "-b", "main")
    (tmp_path / "net.py").write_text(NET.format(rungs=20), encoding="utf-8")
    git("add", ".")
    git("commit", "-q", "-m", "as it was")
    return tmp_path


def test_a_git_revision_is_gated_in_processes_of_its_own(repository: Path) -> None:
    (repository / "net.py").write_text(NET.format(rungs=40), encoding="utf-8")
    slower = _run("--baseline", "git:main", "--candidate", "net:build", "--no-self-test", "--json", cwd=repository)
    [verdict] = json.loads(slower.stdout)["verdicts"]
    assert (slower.returncode, verdict["status"]) == (1, "regression"), verdict["reason"]
    assert verdict["change"]["estimate"] > 0.5
    kept = subprocess.run(["git", "worktree", "list"], cwd=repository, capture_output=True, text=True, check=True)
    assert len(kept.stdout.splitlines()) == 1


def test_git_errors_are_sentences(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    unknown = _run("--baseline", "git:nowhere", "--candidate", "net:build", "--no-self-test", cwd=repository)
    assert unknown.returncode == 2
    assert "git:nowhere: no such revision" in unknown.stdout
    outside = _run("--baseline", "git:main", "--candidate", "net:build", cwd=tmp_path_factory.mktemp("outside"))
    assert outside.returncode == 2
    assert "needs a git repository" in outside.stdout
    (repository / "other.py").write_text(NET.format(rungs=2), encoding="utf-8")
    missing = _run("--baseline", "git:main", "--candidate", "other:build", "--no-self-test", cwd=repository)
    assert missing.returncode == 2
    assert "No module named 'other'" in missing.stdout


def test_parse_keeps_what_was_written() -> None:
    spec = parse("git:v1 regnety_400mf dWr x4 @eager")
    assert (spec.revision, spec.model, spec.scaling, spec.factor, spec.backend) == (
        "v1", "regnety_400mf", "dWr", "x4", "eager",
    )  # fmt: skip
    assert Subject(Case("a.onnx", "", 1.0, "onnxruntime", Placement()), "v1").label == "git:v1 a.onnx @onnxruntime"
