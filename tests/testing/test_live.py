"""Modules that only their test can build, in processes that run the test again; and revisions."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from profiler.run import calibrations
from profiler.testing import budget
from tests.testing.nested import NETS, gates, run


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
        @pytest.mark.parametrize("depth", [60])
        def test_depth(self, latency_gate, service, depth):
            latency_gate(net(depth), baseline=net(2), max_slowdown=1.0, allow_different_output=True)
    """
    )
    result = run(project)
    result.assert_outcomes(failed=1)
    assert gates(result)["test_depth[60]"].startswith("REGRESSION: ")
    result.stdout.fnmatch_lines(["next: python -m pytest '*.py::TestNet::test_depth[[]60[]]'"])
    # The test here, and its two trials: fixtures are torn down in each process.
    assert (project.path / "stopped").read_text() == "x" * 3


def test_a_live_module_has_a_budget_too(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrations, "_CALIBRATION_VISITS", 1)
    made = calibrations.reference_visits

    def alone(*given: Any) -> Any:
        """The reference as if nothing had competed with it: a calibration beside a busy neighbour is not kept."""
        repeats, visits = made(*given)
        return repeats, [replace(calls, crowded=False) for calls in visits]

    monkeypatch.setattr(calibrations, "reference_visits", alone)
    monkeypatch.setattr(budget, "_VISITS", 2)
    project.makepyfile(
        NETS
        + """
    def test_live(latency_gate):
        latency_gate(net(2), max_latency="1s")
    """
    )
    result = run(project, "--latency-seconds=0.2")
    result.assert_outcomes(passed=1)
    # Beside a busy neighbour two visits may have no block of their own, which is what inconclusive says.
    assert gates(result)["test_live"].startswith(("PASS: ", "INCONCLUSIVE: "))
    assert (project.path / "cache/latency-profiler/calibration.json").is_file()


def stored(project: pytest.Pytester) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((project.path / "benchmark.json").read_text())["benchmarks"]
    return found


def test_a_revision_is_judged_under_its_own_code(repository: pytest.Pytester) -> None:
    repository.makepyfile(
        test_net="""
        import net
        import torch
        from profiler.testing import torch_model

        def test_slower(latency_gate):
            latency_gate(torch_model(net.build(), torch.zeros(1, 64)), baseline="git:before", max_slowdown=1000,
                         allow_different_output=True)

        def test_new(latency_gate):
            latency_gate(torch_model(net.recent(), torch.zeros(1, 64)), baseline="git:before")

        def test_nowhere(latency_gate):
            latency_gate(torch_model(net.build(), torch.zeros(1, 64)), baseline="git:nowhere")
        """
    )
    result = run(repository, "--benchmark-json=benchmark.json")
    result.assert_outcomes(passed=1, skipped=2)
    found = gates(result)
    assert found["test_slower"].startswith("PASS: ")
    [told] = [one for one in stored(repository) if one["name"] == "test_slower"]
    # 60 layers here, 2 there.
    assert told["extra_info"]["ratio"] > 2
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
