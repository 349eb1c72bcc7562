"""What a training step is made of, whether an epoch can be predicted, and what the paper says of training.

The first two want a quiet machine. Each leaves a CSV in results/studies/; the third one is the command

    profiler run tests/studies/claim.toml --out results/claim

and the table of the rows that it compares.
"""

from __future__ import annotations

import csv
import statistics
import subprocess
import sys
import time
from pathlib import Path

from profiler import backends
from profiler.backends.base import Placement, Trainer
from profiler.machine.cache import cache_folder
from profiler.measure import training
from profiler.measure.visit import Task, visit
from profiler.models import source
from profiler.records.epoch import epoch_time
from profiler.records.types import Budget, Case, Epoch, Feed
from profiler.run.child import Limits
from profiler.run.processes import LocalExecutor
from tests.studies import lab

ROOT = Path(__file__).parents[2]
MODELS = ("regnety_200mf", "regnety_400mf", "regnetz_500mf", "regnetx_400mf", "efficientnet_b0", "resnet50")
#: Columns of the comparison.
COMPARED = (
    "model", "scaling", "flops", "params", "acts", "mode", "batch", "threads", "latency_ms", "latency_ci_low_ms",
    "latency_ci_high_ms", "forward_ms", "backward_ms", "optimizer_ms", "peak_memory_bytes", "epoch_compute_s",
    "epoch_s", "epoch_measured_s", "epoch_error", "loader_ms", "loader_workers", "status", "reason",
)  # fmt: skip


def case(model: str, batch: int) -> Case:
    return Case(model, "", 1.0, "eager", Placement(), batch=batch, mode="train")


# --- parts ------------------------------------------------------------


def steps_whole_and_in_parts(asked: Case) -> list[tuple[int, dict[str, int]]]:
    """Return 20 pairs of (a whole step, the parts of the next one), in nanoseconds, from one process."""
    found, backend = source.load_model(asked.asked()), backends.get(asked.backend)
    assert isinstance(backend, Trainer)
    one = Budget(visit_s=1e-9, min_samples=1)
    pairs = []
    with backend.train(found.model, found.inputs, asked.placement) as session:
        for _ in range(3):
            session.run()
        for _ in range(20):
            start = time.perf_counter_ns()
            session.run()
            session.sync()
            whole = time.perf_counter_ns() - start
            pairs.append((whole, {name: ns for name, (ns,) in training.time_parts(session, one).items()}))
    return pairs


def test_the_parts_of_a_step_add_up_to_the_whole(executor: LocalExecutor) -> None:
    rows = []
    for model in MODELS[:3]:
        pairs = executor.call(steps_whole_and_in_parts, case(model, 8), 600.0, Limits())
        assert isinstance(pairs, list), pairs
        whole = statistics.median(ns for ns, _ in pairs)
        parts = {f"{name}_ns": statistics.median(times[name] for _, times in pairs) for name in pairs[0][1]}
        # Neighbours in time: what disturbs one step disturbs the other.
        off = statistics.median(sum(times.values()) / ns - 1 for ns, times in pairs)
        rows.append({"model": model, "whole_ns": whole, **parts, "off": round(off, 5)})
    lab.save_rows("training_parts", rows)
    assert max(abs(row["off"]) for row in rows) <= 0.02, rows


# --- epochs ------------------------------------------------------------


def test_an_epoch_is_predicted_within_five_percent(executor: LocalExecutor) -> None:
    rows = []
    for model in MODELS:
        for batch in (8, 16):
            asked = case(model, batch)
            budget = Budget(visit_s=5.0, timeout_s=900.0)
            task = Task(asked, budget, None, cache_folder(), "epoch", Feed(workers=0))
            found = executor.call(visit, task, budget.timeout_s, Limits())
            assert isinstance(found, Epoch), found
            told = epoch_time(found, asked.placement, batch)
            rows.append(
                {
                    "model": model, "batch": batch, "workers": found.workers, "predicted_s": told.predicted_s,
                    "measured_s": told.measured_s, "loader_ms": told.loader_ns / 1e6, "error": round(told.error, 4),
                }
            )  # fmt: skip
    lab.save_rows("epoch", rows)
    assert max(abs(row["error"]) for row in rows) <= 0.05, rows


# --- the paper's claim ------------------------------------------------------------


def test_regnety_16gf_beside_efficientnet_b4() -> None:
    folder = ROOT / "results" / "claim"
    done = subprocess.run(
        [sys.executable, "-m", "profiler", "run", "tests/studies/claim.toml", "--out", str(folder), "--resume"],
        check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0
    with (folder / "cases.csv").open(newline="", encoding="utf-8") as file:
        rows = [{name: row[name] for name in COMPARED} for row in csv.DictReader(file)]
    lab.save_rows("claim", rows)
    assert len(rows) == 4
    assert all(row["latency_ms"] and row["peak_memory_bytes"] for row in rows), rows
    assert all(row["epoch_s"] for row in rows if row["mode"] == "train"), rows
