"""The figures of the studies that can be made again from what was recorded, by whatever estimator.

Each is made of units (cases, cells, replays), so that units drawn again say how sure a difference is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from statistics import median

import numpy as np
import pandas as pd

from tests.studies import lab, recorded
from tests.studies.replay import BEFORE, Rule, Said, headline, level_of, of_case

#: Visits that go wild in the figures that say so: one in so many, by this factor, as on two threads.
WILD_ONE_IN, WILD_BY = 15, 1.65
CELL = ["load", "network", "backend", "threads"]
Values = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: values of units by rule, and what is made of them.

    Attributes:
        units: Values, a row per unit.
        made: The figure of some units.
    """

    units: Callable[[Rule], Values]
    made: Callable[[Values], float]


def rms(values: Values) -> float:
    return float(np.sqrt(np.mean(values**2)))


def deviation(values: Values) -> float:
    return float(np.std(values, ddof=1))


def mean(values: Values) -> float:
    return float(np.nanmean(values))


def middle(values: Values) -> float:
    return float(np.median(values))


def worst(values: Values) -> float:
    return float(np.max(values))


# --- the recorded runs


@cache
def run(name: str) -> dict[recorded.Key, list[recorded.Visit]]:
    return recorded.read(name)


@cache
def run_level(name: str) -> float:
    return level_of([r for visits in run(name).values() for visit in visits for r in visit.reference])


@cache
def visits_said(name: str, rule: Rule) -> dict[recorded.Key, list[Said]]:
    return {case: of_case(visits, run_level(name), rule) for case, visits in run(name).items()}


def headlines(name: str, rule: Rule) -> dict[recorded.Key, tuple[float, float | None]]:
    return {case: headline(found, 3, rule) for case, found in visits_said(name, rule).items()}


def within(name: str) -> Callable[[Rule], Values]:
    """Return standard deviations between the visits of each case, each visit alone."""
    return lambda rule: np.array([np.std([one[0] for one in v], ddof=1) for v in visits_said(name, rule).values()])


def unstable(name: str) -> Callable[[Rule], Values]:
    """Return whether each row is called unstable: wider than 10%, or no visit that could be believed."""

    def units(rule: Rule) -> Values:
        found = visits_said(name, rule)
        halves = [half for _, half in headlines(name, rule).values()]
        trusted = [any(one[1] if rule.blocks == "quiet" else one[2] < math.inf for one in v) for v in found.values()]
        wide = [half is None or math.expm1(half) > 0.10 for half in halves]
        return np.array([w or not t for w, t in zip(wide, trusted, strict=True)], dtype=float)

    return units


def twice(rule: Rule) -> Values:
    """Return the log of the ratio of two runs' headlines, each case that both have."""
    first, second = headlines("restless_first", rule), headlines("restless", rule)
    return np.array([second[case][0] - first[case][0] for case in first])


def halves(rule: Rule) -> Values:
    """Return for each case how far headlines of three of its six visits lie from those of the other three, rms."""
    shift = float(np.median(twice(rule)))
    first, second = visits_said("restless_first", rule), visits_said("restless", rule)
    draw, made = np.random.default_rng(5), []
    for case, early in first.items():
        six = [(log + shift, quiet, slow) for log, quiet, slow in early] + second[case]
        apart = []
        for _ in range(10):
            order = draw.permutation(6)
            sides = [[six[i] for i in part] for part in (order[:3], order[3:])]
            apart.append(headline(sides[0], 3, rule)[0] - headline(sides[1], 3, rule)[0])
        made.append(rms(np.array(apart)))
    return np.array(made)


def shift(name: str) -> Callable[[Rule], Values]:
    """Return the log of each case's headline over that of the estimator before the ablation."""

    def units(rule: Rule) -> Values:
        before = headlines(name, BEFORE)
        return np.array([log - before[case][0] for case, (log, _) in headlines(name, rule).items()])

    return units


def left_out(name: str) -> Callable[[Rule], Values]:
    """Return, for each network left out and mean over runtimes, how wrong a fit of five terms is about it."""
    rows = recorded.networks()
    terms = np.array(
        [[1.0, *(row[3][c] for c in ("acts", "flops", "params", "layers", "padding_flops"))] for row in rows]
    )
    terms = terms / terms.max(axis=0)

    def units(rule: Rule) -> Values:
        found, errors = headlines(name, rule), []
        for backend in recorded.BACKENDS.values():
            y = np.exp([found[(*row[:3], backend)][0] for row in rows])
            x = terms / y[:, None]  # relative errors count
            hat = x @ np.linalg.pinv(x)
            errors.append(np.abs((1 - hat.sum(axis=1)) / (1 - np.diag(hat))))
        return np.mean(errors, axis=0)

    return units


# --- what studies left behind


@cache
def repeats() -> list[tuple[dict[str, float], list[list[Said]]]]:
    """Return for each cell on the restless machine the others' spreads, and our visits by repeat."""
    frame = pd.read_csv(lab.RESULTS / "restless" / "repeatability.csv")
    found = []
    for _, cell in frame.groupby(CELL):
        spread = {str(way): float(g.std() / g.mean()) for way, g in cell.groupby("way")["ms"]}
        ours = cell[cell["way"] == "ours"]["visits"]
        told = [[one.split("/") for one in text.split()] for text in ours]
        found.append((spread, [[(math.log(float(ms)), float(s) <= 1, float(s)) for ms, s in one] for one in told]))
    return found


def repeatability(way: str | None) -> Callable[[Rule], Values]:
    """Return our spread in each cell over that of ``way``, or as it is."""

    def units(rule: Rule) -> Values:
        made = []
        for others, ours in repeats():
            ms = np.exp([headline(visits, 5, rule)[0] for visits in ours])
            made.append(float(np.std(ms, ddof=1) / np.mean(ms)) / (others[way] if way else 1.0))
        return np.array(made)

    return units


@cache
def traces(machine: str) -> list[list[Said]]:
    """Return sixty visits in each condition."""
    frame = pd.read_csv(lab.RESULTS / machine / "intervals.csv")
    if "slowness" not in frame:  # visits without a quiet block were left out
        frame = frame.assign(quiet=True, slowness=1.0)
    groups = frame.groupby(["network", "backend", "threads", "load"], sort=False)
    return [
        [(math.log(ms), bool(q), float(s)) for ms, q, s in zip(g["ms"], g["quiet"], g["slowness"], strict=True)]
        for _, g in groups
    ]


def sixes(machine: str) -> Callable[[Rule], Values]:
    """Return how far headlines of six visits made one after the other lie from their mean."""

    def units(rule: Rule) -> Values:
        made = []
        for trace in traces(machine):
            logs = [headline(trace[i : i + 6], 5, rule)[0] for i in range(0, len(trace) - 5, 6)]
            made += [(log - float(np.mean(logs))) * math.sqrt(len(logs) / (len(logs) - 1)) for log in logs]
        return np.array(made)

    return units


@cache
def replayed(machine: str, rule: Rule) -> Values:
    """Return (held the long-run value, half width, visits) of 400 replays of each trace."""
    made = []
    for trace in traces(machine):
        draw, truth = np.random.default_rng(0), headline(trace, 5, rule)[0]
        for _ in range(400):
            drawn = [trace[i] for i in draw.integers(len(trace), size=12)]
            for visits in range(5, 13):
                centre, half = headline(drawn[:visits], 5, rule)
                if half is not None and math.expm1(half) <= 0.01:
                    break
            made.append((half is not None and abs(centre - truth) <= half, half or math.nan, visits))
    return np.array(made, dtype=float)


def wild(machine: str, count: int) -> Callable[[Rule], Values]:
    """Return how far headlines of ``count`` visits, of which some go wild, lie from the median of all sixty."""

    def units(rule: Rule) -> Values:
        made = []
        for trace in traces(machine):
            draw, truth = np.random.default_rng(3), median(one[0] for one in trace)
            for _ in range(150):
                picked = [trace[i] for i in draw.integers(len(trace), size=count)]
                longer = math.log(WILD_BY) * (draw.random(count) < 1 / WILD_ONE_IN)
                drawn = [(log + more, q, s) for (log, q, s), more in zip(picked, longer, strict=True)]
                made.append(headline(drawn, 5, rule)[0] - truth)
        return np.array(made)

    return units


def cores(count: int) -> Callable[[Rule], Values]:
    """Return for each network how far headlines of ``count`` visits lie from that with the cores together."""
    frame = pd.read_csv(lab.RESULTS / "cores.csv")
    frame["slow"] = frame["reference"] / level_of(frame["reference"].tolist())

    def units(rule: Rule) -> Values:
        draw, made = np.random.default_rng(0), []
        for _, cell in frame.groupby(["network", "backend"]):
            truth = math.log(cell.loc[cell["cores"] == "together", "headline_ms"].median())
            trace = [
                (math.log(ms), s <= rule.quiet, max(1.0, s))
                for ms, s in zip(cell["headline_ms"], cell["slow"], strict=True)
            ]
            picks = [[trace[i] for i in draw.integers(len(trace), size=count)] for _ in range(200)]
            made.append(rms(np.array([headline(pick, 5, rule)[0] - truth for pick in picks])))
        return np.array(made)

    return units


def figures() -> dict[str, Figure]:
    """Return every figure that can be replayed."""
    found = {
        "two sweeps apart, restless": Figure(twice, deviation),
        "halves of six visits apart, restless": Figure(halves, rms),
        "our spread over torch Timer's, restless": Figure(repeatability("torch Timer"), middle),
        "our spread over a mean of calls', restless": Figure(repeatability("mean of calls"), middle),
        "our spread, restless": Figure(repeatability(None), middle),
        "our spread in the worst cell, restless": Figure(repeatability(None), worst),
        "six visits, idle and hog": Figure(sixes("."), rms),
        "six visits, restless": Figure(sixes("restless"), rms),
        "six visits, cores apart at times": Figure(cores(6), rms),
        "three visits, one in 15 wild": Figure(wild(".", 3), rms),
        "six visits, one in 15 wild": Figure(wild(".", 6), rms),
        "twelve visits, one in 15 wild": Figure(wild(".", 12), rms),
        "coverage, idle and hog": Figure(lambda rule: replayed(".", rule)[:, 0], mean),
        "coverage, restless": Figure(lambda rule: replayed("restless", rule)[:, 0], mean),
        "half width, restless": Figure(lambda rule: replayed("restless", rule)[:, 1], mean),
        "visits until narrow, idle and hog": Figure(lambda rule: replayed(".", rule)[:, 2], mean),
        "fit's error on networks left out, AMD": Figure(left_out("sweep"), mean),
        "fit's error on networks left out, restless": Figure(left_out("restless"), mean),
    }
    for name in ("quick", "sweep", "restless"):
        found[f"headlines' shift, {name}"] = Figure(shift(name), mean)
        found[f"one visit, {name}"] = Figure(within(name), rms)
        found[f"unstable rows, {name}"] = Figure(unstable(name), mean)
    return found
