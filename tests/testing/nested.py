"""Pytest runs inside tests, and what they say of their gates."""

from __future__ import annotations

import pytest

# By name, whether the package was installed before its entry point was written or after.
PLUGIN = ("-p", "no:latency_profiler", "-p", "profiler.testing.plugin")
BRIEF = (*PLUGIN, "--latency-no-self-test", "--latency-seed=1")

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


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run in this process."""
    return project.runpytest_inprocess(*BRIEF, *arguments)


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
