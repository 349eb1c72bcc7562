"""Runs in a process of its own, with the simulated accelerator loaded: visits to a machine that varies as it is told.

Usage: ``python tests/studies/estimated.py LIBRARY``; prints visits as JSON: the situation, the time in ns as read,
divided by the reference and by events, and the clock of the probe in MHz.
"""

from __future__ import annotations

import csv
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.backends.simulator import Simulator

ROOT = Path(__file__).parents[2]
STORED = ROOT / "results" / "reference" / "h200" / "cases.csv"
CONVOLUTION, PRODUCT, MHZ = 5_000_000, 4_000_000, 1000
#: What a clock does from visit to visit, as a share of itself: a card at its power limit that warms up.
CLOCKS = (1.0, 0.99, 0.98, 0.97, 0.96, 0.97, 0.98, 0.99, 1.0, 0.96, 0.97)


def stored() -> list[dict[str, float]]:
    """Times of the rows that were measured on an H200, in ms: as read, divided by the reference, by events."""
    with STORED.open(encoding="utf-8") as file:
        found = [row for row in csv.DictReader(file) if row["device_ms"]]
    names = {"raw": "latency_raw_ms", "normalised": "latency_ms", "device": "device_ms", "reference": "disturbance"}
    return [{name: float(row[column]) for name, column in names.items()} for row in found]


def main(library: Path) -> list[dict[str, Any]]:
    sim = Simulator(library)
    time.perf_counter_ns = sim.clock
    from profiler.backends.base import Placement
    from profiler.measure import reference, visit
    from profiler.records.estimate import visit_estimate
    from profiler.records.nominal import Calibration
    from profiler.records.types import Budget, Case

    visit.core_wait = lambda _threads: None
    reference._EDGE = 2
    known = Calibration(1, PRODUCT, 0.0, 1, "now")
    model = f"{Path(__file__).parents[1] / 'measure' / 'whole_visit.py'}:wide"
    case = Case(model, "", 1.0, "eager", Placement("sim:0"))

    def visited(of_reference: float, clock: float) -> dict[str, Any]:
        sim.cost("aten::convolution", round(CONVOLUTION / clock))
        sim.cost("aten::mm", round(PRODUCT * of_reference / clock))
        sim.clock_mhz(round(MHZ * clock))
        made = visit.visit(visit.Task(case, Budget(visit_s=0.2, warmup_s=0.1), known, None, energy=False))
        told = visit_estimate(made)
        looks = statistics.median(made.clock_mhz)
        return {
            "raw": told.raw_ns,
            "normalised": told.normalised_ns,
            "device": statistics.median(made.device_ns),
            "clock_mhz": looks,
        }

    drawn = [row["reference"] for row in stored()]
    rows = [{"situation": "one clock, reference as on the H200", **visited(one, 1.0)} for one in drawn]
    rows += [{"situation": "clock moves, reference follows it", **visited(1.0, clock)} for clock in CLOCKS]
    pairs = zip(drawn, CLOCKS, strict=True)
    return rows + [{"situation": "both", **visited(one, clock)} for one, clock in pairs]


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
