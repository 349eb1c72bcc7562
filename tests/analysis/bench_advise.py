"""How long a search of 10,000 networks takes.

pytest tests/analysis/bench_advise.py --benchmark-only -o python_files='bench_*.py'
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from profiler import models
from profiler.analysis import advise
from tests.analysis.test_advise import goal


@pytest.mark.parametrize(("base", "flops"), [("regnety_4.0gf", 16e9), ("efficientnet_b0", 4e9)])
def test_ten_thousand_networks_take_less_than_five_seconds(
    benchmark: BenchmarkFixture, base: str, flops: float
) -> None:
    found = benchmark.pedantic(advise.advise, (models.get(base), goal("flops", flops, 2.0, 0.1)), rounds=3)
    assert found.tried > 9000
    assert benchmark.stats is not None
    assert benchmark.stats.stats.median < 5
