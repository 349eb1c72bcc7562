"""How many intervals hold that rest on what the other cases of a run tell; nothing is measured.

Recorded runs (see :mod:`tests.studies.recorded`) have three visits of each case: an interval over the first two, drawn
in random order, should hold the third, widened by what a single visit scatters itself. Simulated runs have a known
truth, end a case on a narrow interval as a run with a precision does, and have visits with tails.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import fmean, median, variance

import pandas as pd

from profiler.records.intervals import interval
from profiler.records.spread import Spread, shared
from tests.studies import lab, recorded

RUNS = ("quick", "sweep", "restless_first", "restless")
SIZES = (12, 20, 40, 66)
#: Intervals of each row of the table, about.
INTERVALS = 4000
#: A precision that ends a case, and the most visits.
ENOUGH, MOST, PILOT = 0.03, 12, 3


def log_ms(visit: recorded.Visit) -> float:
    """Return the logarithm of what a visit says."""
    between = [(one + other) / 2 for one, other in zip(visit.reference, visit.reference[1:], strict=False)]
    return math.log(median(s / by for block, by in zip(visit.samples, between, strict=True) for s in block))


def common(cases: Sequence[Sequence[float]]) -> Spread | None:
    """Return what the cases share."""
    return shared(Spread(variance(logs), len(logs) - 1) for logs in cases)


def row(source: str, size: int, way: str, found: Sequence[tuple[bool, float]]) -> dict[str, object]:
    """Return a row of the table from whether each interval held, and its half width."""
    held, halves = zip(*found, strict=True)
    told = {"coverage": fmean(held), "half_width": fmean(halves), "median": median(halves)}
    return {"source": source, "cases": size, "way": way} | told


def of_recorded(source: str, size: int) -> list[dict[str, object]]:
    """Foretell the third visit of each case from two."""
    visits, draw = [[log_ms(v) for v in case] for case in recorded.read(source).values()], random.Random(size)
    ways: dict[str, list[tuple[bool, float]]] = {"alone": [], "shared": []}
    for _ in range(INTERVALS // size):
        logs = [draw.sample(case, 3) for case in draw.sample(visits, size)]
        told = {"alone": None, "shared": common([case[:2] for case in logs])}
        for *two, third in logs:
            for way, spread in told.items():
                half = interval(two, 2, spread)[1] or 0.0
                ways[way].append((abs(fmean(two) - third) <= half * math.sqrt(3), half))
    return [row(source, size, way, found) for way, found in ways.items()]


def simulated(draw: random.Random, size: int, *, heavy: bool, way: str) -> list[tuple[bool, float]]:
    """Visit cases of unlike spread until their intervals are narrow; the truth is 0."""
    spread = [draw.lognormvariate(math.log(0.03), 0.6) for _ in range(size)]

    def visit(of: float) -> float:
        return of * draw.gauss(0, 1) * (math.sqrt(4 / draw.gammavariate(2, 2)) if heavy else 1.0)

    cases = [[visit(of) for _ in range(PILOT)] for of in spread]
    going = True
    while going:
        going, told = False, common(cases) if way == "shared" else None
        for of, logs in zip(spread, cases, strict=True):
            if len(logs) < MOST and (interval(logs, PILOT, told)[1] or 0.0) > ENOUGH:
                logs.append(visit(of))
                going = True
    told = common(cases) if way == "shared" else None
    ends = [interval(logs, PILOT, told) for logs in cases]
    return [(abs(centre) <= (half or 0.0), half or 0.0) for centre, half in ends]


def test_intervals_that_share_hold_as_often() -> None:
    rows = [one for source in RUNS for size in SIZES for one in of_recorded(source, size)]
    for heavy in (False, True):
        for size in SIZES:
            for way in ("alone", "shared"):
                draw, found = random.Random(size), list[tuple[bool, float]]()
                for _ in range(INTERVALS // size // 2):
                    found += simulated(draw, size, heavy=heavy, way=way)
                rows.append(row("heavy" if heavy else "normal", size, way, found))
    lab.save_rows("shared", rows)
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    by_way = table.pivot_table(index=["source", "cases"], columns="way", values=["coverage", "half_width"])
    assert by_way["coverage"]["shared"].min() > 0.91
    assert by_way["coverage"]["shared"].mean() > 0.93
    of_two = by_way.loc[list(RUNS)]["half_width"]
    assert (of_two["shared"] / of_two["alone"]).max() < 0.4
