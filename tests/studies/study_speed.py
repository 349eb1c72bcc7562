"""What a visit costs beside its timed samples, and whether the order of visits favours any case."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd

from profiler.records.reading import read
from profiler.report.summary import _seconds_in_samples
from profiler.run.processes import Isolation, LocalExecutor
from tests.studies import lab

ROOT = Path(__file__).parents[2]


def cost(isolation: Isolation, times: int) -> list[float]:
    """Return the wall time of processes that do nothing but have torch loaded, in seconds."""
    executor = LocalExecutor(isolation)

    def once() -> None:
        # The fork server has torch loaded; a spawned process has to load it.
        lab.call(executor, *((len, "x") if isolation == "forkserver" else (lab.ready, "torch")))

    once()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - start)
    executor.close()
    return seconds


def test_a_forked_visit_costs_a_tenth_of_a_spawned_one() -> None:
    rows = [{"isolation": how, "seconds": s} for how, n in (("forkserver", 20), ("spawn", 6)) for s in cost(how, n)]  # type: ignore[arg-type]
    frame = pd.DataFrame(rows)
    plot = (
        alt.Chart(frame)
        .mark_tick(thickness=2)
        .encode(x=alt.X("seconds:Q", scale=alt.Scale(type="log")), y="isolation:N")
    )
    lab.save("process_cost", frame, plot.properties(width=420))
    typical = frame.groupby("isolation")["seconds"].median()
    print(typical)
    assert typical["forkserver"] <= 0.1
    assert typical["forkserver"] <= typical["spawn"] / 10


def test_quick_spends_its_time_measuring(tmp_path: Path) -> None:
    """The second of two runs counts: the first one also exports, compiles and calibrates, once per machine."""
    rows = []
    for number in (1, 2):
        folder = tmp_path / f"quick-{number}"
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "profiler", "run", "quick", "--out", folder], cwd=ROOT, check=True)
        wall = time.perf_counter() - start
        models, reference = _seconds_in_samples(read(folder).records)
        rows.append({"run": number, "wall_s": wall, "models_s": models, "reference_s": reference})
    frame = pd.DataFrame(rows)
    frame["share_of_wall"] = (frame["models_s"] + frame["reference_s"]) / frame["wall_s"]
    lab.save("quick_share", frame, alt.Chart(frame).mark_bar().encode(x="share_of_wall:Q", y="run:N"))
    print(frame.to_string())
    assert frame["wall_s"].max() < 300
    assert frame["share_of_wall"].iloc[1] >= 0.6


def test_a_slow_down_during_a_run_favours_no_case() -> None:
    """Replays a machine that gets 20% slower, linearly, over 30 cases and 5 rounds, without a reference to divide."""
    draw = np.random.default_rng(0)
    spread = 0.01
    rows = []
    for seed in range(50):
        order = np.concatenate([draw.permutation(30) for _ in range(5)])
        slow = 1 + 0.2 * np.arange(150) / 149
        logs = np.log(slow) + draw.normal(0, spread, 150)
        # "in turn" is what happens without rounds: the five visits of a case one after the other.
        rows += [
            {
                "seed": seed,
                "case": case,
                "rounds": np.exp(logs[order == case].mean()),
                "in_turn": np.exp(logs[case * 5 : case * 5 + 5].mean()),
            }
            for case in range(30)
        ]
    frame = pd.DataFrame(rows)
    bias = frame.groupby("case")[["rounds", "in_turn"]].mean()
    bias = bias / bias.mean() - 1
    lab.save(
        "order",
        frame,
        alt.Chart(frame).mark_tick().encode(x=alt.X("rounds:Q", scale=alt.Scale(zero=False)), y="case:O"),
    )
    print(bias.abs().max())
    assert bias["rounds"].abs().max() <= 0.01
    assert bias["in_turn"].abs().max() > 0.05
