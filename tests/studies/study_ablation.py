"""What each part of the estimator does for the studies' figures, by taking it out and replaying what was recorded.

Nothing is measured: four recorded runs by visit and block (:mod:`tests.studies.recorded`), and the visits that the
studies of repeatability, intervals and cores left behind. Each figure is a mean over units (cases, cells, replays), so
that the difference between two estimators has an interval: units are drawn again a thousand times, the same for both.
What only a live visit can show (waiting, calibrating) is not here; ``docs/estimator.md`` says how it was judged.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd

from tests.studies import lab
from tests.studies.figures import Figure, figures, headlines, run
from tests.studies.replay import AFTER, BEFORE, Rule

RESAMPLES = 1000

#: Taken out of the estimator as it was before the ablation, one at a time.
OUT = {
    "all parts at once: the estimator since": AFTER,
    "blocks beside a slower reference do not count (QUIET in a visit)": replace(BEFORE, blocks="alone"),
    "weights by the reference's slowness (WIDTHS)": replace(BEFORE, widths=()),
    "three quiet visits carry a headline alone (LEAST_QUIET)": replace(BEFORE, least=1),
    "blocks that had cores beside a reference that had none (_with_cores)": replace(BEFORE, with_cores=False),
    "the reference counts as 1.8 times slow at most (cap)": replace(BEFORE, cap=False),
    "a competitor's visits do not count (FAR)": replace(BEFORE, far=math.inf, with_cores=False, cap=False),
    "blocks whose threads waited do not count (CROWDED)": replace(BEFORE, cores=False),
    "visits are trimmed (TRIM, TRIM_FROM)": replace(BEFORE, centre="clipped"),
    "visits are clipped (WILD)": replace(BEFORE, wild=math.inf),
    "level of the whole run (Levels, ENOUGH)": replace(BEFORE, run_level=False),
    "a nominal time that the run found too long (recalibrated, FASTER)": replace(BEFORE, faster=0.0),
    "the pilot's interval (Stein)": replace(BEFORE, stein=False),
    "normalising itself": replace(BEFORE, normalise=False),
    "short settling on one thread, none of slow models (SETTLE_NS, SLOW_NS)": replace(BEFORE, settled=True),
}
#: Taken out of the estimator as it is since: what is left is what a figure notices.
STILL = {
    "quiet visits count alone where there are three (QUIET, LEAST_QUIET)": replace(AFTER, visits="equal"),
    "as many as three (LEAST_QUIET)": replace(AFTER, least=1),
    "blocks beside a competitor do not count (FAR)": replace(AFTER, blocks="all", far=math.inf),
    "visits beside a competitor do not count (FAR)": replace(AFTER, far=math.inf),
    "blocks whose threads waited do not count (CROWDED)": replace(AFTER, cores=False),
    "the middle half of the visits: their mean instead": replace(AFTER, centre="mean"),
    "the middle half of the visits: their median instead": replace(AFTER, centre="median"),
    "the middle half of the visits: clipped instead (WILD)": replace(AFTER, centre="clipped"),
    "the pilot's interval (Stein)": replace(AFTER, stein=False),
}


def compare(figure: Figure, with_: Rule, without: Rule) -> dict[str, float]:
    """Return the figure with and without, and the 95% interval of the difference."""
    units = [figure.units(rule) for rule in (with_, without)]
    draw = np.random.default_rng(1)
    picks = [draw.integers(len(units[0]), size=len(units[0])) for _ in range(RESAMPLES)]
    apart = [figure.made(units[1][pick]) - figure.made(units[0][pick]) for pick in picks]
    low, high = np.quantile(apart, [0.025, 0.975])
    return {"with": figure.made(units[0]), "without": figure.made(units[1]), "low": float(low), "high": float(high)}


def table(parts: dict[str, Rule], of: Rule, name: str) -> list[dict[str, object]]:
    return [
        {"estimator": name, "part": part, "figure": figure} | compare(made, of, without)
        for part, without in parts.items()
        for figure, made in figures().items()
    ]


def test_ablation() -> None:
    rows = table(OUT, BEFORE, "before") + table(STILL, AFTER, "since")
    frame = pd.DataFrame(rows)
    frame.to_csv(lab.RESULTS / "ablation.csv", index=False, float_format="%.4g")
    moved = frame[(frame["low"] > 0) | (frame["high"] < 0)]
    print(moved.to_string(float_format="{:.4f}".format))
    at_once = frame[frame["part"] == next(iter(OUT))].set_index("figure")
    spreads = at_once[~at_once.index.str.contains("coverage|shift")]
    # Nothing is surely worse by more than a twentieth of itself.
    assert not (spreads["low"] > spreads["with"] / 20).any(), at_once
    assert at_once.loc["our spread over torch Timer's, restless", "without"] <= 1 / 3
    assert at_once.loc[["coverage, idle and hog", "coverage, restless"], "without"].between(0.93, 0.98).all()


def test_the_replayed_estimator_is_the_programs() -> None:
    """The one that is compared with, on every case of a run."""
    from profiler.records.circumstances import Conditions
    from profiler.records.estimate import case_estimate
    from profiler.records.types import Measurement, Warmup

    for case, visits in run("restless").items():
        made = [
            Measurement(
                tuple(tuple(round(s) for s in block) for block in visit.samples), 1,
                tuple((round(1e6 * r),) for r in visit.reference), 1e6, Warmup((), steady=True), None, Conditions(), {},
                core_wait_ns=tuple(0 if had else 10**12 for had in visit.had_cores),
            )
            for visit in visits
        ]  # fmt: skip
        centre, half = headlines("restless", AFTER)[case]
        found = case_estimate(made, 3)
        assert math.isclose(math.log(found.latency_ns), centre, abs_tol=1e-6), case
        assert half is None or math.isclose(found.relative_half_width or 0.0, math.expm1(half), rel_tol=1e-5), case
