"""How long counting, scaling and solving take.

pytest tests/models/bench_complexity.py --benchmark-only -o python_files='bench_*.py'
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from profiler.models import build, complexity, get, scale, scale_to_flops


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


@pytest.mark.parametrize("name", ["regnety_4.0gf"])
def test_fvcore_for_comparison(benchmark: BenchmarkFixture, name: str) -> None:
    """Counting the same network by running it under fvcore's hooks; it counts no bias and its own kinds of layers."""
    analysis = pytest.importorskip("fvcore.nn")
    torch = pytest.importorskip("torch")
    arch = get(name)
    module, image = build(arch), torch.zeros(1, 3, arch.resolution, arch.resolution)

    def count() -> float:
        counted = analysis.FlopCountAnalysis(module, image)
        return float(counted.unsupported_ops_warnings(enabled=False).uncalled_modules_warnings(enabled=False).total())

    total = benchmark.pedantic(count, rounds=3)
    assert total == pytest.approx(complexity(arch).flops, rel=0.01)
