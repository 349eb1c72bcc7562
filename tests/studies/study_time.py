"""What a run that ends on time gains over rounds that take as long; nothing is measured.

Cases have visits that scatter normally, or with heavier tails, by a spread of their own, as the cases of a run have. Both
ways make as many visits: rounds of every case, and those that ``Progress.worthwhile`` chooses.
"""

from __future__ import annotations

import math
import random
from statistics import fmean, median

import pandas as pd
import pytest

from profiler.backends.base import Placement
from profiler.records.circumstances import Conditions
from profiler.records.estimate import case_estimate
from profiler.records.types import Budget, Case, Measurement, Record, Warmup
from profiler.run.schedule import Progress
from tests.studies import lab

CASES, REPLAYS, NS = 66, 12, 1e7
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
        number = len(progress.visits[case.key])
        progress.add(Record(case, None, 224, "h", number, "2026-01-01T00:00:00+00:00", 1.0, outcome))

    left, chosen = rounds * CASES, list(cases)
    while left:
        for case in chosen[:left]:
            visit(case)
        left -= len(chosen[:left])
        chosen = progress.worthwhile(math.inf, draw.randrange(2**31)) if on_time else list(cases)
    return progress


@pytest.mark.parametrize("heavy", [False, True], ids=["normal", "heavy"])
@pytest.mark.parametrize("rounds", [3, 4, 6])
def test_a_time_is_spent_no_worse_than_rounds(rounds: int, heavy: bool) -> None:
    draw, rows = random.Random(rounds), []
    for _ in range(REPLAYS):
        for way in ("rounds", "time"):
            progress = played(rounds, draw, on_time=way == "time", heavy=heavy)
            found = [case_estimate(progress.good(case), ON_TIME.pilot) for case in progress.cases]
            ends = [(e.ci_low_ns, e.latency_ns, e.ci_high_ns) for e in found if e.ci_low_ns and e.ci_high_ns]
            halves = [math.log(high / centre) for _, centre, high in ends]
            rows.append({"way": way, "half_width": fmean(halves), "median": median(halves),
                         "coverage": fmean(low <= NS <= high for low, _, high in ends)})  # fmt: skip
    table = pd.DataFrame(rows).groupby("way").mean(numeric_only=True).reset_index()
    print(table.to_string(index=False))
    name = f"time_{'heavy' if heavy else 'normal'}_{rounds}.csv"
    table.assign(rounds=rounds, heavy=heavy).to_csv(lab.RESULTS / name, index=False)
    by_way = table.set_index("way")
    assert by_way.loc["time", "half_width"] <= (1.02 if rounds == 3 else 0.93) * by_way.loc["rounds", "half_width"]
    assert by_way.loc["time", "coverage"] > 0.92
