"""How long counting, scaling and solving take.

pytest tests/bench_complexity.py --benchmark-only -o python_files='bench_*.py'
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from profiler.models import complexity, get, scale, scale_to_flops


def median(benchmark: BenchmarkFixture) -> float:
    assert benchmark.stats is not None
    return float(benchmark.stats.stats.median)


@pytest.mark.parametrize("name", ["regnety_4.0gf", "efficientnet_b7"])
def test_complexity_takes_less_than_a_millisecond(benchmark: BenchmarkFixture, name: str) -> None:
    arch = get(name)
    assert benchmark(complexity, arch).flops > 0
    assert median(benchmark) < 1e-3


def test_complexity_of_a_hundredfold_depth_takes_no_longer(benchmark: BenchmarkFixture) -> None:
    arch = scale(get("regnety_4.0gf"), "d", 100)
    assert benchmark(complexity, arch).flops > 3e11
    assert median(benchmark) < 1e-3


def test_scale(benchmark: BenchmarkFixture) -> None:
    assert benchmark(scale, get("regnety_4.0gf"), "dWr", 4.0).factor == 4.0


@pytest.mark.parametrize("rule", ["dWr", "w", "dwr"])
def test_scale_to_flops(benchmark: BenchmarkFixture, rule: str) -> None:
    assert benchmark(scale_to_flops, get("regnety_4.0gf"), rule, 16 * 10**9).scaling == rule
