"""The fixture ``latency_gate`` in nested runs: what it fails, what it lets pass, and what it says.

Regressions are made with longer fake durations. What is timed runs in this process.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import pytest

from tests.gate.here import stay_here
from tests.testing.nested import BRIEF, FAKES, gates, run


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    stay_here(monkeypatch)


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
    # A busy neighbour stretches the longer call more.
    assert 1.5 < slower["extra_info"]["ratio"] < 10
    assert slower["extra_info"]["interval"][0] < slower["extra_info"]["ratio"] < slower["extra_info"]["interval"][1]
    # A fake's spin never ends early: at least its two milliseconds, in seconds, in every sample.
    assert len(slower["stats"]["data"]) >= 2 * slower["extra_info"]["blocks"]
    assert 0.002 <= slower["stats"]["min"] < 0.2


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
    result = project.runpytest_subprocess(*BRIEF, *ours, timeout=120) if "-n" in arguments else run(project, *ours)
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


def test_a_budget_of_the_tail(project: pytest.Pytester) -> None:
    project.makepyfile(
        FAKES
        + """
    def test_stalls(latency_gate):
        latency_gate(fake(duration_ms=5, stall_ms=60, stall_every=3), max_latency="22ms")

    def test_tail(latency_gate):
        latency_gate(fake(duration_ms=5, stall_ms=60, stall_every=3), max_p99="20ms", max_mean="4ms")
    """
    )
    result = run(project, "--latency-seconds=0.3", "--benchmark-json=benchmark.json")
    result.assert_outcomes(passed=1, failed=1)
    found = gates(result)
    assert found["test_stalls"].startswith("INCONCLUSIVE: ")
    assert re.search(r"[;,] mean \d", found["test_stalls"])
    assert found["test_tail"].startswith("OVER BUDGET: ")
    assert "99th percentile" in found["test_tail"]
    stored = {one["name"]: one for one in json.loads((project.path / "benchmark.json").read_text())["benchmarks"]}
    assert stored["test_stalls"]["stats"]["mean"] == pytest.approx(stored["test_stalls"]["extra_info"]["mean_s"])
    assert stored["test_tail"]["extra_info"]["limits_s"] == {"mean": 0.004, "p99": 0.02}


def test_another_output_and_other_inputs_are_told(project: pytest.Pytester) -> None:
    project.makepyfile(
        FAKES
        + """
    from profiler.testing import zoo

    def test_output(latency_gate):
        latency_gate(fake(duration_ms=1, fault="parity"), baseline=fake(duration_ms=1))

    def test_allowed(latency_gate):
        other = fake(duration_ms=1, fault="parity")
        latency_gate(other, baseline=fake(duration_ms=1), max_slowdown=0.9, allow_different_output=True)

    def test_inputs(latency_gate):
        latency_gate(zoo("efficientnet_b1", backend="fake"), baseline=fake(duration_ms=1))
    """
    )
    result = run(project)
    result.assert_outcomes(passed=1, failed=2)
    found = gates(result)
    assert found["test_output"].startswith("DIFFERENT OUTPUT: the candidate computes something else: ")
    assert found["test_allowed"].endswith(", as is allowed")
    assert found["test_inputs"].startswith("NOT COMPARABLE: the inputs differ: input is float32 1x3x224x224 in the ")


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

    @pytest.mark.parametrize("asked", [{"max_latency": "1s"}, {"baseline": fake(duration_ms=1)}])
    def test_missing(latency_gate, asked):
        latency_gate("missing.onnx", **asked)

    def test_twice(latency_gate):
        try:
            latency_gate(fake(duration_ms=1), max_latency="0s")
        except pytest.fail.Exception:
            pass
        latency_gate(fake(duration_ms=1), max_latency="1s")
    """
    )
    result = run(project)
    result.assert_outcomes(failed=10)
    assert all(said.startswith("ERROR: ") for said in gates(result).values())
    assert "Traceback" not in result.stdout.str()
    assert "fixture.py:" not in result.stdout.str()
    assert sum("there is no file 'missing.onnx'" in said for said in gates(result).values()) == 2
    assert "latency_gate was called twice" in gates(result)["test_twice"]
