"""What a run that ends on time gains over rounds that take as long; nothing is measured.

Cases have visits that scatter normally, or with heavier tails, by a spread of their own, as the cases of a run have.
All ways make as many visits: rounds of every case, whose intervals rest on its own visits (``alone``) or on those of
the others too, and the visits that ``Progress.worthwhile`` chooses.
"""

from __future__ import annotations

import math
import random
from statistics import fmean, median

import pandas as pd

from profiler.backends.base import Placement
from profiler.records.circumstances import Conditions
from profiler.records.estimate import case_estimate, spread_of
from profiler.records.spread import shared
from profiler.records.types import Budget, Case, Measurement, Record, Warmup
from profiler.run.schedule import Progress
from tests.studies import lab

CASES, REPLAYS, NS = 66, 40, 1e7
ON_TIME = Budget(min_rounds=3, rounds=10**9, precision=None)


def played(rounds: int, draw: random.Random, *, on_time: bool, heavy: bool) -> Progress:
    """Return what is known after as many visits as ``rounds`` rounds make; the truth of every case is ``NS``."""
    cases = tuple(Case(f"net{i}", "", 1.0, "eager", Placement()) for i in range(CASES))
    spread = {case.key: draw.lognormvariate(math.log(0.03), 0.6) for case in cases}
    progress = Progress(cases, ON_TIME)

    def visit(case: Case) -> None:
        tail = math.sqrt(4 / draw.gammavariate(2, 2)) if heavy else 1.0  # Student's t with 4 degrees of freedom
        ns = round(NS * math.exp(spread[case.key] * draw.gauss(0, 1) * tail))
        outcome = Measurement(((ns,),), 1, (), None, Warmup((ns,), steady=True), None, Conditions(), {}, {})
        number = progress.made(case)
        progress.add(Record(case, None, 224, "h", number, "2026-01-01T00:00:00+00:00", 1.0, outcome))

    left, chosen = rounds * CASES, list(cases)
    while left:
        for case in chosen[:left]:
            visit(case)
        left -= len(chosen[:left])
        chosen = progress.worthwhile(math.inf, draw.randrange(2**31)) if on_time else list(cases)
    return progress


def replayed(rounds: int, way: str, *, heavy: bool) -> dict[str, object]:
    """Return means over replays: half widths, their medians, and the share of intervals that hold the truth."""
    draw, rows = random.Random(rounds), []
    for _ in range(REPLAYS):
        progress = played(rounds, draw, on_time=way == "time", heavy=heavy)
        visits = [progress.good(case) for case in progress.cases]
        common = None if way == "alone" else shared(filter(None, map(spread_of, visits)))
        found = [case_estimate(good, ON_TIME.pilot, common) for good in visits]
        ends = [(e.ci_low_ns, e.latency_ns, e.ci_high_ns) for e in found if e.ci_low_ns and e.ci_high_ns]
        halves = [math.log(high / centre) for _, centre, high in ends]
        rows.append((fmean(halves), median(halves), fmean(low <= NS <= high for low, _, high in ends)))
    half, middle, coverage = (fmean(column) for column in zip(*rows, strict=True))
    told = {"half_width": half, "median": middle, "coverage": coverage}
    return {"scatter": "heavy" if heavy else "normal", "rounds": rounds, "way": way} | told


def test_a_time_is_spent_no_worse_than_rounds() -> None:
    rows = [
        replayed(rounds, way, heavy=heavy)
        for heavy in (False, True)
        for rounds in (2, 3, 4, 6)
        for way in ("alone", "rounds", "time")
    ]
    lab.save_rows("time", rows)
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    half = table.pivot_table(index=["scatter", "rounds"], columns="way", values="half_width")
    assert (half["time"] / half["alone"]).max() <= 0.95
    assert (half["time"] / half["alone"]).loc[:, :3].max() <= 0.75
    assert (half["time"] / half["rounds"]).max() <= 1.05
    assert table["coverage"].min() > 0.91
