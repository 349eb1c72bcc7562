"""Which time of a GPU repeats: as read, divided by a reference, or by events.

On the rows that were stored of an H200, all at one clock, the device's own time tells what a forward took, so that what
an estimator differs from it by is its error. On the simulated accelerator the same is known by construction, with the
reference varying as it did there, with a clock that moves from visit to visit, and with both.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.backends.simulator import results_of
from tests.studies import lab
from tests.studies.estimated import stored

WAYS = ("raw", "normalised")
SIMULATED = (*WAYS, "device", "device x clock")


def on_the_h200() -> list[dict[str, object]]:
    """Spread over the rows of each estimator over the device's time, and how far it lies from it in the median."""
    rows = stored()
    found: list[dict[str, object]] = []
    for way in WAYS:
        logs = [math.log(row[way] / row["device"]) for row in rows]
        shift = math.expm1(statistics.median(logs))
        found.append(
            {
                "where": "H200",
                "situation": "one clock",
                "way": way,
                "n": len(logs),
                "cv": statistics.stdev(logs),
                "shift": shift,
            }
        )
    return found


def on_the_simulator(visits: Sequence[Mapping[str, float]]) -> list[dict[str, object]]:
    """Spread over visits of each estimator by situation; ``device x clock`` is in cycles of the probe's clock."""
    groups = defaultdict(list)
    for one in visits:
        groups[one["situation"]].append({**one, "device x clock": one["device"] * one["clock_mhz"] / 1000})
    found: list[dict[str, object]] = []
    for situation, group in groups.items():
        for way in SIMULATED:
            logs = [math.log(one[way]) for one in group]
            shift = math.expm1(statistics.median(logs) - math.log(10_000_000))
            found.append(
                {
                    "where": "simulated",
                    "situation": situation,
                    "way": way,
                    "n": len(logs),
                    "cv": statistics.stdev(logs),
                    "shift": shift,
                }
            )
    return found


def test_what_repeats_on_a_gpu() -> None:
    visits = results_of(Path(__file__).parent / "estimated.py")
    rows = on_the_h200() + on_the_simulator(visits)
    lab.save_rows("gpu_estimators", [row | {"cv": f"{row['cv']:.6f}", "shift": f"{row['shift']:.6f}"} for row in rows])
    for row in rows:
        print(f"{row['where']:10} {row['situation']:38} {row['way']:15} {row['cv']:.2%} {row['shift']:+.2%}")
    cv = {(row["where"], row["situation"], row["way"]): float(str(row["cv"])) for row in rows}
    assert cv["H200", "one clock", "raw"] < cv["H200", "one clock", "normalised"]
    steady, moves = "one clock, reference as on the H200", "clock moves, reference follows it"
    assert cv["simulated", steady, "raw"] < 0.001 < cv["simulated", steady, "normalised"]
    assert cv["simulated", moves, "normalised"] < 0.002 < cv["simulated", moves, "raw"]
    assert cv["simulated", "both", "device x clock"] < 0.001
