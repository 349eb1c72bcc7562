"""How often the gate cries wolf, and how often it sleeps.

Slow-downs are made by added rungs of a ladder model (``tests.studies.ladder``), disturbances by processes that keep
cores or the memory busy. Every gate loads both sides in fresh processes, and a regression counts only when it was
confirmed, as in use.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
from scipy import stats

from profiler.backends.base import Placement
from profiler.gate import contest
from profiler.gate.bias import BIAS_FACTOR, bias, measure_bias
from profiler.gate.contest import Contest
from profiler.gate.judge import judge, rules_of
from profiler.gate.side import SIDES, Pair, Side
from profiler.gate.verdict import Verdict
from profiler.gate.worker import of_case
from profiler.machine.cache import cache_folder
from profiler.records.types import Case, Failure
from profiler.run.processes import LocalExecutor
from tests.studies import lab, ladder

#: Trials of each cell, so that a shortened study can be run: PROFILER_STUDY_SHARE=0.1.
SHARE = float(os.environ.get("PROFILER_STUDY_SHARE", "1"))

_MEMORY_HOG = """
import numpy
a = numpy.ones(1 << 24); b = numpy.ones(1 << 24)
while True:
    numpy.copyto(a, b)
"""


def times(number: int) -> int:
    return max(2, round(number * SHARE))


def ladder_pair(slower: float, limit: float) -> Pair:
    """Return a ladder against one that has ``slower`` more rungs."""
    rungs = (ladder.RUNGS, round(ladder.RUNGS * (1 + slower)))
    old, new = (Side(Case(f"tests.studies.ladder:rungs_{n}", "", 1.0, "eager", Placement())) for n in rungs)
    return Pair(old, new, limit, allow_different_output=True)


def together(executor: LocalExecutor, pair: Pair) -> Contest:
    return contest.together(pair, executor)


def apart(pair: Pair) -> Contest:
    here, cache = Path(__file__).parents[2], cache_folder()
    return contest.apart(
        {name: partial(of_case, here, getattr(pair, name).case, cache) for name in SIDES}, allowed=pair.allowed
    )


def judged(made: Contest, pair: Pair, seed: int) -> Verdict:
    return judge(pair, made, rules_of(pair), lambda: None, seed)


def row(verdict: Verdict, **cell: object) -> dict[str, Any]:
    measuring = [trial.seconds for trial in verdict.trials or ()]
    change = verdict.change
    return cell | {
        "status": verdict.status,
        "change": change[0] if change else None,
        "blocks": sum(len(trial.blocks) for trial in verdict.trials or ()),
        "first_s": measuring[0] if measuring else None,
        "seconds": sum(measuring),
        "reason": verdict.reason,
    }


def gates(
    made: Callable[[Pair], Contest], slower: float, limit: float, number: int, **cell: object
) -> tuple[list[dict[str, Any]], list[Verdict]]:
    pair = ladder_pair(slower, limit)
    verdicts = [judged(made(pair), pair, seed) for seed in range(number)]
    rows = [row(verdict, slower=slower, limit=limit, **cell) for verdict in verdicts]
    return rows, verdicts


def chart(frame: pd.DataFrame, cell: str) -> alt.Chart:
    return (
        alt.Chart(frame)
        .mark_bar()
        .encode(
            x=alt.X("count():Q", stack="normalize", title="share of gates", axis=alt.Axis(format="%")),
            y=alt.Y(f"{cell}:N", title=None),
            color=alt.Color("status:N", title=None),
        )
        .properties(width=420)
    )


def counts(frame: pd.DataFrame, cell: list[str]) -> pd.DataFrame:
    return frame.groupby(cell)["status"].value_counts().unstack(fill_value=0)


def test_identical_code_passes_where_other_gates_alarm(executor: LocalExecutor) -> None:
    """300 gates of identical code; the others' rules see consecutive pairs of the same measurements."""
    rows, verdicts = gates(partial(together, executor), 0.0, 0.05, times(300))
    frame = pd.DataFrame(rows)
    frame["benchmark_compare"], frame["mann_whitney"] = zip(
        *map(others, verdicts, [*verdicts[1:], verdicts[0]]), strict=True
    )
    lab.save("gate_same", frame, chart(frame, "limit"))
    alarms = {
        "ours": int((frame["status"] == "regression").sum()),
        "pytest-benchmark median:5%": int(frame["benchmark_compare"].sum()),
        "Mann-Whitney at 0.002": int(frame["mann_whitney"].sum()),
    }
    print(len(frame), "gates of identical code; false alarms:", alarms)
    print(frame["status"].value_counts().to_dict(), "measured for", frame["seconds"].describe().to_dict())
    assert alarms["ours"] == 0


def others(earlier: Verdict, later: Verdict) -> tuple[bool, bool]:
    """Return whether rules for two separate runs call the later run of the same code slower than the earlier.

    ``--benchmark-compare-fail=median:5%`` compares medians; Mann-Whitney compares the samples, one-sided at 0.002.
    """
    old, new = (
        [ns for trial in verdict.trials or () for block in trial.blocks for ns in block.baseline_ns]
        for verdict in (earlier, later)
    )
    slower = pd.Series(new).median() > 1.05 * pd.Series(old).median()
    return bool(slower), bool(stats.mannwhitneyu(new, old, alternative="greater").pvalue < 0.002)


#: Slow-down, limit, trials, found at least, within seconds of measuring until the first answer.
POWER = (
    (0.10, 0.05, 60, 60, 5.0),
    (0.05, 0.05, 60, 57, 5.0),
    (0.03, 0.03, 60, 54, 8.0),
    (0.02, 0.02, 60, 51, 15.0),
)


def test_slow_downs_are_found(executor: LocalExecutor) -> None:
    rows = []
    for slower, limit, number, _, _ in POWER:
        rows += gates(partial(together, executor), slower, limit, times(number))[0]
    frame = pd.DataFrame(rows)
    lab.save("gate_power", frame, chart(frame, "slower"))
    print(counts(frame, ["slower"]))
    print(frame.groupby("slower")[["change", "blocks", "first_s", "seconds"]].median())
    for slower, _, number, least, within in POWER:
        cell = frame[frame["slower"] == slower]
        found = (cell["status"] == "regression") & (cell["first_s"] <= within)
        assert found.sum() >= least * len(cell) / number, (slower, found.sum(), len(cell))


def test_two_processes() -> None:
    rows = [
        *gates(apart, 0.0, 0.05, times(60))[0],
        *gates(apart, 0.05, 0.05, times(40))[0],
    ]
    frame = pd.DataFrame(rows)
    lab.save("gate_apart", frame, chart(frame, "slower"))
    print(counts(frame, ["slower"]))
    print(frame.groupby("slower")[["change", "blocks", "first_s"]].describe().T.to_string())
    same, slow = frame[frame["slower"] == 0.0], frame[frame["slower"] == 0.05]
    assert (same["status"] == "regression").sum() == 0
    found = (slow["status"] == "regression") & (slow["first_s"] <= 15.0)
    assert found.sum() >= 0.9 * len(slow)


#: Keeps a core busy for a while now and then, so that it starts or ends in the midst of most gates.
_COMES_AND_GOES = """
import random, time
while True:
    time.sleep(random.uniform(0.5, 2.0))
    end = time.perf_counter() + random.uniform(0.5, 2.0)
    while time.perf_counter() < end:
        pass
"""

HOGS: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "half a core, 0.1 s": lambda: lab.hog(0.1),
    "half a core, 1 s": lambda: lab.hog(1.0),
    "memory": lambda: lab.beside(_MEMORY_HOG),
    "starts midway": lambda: lab.beside(_COMES_AND_GOES),
}


def test_disturbed_machines(executor: LocalExecutor) -> None:
    rows = []
    for name, disturbance in HOGS.items():
        with disturbance():
            rows += gates(partial(together, executor), 0.0, 0.05, times(60), hog=name)[0]
            rows += gates(partial(together, executor), 0.10, 0.05, times(40), hog=name)[0]
    frame = pd.DataFrame(rows)
    frame["cell"] = frame["hog"] + ", " + frame["slower"].map("{:.0%} slower".format)
    lab.save("gate_disturbed", frame, chart(frame, "cell"))
    print(counts(frame, ["hog", "slower"]))
    for name in HOGS:
        same = frame[(frame["hog"] == name) & (frame["slower"] == 0.0)]["status"]
        slow = frame[(frame["hog"] == name) & (frame["slower"] > 0.0)]["status"]
        assert (same == "regression").sum() == 0, name
        assert (slow == "regression").sum() >= 38 / 40 * len(slow), name
        assert (slow == "pass").sum() <= 1 / 40 * len(slow), name


def test_the_bias_between_processes(executor: LocalExecutor) -> None:
    """What the self-test finds here for one process and for two."""
    pair = ladder_pair(0.0, 0.05)
    rows = []
    for name, made in (("together", together(executor, pair)), ("apart", apart(pair))):
        for repeat in range(times(6)):
            found = measure_bias(made, seed=10 * repeat)
            assert not isinstance(found, Failure), found
            rows += [
                {"contest": name, "repeat": repeat, "estimate": y, "error": e, "bias": bias(found)} for y, e in found
            ]
    frame = pd.DataFrame(rows)
    lab.save("gate_bias", frame, alt.Chart(frame).mark_tick().encode(x="estimate:Q", y="contest:N"))
    print(frame.groupby("contest")[["estimate", "error", "bias"]].describe().T.to_string())
    assert frame.groupby("contest")["bias"].median().max() < 0.025 / BIAS_FACTOR
