"""The fixture ``latency_gate`` in real pytest runs: what it fails, what it lets pass, and what it says.

Regressions are made with longer fake durations or with more layers.
"""

from __future__ import annotations

import gc
import json
import os
import pkgutil
import subprocess
import sys
import tomllib
import types
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from profiler.errors import UserError
from profiler.gate.decision import Rule
from profiler.gate.side import Code
from profiler.measure import timing
from profiler.records.types import Conditions, Failure, Measurement, Warmup
from profiler.testing import plugin, rerun, server
from profiler.testing.arguments import Asked, Live, onnx, torch_model, zoo
from profiler.testing.budget import budgeted
from profiler.testing.rerun import Rerun
from profiler.testing.server import Server, foreign
from tests import ROOT

# By name, whether the package was installed before its entry point was written or after.
PLUGIN = ["-p", "no:latency_profiler", "-p", "profiler.testing.plugin"]
BRIEF = [*PLUGIN, "--latency-no-self-test", "--latency-seed=1"]

FAKES = """
    from profiler.testing import zoo

    def fake(**options):
        given = ",".join(f"{name}={value}" for name, value in options.items())
        return zoo("regnety_200mf", backend=f"fake:{given}")
"""
NETS = """
    import pytest
    import torch
    from torch import nn
    from profiler.testing import onnx, torch_model, zoo

    def net(depth):
        return torch_model(nn.Sequential(*(nn.Linear(64, 64) for _ in range(depth))), torch.zeros(1, 64))
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder for a nested run: nothing is taken from the user's cache, and a warning anywhere fails the run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(pytester.path / "cache"))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # the nested run is no worker, whoever runs this one
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return project.runpytest_subprocess(*BRIEF, *arguments, timeout=120)


def gates(result: pytest.RunResult) -> dict[str, str]:
    """Return the section "latency gates": verdict by the test's name."""
    lines = result.outlines
    start = next(number for number, line in enumerate(lines) if " latency gates " in line)
    found = {}
    for line in lines[start + 1 :]:
        test, gap, said = line.partition("  ")
        if not gap:
            break
        found[test.rpartition("::")[2]] = said
    return found


def test_a_regression_fails_the_test_and_every_report_says_so(project: pytest.Pytester) -> None:
    project.makepyfile(
        FAKES
        + """
    def test_same(latency_gate):
        latency_gate(fake(duration_ms=1), baseline=fake(duration_ms=1), max_slowdown=0.5)

    def test_slower(latency_gate):
        latency_gate(fake(duration_ms=2), baseline="regnety_200mf @fake:duration_ms=1")
    """
    )
    result = run(project, "--junitxml=junit.xml", "--benchmark-json=benchmark.json")
    result.assert_outcomes(passed=1, failed=1)
    found = gates(result)
    assert found["test_same"].startswith("PASS: ")
    assert found["test_slower"].startswith("REGRESSION: ")
    assert "confirmed in fresh processes" in found["test_slower"]
    result.stdout.fnmatch_lines(
        [
            "REGRESSION: +*% [[]*%, *%] in * blocks: more than 5%*",
            "latency gate: regnety_200mf @fake:duration_ms=2 against regnety_200mf @fake:duration_ms=1",
            "rule: Wilcoxon's exact signed-rank test*",
            "next: profiler gate --baseline 'regnety_200mf @fake:duration_ms=1' "
            "--candidate 'regnety_200mf @fake:duration_ms=2' --max-slowdown 5%",
        ]
    )
    assert "Traceback" not in result.stdout.str()

    failures = ET.parse(project.path / "junit.xml").getroot().findall(".//testcase[@name='test_slower']/failure")
    assert [failure.text is not None and "REGRESSION" in failure.text for failure in failures] == [True]

    stored = json.loads((project.path / "benchmark.json").read_text())["benchmarks"]
    slower = next(bench for bench in stored if bench["name"] == "test_slower")
    assert slower["extra_info"]["verdict"] == "regression"
    assert slower["extra_info"]["limit"] == 0.05
    assert 1.5 < slower["extra_info"]["ratio"] < 2.5
    assert slower["extra_info"]["interval"][0] < slower["extra_info"]["ratio"] < slower["extra_info"]["interval"][1]
    # A fake's spin never ends early: at least its two milliseconds, in seconds, in every sample.
    assert len(slower["stats"]["data"]) >= 2 * slower["extra_info"]["blocks"]
    assert 0.002 <= slower["stats"]["min"] < 0.2


def test_a_live_module_is_judged_in_processes_of_its_test(project: pytest.Pytester) -> None:
    project.makepyfile(
        NETS
        + """
    @pytest.fixture
    def service():
        yield
        with open("stopped", "a") as log:
            log.write("x")

    class TestNet:
        @pytest.mark.parametrize("depth", [2, 60])
        def test_depth(self, latency_gate, service, depth):
            latency_gate(net(depth), baseline=net(2), max_slowdown=1.0)
    """
    )
    result = run(project)
    result.assert_outcomes(passed=1, failed=1)
    found = gates(result)
    assert found["test_depth[2]"].startswith("PASS: ")
    assert found["test_depth[60]"].startswith("REGRESSION: ")
    result.stdout.fnmatch_lines(["next: python -m pytest '*.py::TestNet::test_depth[[]60[]]'"])
    # Two tests here, one trial of the first, two of the second: fixtures are torn down in each process.
    assert (project.path / "stopped").read_text() == "x" * 5


@pytest.fixture
def repository(project: pytest.Pytester) -> Iterator[pytest.Pytester]:
    """A repository with a revision ``before`` whose network has 2 layers; the working tree's has 60."""

    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=project.path, check=True, capture_output=True)

    build = """
        from torch import nn

        def build():
            return nn.Sequential(*(nn.Linear(64, 64) for _ in range({depth})))
    """
    project.makepyfile(net=build.format(depth=2))
    git("init", "--quiet")
    git("add", "net.py", "tox.ini")
    git("-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "--quiet", "-m", "before")
    git("tag", "before")
    project.makepyfile(net=build.format(depth=60) + "\n        def recent():\n            return build()\n")
    yield project
    listed = subprocess.run(
        ["git", "worktree", "list", "--porcelain"], cwd=project.path, check=True, capture_output=True, text=True
    )
    assert listed.stdout.count("worktree ") == 1, listed.stdout


def test_a_revision_is_judged_under_its_own_code(repository: pytest.Pytester) -> None:
    repository.makepyfile(
        test_net="""
        import net
        import pytest
        import torch
        from profiler.testing import torch_model

        @pytest.mark.parametrize("limit", [1.0, 1000.0])
        def test_slower(latency_gate, limit):
            model = torch_model(net.build(), torch.zeros(1, 64))
            latency_gate(model, baseline="git:before", max_slowdown=limit)

        def test_new(latency_gate):
            latency_gate(torch_model(net.recent(), torch.zeros(1, 64)), baseline="git:before")

        def test_nowhere(latency_gate):
            latency_gate(torch_model(net.build(), torch.zeros(1, 64)), baseline="git:nowhere")
        """
    )
    result = run(repository)
    result.assert_outcomes(passed=1, failed=1, skipped=2)
    found = gates(result)
    assert found["test_slower[1.0]"].startswith("REGRESSION: ")
    assert found["test_slower[1000.0]"].startswith("PASS: ")
    assert found["test_new"].startswith("NOT GATED: the test fails at git:before: AttributeError: ")
    assert found["test_nowhere"].startswith("NOT GATED: git:nowhere: no such revision")


def test_a_named_model_that_a_revision_lacks_is_not_gated(repository: pytest.Pytester) -> None:
    repository.makepyfile(
        test_net="""
        def test_new(latency_gate):
            latency_gate("net:recent", baseline="git:before")
        """
    )
    result = run(repository)
    result.assert_outcomes(skipped=1)
    assert gates(result)["test_new"].startswith("NOT GATED: the model cannot be loaded at git:before: ")


MISSING = """
    from profiler.testing import onnx

    def test_latency(latency_gate):
        latency_gate(onnx("new.onnx"), baseline=onnx("old.onnx"))
"""


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "the baseline old.onnx does not exist"),
        (["--benchmark-disable"], "--benchmark-disable"),
        (["--benchmark-skip"], "--benchmark-skip"),
        (["-n", "1"], "pytest-xdist"),
    ],
)
def test_what_cannot_be_judged_is_skipped_with_its_reason(
    project: pytest.Pytester, arguments: list[str], reason: str
) -> None:
    project.makepyfile(MISSING)
    # With xdist pytest-benchmark warns on its own account.
    ours = [*arguments, "-W", "ignore::pytest.PytestWarning", "-rs"]
    result = run(project, *ours)
    result.assert_outcomes(skipped=1)
    assert gates(result)["test_latency"].startswith(f"NOT GATED: {reason}")
    result.stdout.fnmatch_lines([f"SKIPPED *: NOT GATED: {reason}*"])


@pytest.mark.parametrize(
    ("arguments", "outcome"), [(["--benchmark-disable"], "failed"), (["--benchmark-skip"], "errors")]
)
def test_what_cannot_be_judged_fails_where_it_is_required(
    project: pytest.Pytester, arguments: list[str], outcome: str
) -> None:
    project.makepyfile(MISSING)
    result = run(project, *arguments, "--latency-require")
    result.assert_outcomes(**{outcome: 1})
    assert gates(result)["test_latency"].startswith("NOT GATED: ")


@pytest.mark.parametrize(("arguments", "outcome"), [([], "passed"), (["--latency-require"], "failed")])
def test_what_cannot_be_told_passes_unless_it_is_required(
    project: pytest.Pytester, arguments: list[str], outcome: str
) -> None:
    # Durations that scatter by a factor of two: a limit of 0.1% is far below the noise of ten blocks.
    project.makepyfile(
        FAKES
        + """
    def test_noisy(latency_gate):
        one, other = (fake(duration_ms=1, jitter=0.7, seed=seed) for seed in (1, 2))
        latency_gate(one, baseline=other, max_slowdown="0.1%")
    """
    )
    result = run(project, "--latency-seconds=0.1", *arguments)
    result.assert_outcomes(**{outcome: 1})
    assert gates(result)["test_noisy"].startswith("INCONCLUSIVE: ")


def test_a_budget_is_absolute(project: pytest.Pytester) -> None:
    project.makepyfile(
        FAKES
        + """
    def test_within(latency_gate):
        latency_gate(fake(duration_ms=1), max_latency="1s")

    def test_over(latency_gate):
        latency_gate(fake(duration_ms=2), max_latency="1ms")
    """
    )
    result = run(project, "--latency-seconds=0.2", "--benchmark-json=benchmark.json")
    result.assert_outcomes(passed=1, failed=1)
    found = gates(result)
    assert found["test_within"].startswith("PASS: ")
    assert found["test_over"].startswith("OVER BUDGET: ")
    assert found["test_over"].count("in 5 processes") == 2
    result.stdout.fnmatch_lines(["latency gate: regnety_200mf @fake:duration_ms=2 against a budget of 1.00 ms"])
    stored = json.loads((project.path / "benchmark.json").read_text())["benchmarks"]
    assert {bench["extra_info"]["verdict"] for bench in stored} == {"pass", "over budget"}


def test_a_live_module_has_a_budget_too(project: pytest.Pytester) -> None:
    project.makeconftest("""
    from profiler.run import calibrations
    from profiler.testing import budget

    calibrations.CALIBRATION_VISITS = 1
    budget.VISITS = 2
    """)
    project.makepyfile(
        NETS
        + """
    def test_live(latency_gate):
        latency_gate(net(2), max_latency="1s")
    """
    )
    result = run(project, "--latency-seconds=0.2")
    result.assert_outcomes(passed=1)
    assert gates(result)["test_live"].startswith("PASS: ")
    assert (project.path / "cache/latency-profiler/calibration.json").is_file()


def test_bad_input_is_one_sentence(project: pytest.Pytester) -> None:
    project.makepyfile(
        FAKES
        + """
    import pytest

    @pytest.mark.parametrize("asked", [
        {}, {"baseline": "regnety_200mf", "max_latency": "1ms"}, {"max_latency": "12"}, {"baseline": "git:"},
        {"baseline": 3}, {"baseline": "regnety_200mf", "max_slowdown": -1}, {"baseline": "nonsense"},
    ])
    def test_asked(latency_gate, asked):
        latency_gate(fake(duration_ms=1), **asked)

    def test_twice(latency_gate):
        try:
            latency_gate(fake(duration_ms=1), max_latency="0s")
        except pytest.fail.Exception:
            pass
        latency_gate(fake(duration_ms=1), max_latency="1s")
    """
    )
    result = run(project)
    result.assert_outcomes(failed=8)
    assert all(said.startswith("ERROR: ") for said in gates(result).values())
    assert "Traceback" not in result.stdout.str()
    assert "testgate.py:" not in result.stdout.str()
    assert "latency_gate was called twice" in gates(result)["test_twice"]


def test_the_entry_point_names_the_plugin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert pkgutil.resolve_name(project["entry-points"]["pytest11"]["latency_profiler"]) is plugin


def test_the_plugin_costs_other_runs_nothing() -> None:
    code = (
        "import sys; import profiler.testing.plugin; "
        "heavy = {'numpy', 'torch', 'pydantic', 'profiler.gate.judge', 'profiler.testing.arguments'} & set(sys.modules); "
        "print(*heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


class Conversation:
    """A server whose requests are written before it reads them."""

    def __init__(self) -> None:
        read, self._ask = os.pipe()
        self._answers, write = os.pipe()
        self.server = Server(read, write)

    def ask(self, *requests: dict[str, Any]) -> None:
        for request in requests:
            os.write(self._ask, json.dumps(request).encode() + b"\n")
        os.close(self._ask)

    def close(self) -> None:
        self.server._line._requests.close()
        for descriptor in (self._answers, self.server._line._write):
            os.close(descriptor)

    def answers(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in os.read(self._answers, 1 << 20).splitlines()]


@pytest.fixture
def conversation() -> Iterator[Conversation]:
    held = Conversation()
    yield held
    held.close()
    # Serving turns it off.
    gc.enable()


def module(backend: str = "eager") -> Live:
    from torch import nn, zeros

    return torch_model(nn.Linear(4, 4), zeros(1, 4), backend=backend)


def test_a_server_serves_slots_of_one_side(conversation: Conversation) -> None:
    conversation.ask({"do": "load", "side": "baseline", "left": ""}, {"do": "ready"}, {"do": "slot"})
    with pytest.raises(pytest.skip.Exception):
        conversation.server(module(), baseline="git:before @fake:duration_ms=3")
    loaded, ready, slot = conversation.answers()
    assert loaded == {"loaded": True}
    assert ready["facts"]["duration_ms"] == 3
    assert min(slot["ns"]) >= 3e6


def test_a_server_compares_the_baseline_with_a_copy_of_itself(
    conversation: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    kept = server.opened

    def opened(model: Live) -> Any:
        loaded.append(model)
        return kept(model)

    rule = {"max_slowdown": 1.0, "alpha": 0.0025, "looks": [10]}
    conversation.ask({"do": "duel", "rule": rule, "seed": 1, "seconds": 9.0, "itself": True})
    old, new = module("fake:duration_ms=2.5"), module("fake:duration_ms=5")
    monkeypatch.setattr(rerun, "opened", opened)
    with pytest.raises(pytest.skip.Exception):
        conversation.server(new, baseline=old)
    (answer,) = conversation.answers()
    assert [model.backend for model in loaded] == [old.backend, old.backend]
    assert loaded[0].module is old.module is not loaded[1].module
    assert len(answer["trial"]["blocks"]) == 10


def test_a_server_measures_with_the_reference(conversation: Conversation) -> None:
    calibration = {"repeats": 1, "nominal_ns": 1e6, "spread": 0.0, "visits": 5, "created": ""}
    budget = {"visit_s": 0.01, "warmup_s": 0.1}
    conversation.ask({"do": "visit", "budget": budget, "calibration": calibration})
    with pytest.raises(pytest.skip.Exception):
        conversation.server(module(), max_latency="1s")
    measured = conversation.answers()[0]["measurement"]
    assert measured["nominal_ns"] == 1e6
    assert len(measured["reference_ns"]) == len(measured["samples_ns"]) + 1
    assert all(len(block) == timing.REFERENCE_CALLS for block in measured["reference_ns"])


def test_a_server_answers_with_what_went_wrong(conversation: Conversation) -> None:
    conversation.ask({"do": "load", "side": "baseline", "left": ""})
    with pytest.raises(pytest.skip.Exception):
        conversation.server(module(), max_latency="1s")
    assert "no baseline" in conversation.answers()[0]["failure"]["reason"]


def at(top: Path, **changes: Any) -> Rerun:
    given = {
        "file": top / "tests/test_it.py",
        "test": "test_it[a::b]",
        "rootdir": top,
        "folder": top / "tests",
        "ini": top / "pytest.ini",
        "path": (top / "lib", Path(sys.prefix) / "lib", Path("/elsewhere")),
        "options": (),
    }
    return Rerun(**given | changes)


def test_another_version_runs_the_same_file_from_its_own_folders(tmp_path: Path) -> None:
    top, code = tmp_path / "now", Code(tmp_path / "then", name="git:x")
    (top / "tests").mkdir(parents=True)
    (top / "tests/test_it.py").write_text("now")
    code.folder.mkdir()
    moved = at(top).under(code, top)
    assert moved.file == code.folder / "tests/test_it.py"
    assert moved.file.read_text() == "now"
    assert (moved.rootdir, moved.folder, moved.name) == (code.folder, code.folder / "tests", "git:x")
    assert moved.ini is None
    assert moved.path == (
        code.folder, code.folder / "src", code.folder / "lib", Path(sys.prefix) / "lib", Path("/elsewhere")
    )  # fmt: skip


def test_modules_of_the_current_code_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert foreign(tmp_path) is None
    module = types.ModuleType("left_behind")
    module.__file__ = str(tmp_path / "left_behind.py")
    monkeypatch.setitem(sys.modules, "left_behind", module)
    assert foreign(tmp_path) == str(tmp_path / "left_behind.py")


def test_a_worker_that_ended_early_is_explained_by_its_first_error() -> None:
    crashed = Failure("crashed", "it ended", "collecting\nE   ImportError: no x\nE   more")
    assert rerun.explained(crashed).reason == "it ended: ImportError: no x"
    assert rerun.explained(Failure("error", "it failed", "E   no")).reason == "it failed"


def test_strings_and_models_complete_each_other() -> None:
    asked = Asked.read(onnx("a.onnx", threads=2, batch=8), baseline="git:main", max_slowdown="3%")
    assert asked.max_slowdown == 0.03
    assert asked.baseline == asked.candidate.__class__(asked.candidate.case, "main")
    asked = Asked.read(zoo("regnety_400mf", "dWr", 4), baseline="regnety_200mf @fake")
    assert [side.label for side in asked.sides] == ["regnety_400mf dWr x4 @eager", "regnety_200mf @fake"]
    live = Asked.read(module(), baseline="git:v1 @torchscript")
    assert (live.baseline.revision, live.baseline.backend) == ("v1", "torchscript")


@pytest.mark.parametrize(
    ("candidate", "asked", "said"),
    [
        ("git:main", {"baseline": "git:other"}, "takes the model of the other side"),
        (onnx("a.onnx"), {"baseline": onnx("b.onnx", threads=2)}, "different devices, threads or precisions"),
        (onnx("a.onnx"), {"baseline": onnx("b.onnx"), "max_slowdown": None}, "nothing to gate"),
        (zoo("regnety_200mf", factor=4), {"max_latency": "1ms"}, "no scaling rule"),
        ("git:v1 regnety_200mf", {"max_latency": "1ms"}, "code as it is"),
        (torch_model(3, 4), {"max_latency": "1ms"}, "expected a torch module"),
    ],
)
def test_what_makes_no_gate_is_refused(candidate: Any, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Asked.read(candidate, **asked)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"baseline": "git:v1 regnety_200mf"}, "name both"),
        ({"baseline": "regnety_200mf", "max_memory_growth": 0.1}, "load by name"),
        ({"baseline": 3}, "is no model"),
    ],
)
def test_what_a_live_model_cannot_be_asked_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Asked.read(module(), **asked)


def measured(ms: float) -> Measurement:
    samples = ((round(ms * 1e6),) * 5,)
    return Measurement(samples, 1, (), None, Warmup((1, 1, 1), steady=True), None, Conditions(), {})


@pytest.mark.parametrize(
    ("sets", "status"),
    [
        ([[1.0, 1.1, 0.9]], "pass"),
        ([[2.0, 2.1, 1.9], [2.0, 2.1, 1.9]], "over budget"),
        ([[2.0, 2.1, 1.9], [1.0, 1.1, 0.9]], "inconclusive"),
        ([[1.0, 2.0, 1.5]], "inconclusive"),
    ],
)
def test_a_budget_is_exceeded_only_twice(sets: list[list[float]], status: str) -> None:
    outcome = budgeted([[measured(ms) for ms in one] for one in sets], 1.5e6, "", "")
    assert outcome.status == status
    assert outcome.facts["processes"] == sum(map(len, sets))


def test_the_rule_reaches_a_worker_unchanged() -> None:
    rule = Rule(0.05).shared(3)
    as_sent = json.loads(json.dumps({"max_slowdown": rule.max_slowdown, "alpha": rule.alpha, "looks": rule.looks}))
    assert rerun.read(Rule, as_sent) == rule
