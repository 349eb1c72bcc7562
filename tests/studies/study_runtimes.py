"""Every runtime on eight models against eager; two of them against their own tools; and eight compilations of one.

What takes minutes to make (exports, what torch.compile makes) is kept by content, so a second go is quick; it is made
before anything is timed. ``PROFILER_STUDY_SCALE`` is a part of the rounds, as 0.1, for a first look.
"""

from __future__ import annotations

import math
import os
import random
import re
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from profiler.api import run_plan
from profiler.backends import get, onnx_quantize
from profiler.backends.base import LayerTimed, Placement
from profiler.machine.cache import cache_folder
from profiler.measure.ahead import make_ahead
from profiler.measure.visit import Task, visit
from profiler.models import source
from profiler.models.loaded import Asked
from profiler.plan.read import from_flags
from profiler.records import table
from profiler.records.disturbance import quiet_level
from profiler.records.estimate import visit_estimate
from profiler.records.nominal import Calibration
from profiler.records.reading import Run, read
from profiler.records.types import Budget, Case, Measurement
from profiler.run.processes import LocalExecutor
from tests.studies import lab, runtimes_table

SCALE = float(os.environ.get("PROFILER_STUDY_SCALE", "1"))
HERE = Path(__file__).parent
BROUGHT = {f"{HERE / 'brought.py'}:{name}": name for name in ("bert", "vit", "lstm", "unet")}
MODELS = {name: name for name in ("regnety_400mf", "regnetz_500mf", "efficientnet_b0", "resnet50")} | BROUGHT
INT8 = ("onnxruntime:quantize=dynamic", "onnxruntime:quantize=static")
BACKENDS = ("eager", "torchscript", "compile", "onnxruntime", "openvino", *INT8)
THREADS = (1, 2)
#: Visits of each case.
ROUNDS = 2
#: Examples over which int8 is compared with fp32.
EXAMPLES = 16
QUANTISING = (*INT8, "openvino:quantize=static", "eager:quantize=dynamic")
#: Seconds of pairs of our measurement and that of a runtime's own tool, for each model and runtime.
TOOLS_S = 90
COMPILATIONS, VISITS = 8, 4
#: Half of what a visit takes without it is its warm-up.
SHORT: dict[str, Any] = {"visit_s": "0.2s", "warmup_s": "0.3s", "min_samples": 3}


#: Model, backend, threads.
Cell = tuple[str, str, int]


def scaled(number: int, least: int = 2) -> int:
    return max(least, round(number * SCALE))


def ratio(logs: Sequence[float]) -> tuple[float, float, float]:
    if len(logs) < 2:
        return (math.exp(logs[0]) if logs else math.nan), math.nan, math.nan
    half = float(stats.t.ppf(0.975, len(logs) - 1)) * stdev(logs) / math.sqrt(len(logs))
    return math.exp(fmean(logs)), math.exp(fmean(logs) - half), math.exp(fmean(logs) + half)


def by_round(run: Run) -> dict[Cell, dict[int, float]]:
    """Return ns of a forward by model, backend and threads, in each round."""
    found = {}
    for records in run.by_case.values():
        good = [(one.round, one.outcome) for one in records if isinstance(one.outcome, Measurement)]
        if good:
            case, level = records[0].case, quiet_level([outcome for _, outcome in good])
            times = {number: visit_estimate(outcome, level).normalised_ns for number, outcome in good}
            found[case.model, case.backend, case.placement.threads] = times
    return found


def pooled(cells: Mapping[Cell, Sequence[float]]) -> dict[Cell, tuple[float, float, float]]:
    """Return the ratio of each cell with the ends of its 95% interval, from logarithms of ratios of paired visits.

    Visits of a cell are few, so their spread is that of all cells with as many threads, pooled: what differs between
    fresh processes is the machine's doing. Student's t with the degrees of freedom of all of them.
    """
    found = {}
    for threads in THREADS:
        group = {cell: logs for cell, logs in cells.items() if cell[2] == threads and logs}
        freedom = sum(len(logs) - 1 for logs in group.values())
        squares = sum((log - fmean(logs)) ** 2 for logs in group.values() for log in logs)
        for cell, logs in group.items():
            half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(squares / freedom / len(logs))
            found[cell] = math.exp(fmean(logs)), math.exp(fmean(logs) - half), math.exp(fmean(logs) + half)
    return found


def compared(run: Run) -> pd.DataFrame:
    """Return a row for each case, with how many times as fast as eager it is over the rounds that have both."""
    times = by_round(run)
    logs = {}
    for model, backend, threads in times:
        mine, eager = times[model, backend, threads], times.get((model, "eager", threads), {})
        both = sorted(mine.keys() & eager.keys())
        logs[model, backend, threads] = [math.log(eager[number] / mine[number]) for number in both]
    speed = pooled({cell: found for cell, found in logs.items() if cell[1] != "eager"})
    kept = ["latency_ms", "latency_ci_low_ms", "latency_ci_high_ms", "visits", "parity", "relative_error", "cosine"]
    kept += ["export_s", "compile_s", "load_s", "first_ms", "steady_after", "model_bytes", "backend_version"]
    rows = []
    for row in table.rows(run):
        cell = str(row["model"]), str(row["backend"]), int(row["threads"] or 0)
        ends = dict(zip(("speed_up", "speed_up_low", "speed_up_high"), speed.get(cell, (None,) * 3), strict=True))
        place = {"model": MODELS[cell[0]], "backend": cell[1], "threads": cell[2]}
        rows.append(place | ends | {name: row[name] for name in kept} | {"status": row["status"]})
    return pd.DataFrame(rows)


def kept(name: str, made: pd.DataFrame, *keys: str) -> pd.DataFrame:
    """Put rows into ``name``.csv, in place of those with the same ``keys``, and the tables of the page anew."""
    path = lab.RESULTS / f"{name}.csv"
    if path.exists():
        old = pd.read_csv(path)
        anew = set(map(tuple, made[list(keys)].astype(str).to_numpy()))
        made = pd.concat([old[[tuple(row) not in anew for row in old[list(keys)].astype(str).to_numpy()]], made])
    order = {name: place for place, name in enumerate(MODELS.values())}
    if "model" in keys:
        made = made.sort_values("model", key=lambda names: names.map(order), kind="stable")
    made.to_csv(path, index=False, float_format="%.5g")
    runtimes_table.write()
    return made


def test_every_runtime_against_eager(tmp_path: Path) -> None:
    """``PROFILER_STUDY_BACKENDS`` names some of ``BACKENDS`` that are measured anew beside eager, with ; between."""
    some = tuple(filter(None, os.environ.get("PROFILER_STUDY_BACKENDS", "").split(";")))
    asked = {"models": list(MODELS), "backends": ["eager", *some] if some else list(BACKENDS), "threads": list(THREADS)}
    run_plan(from_flags(**asked, rounds=scaled(ROUNDS), **SHORT), out=tmp_path / "run")
    made = compared(read(tmp_path / "run"))
    kept("runtimes", made[made["backend"] != "eager"] if some else made, "model", "backend", "threads")
    print(runtimes_table.speed_ups())
    floats = made[~made["backend"].isin(INT8)]  # how near int8 is, the next study says
    assert set(floats["status"]) <= {"ok", "unstable"}, floats.to_string()
    assert floats["parity"].max() <= 1e-3


def shares(case: Case) -> dict[str, float | str]:
    """Return what nodes that compute in int8 and that only convert have of the time of all, and which have most."""
    loaded = source.load_model(case.asked(cache_folder()))
    backend = get(case.backend)
    assert isinstance(backend, LayerTimed)
    spent = Counter[str]()
    for layer in backend.layer_times(loaded.model, loaded.inputs, case.placement, 20).layers:
        spent[layer.operator.rpartition("::")[2]] += median(layer.ns)
    kinds = {"int8": onnx_quantize._in_int8, "converting": onnx_quantize._CONVERTING.__contains__}
    found = {
        f"time_{name}": sum(ns for kind, ns in spent.items() if of(kind)) / spent.total() for name, of in kinds.items()
    }
    most = ", ".join(f"{kind} {ns / spent.total():.0%}" for kind, ns in spent.most_common(4))
    return {**found, "time_most": most}


@pytest.mark.parametrize("model", MODELS, ids=MODELS.get)
def test_how_near_int8_is_and_what_computes_in_it(model: str, tmp_path: Path, executor: LocalExecutor) -> None:
    """Agreement is that of a batch, the shares of the nodes' own time that of one example."""
    asked = {"models": model, "backends": list(QUANTISING), "threads": 1, "batches": EXAMPLES}
    frame = run_plan(from_flags(**asked, rounds=1, **SHORT | {"visit_s": "20ms"}), out=tmp_path / "run")
    facts = {
        one.case.backend: one.outcome.facts
        for one in read(tmp_path / "run").records
        if isinstance(one.outcome, Measurement)
    }
    names = ["relative_error", "cosine", "top1_agreement", "top1_inputs", "status", "reason"]
    rows = []
    for _, row in frame.iterrows():
        told = facts.get(row["backend"], {})
        nodes = {name: told.get(name) for name in ("nodes_int8", "nodes_float", "nodes_converting", "precision_note")}
        case = Case(model, "", 1.0, row["backend"], Placement(threads=1))
        timed = row["backend"].startswith("onnxruntime") and told
        spent = lab.call(executor, shares, case) if timed else {}
        place = {"model": MODELS[model], "backend": row["backend"]}
        rows.append(place | {name: row[name] for name in names} | nodes | spent)
    kept("runtimes_int8", pd.DataFrame(rows), "model", "backend")
    print(runtimes_table.agreement())


# --- Against the runtimes' own tools ---------------------------------------------------------------------------------


def exported(name: str, folder: Path) -> Path:
    """Write a model of ``MODELS`` as ONNX, by torch's own exporter alone."""
    import torch

    loaded, path = source.load_model(Asked(name)), folder / f"{MODELS[name]}.onnx"
    assert loaded.model.module is not None
    example = tuple(torch.from_numpy(array) for array in loaded.inputs.args)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(loaded.model.module().eval(), example, str(path), dynamo=False, opset_version=17)
    return path


def benchmark_app(path: Path, threads: int) -> float:
    """Return the median of OpenVINO's own benchmark_app, in ns."""
    call = "import sys; from openvino.tools.benchmark.main import main; sys.exit(main())"
    placed = ["-hint", "none", "-nstreams", "1", "-nthreads", str(threads), "-pin", "NO", "-infer_precision", "f32"]
    command = [sys.executable, "-c", call, "-m", str(path), "-api", "sync", *placed, "-t", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    [median] = re.findall(r"Median: +([\d.]+) ms", done.stdout)
    return float(median) * 1e6


_BARE = """
import sys, time, statistics
import numpy as np
import onnxruntime as ort
path, threads, given = sys.argv[1], int(sys.argv[2]), np.load(sys.argv[3])
options = ort.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
feed = {session.get_inputs()[0].name: given}
for _ in range(10):
    session.run(None, feed)
times, end = [], time.perf_counter() + 1
while time.perf_counter() < end:
    start = time.perf_counter_ns()
    session.run(None, feed)
    times.append(time.perf_counter_ns() - start)
print(statistics.median(times))
"""


def bare_session(path: Path, threads: int) -> float:
    """Return the median of a plain loop over ``InferenceSession.run``, in ns."""
    given = path.with_suffix(".npy")
    np.save(given, next(iter(source.load_model(Asked(str(path))).inputs.arrays.values())))
    command = [sys.executable, "-c", _BARE, str(path), str(threads), str(given)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


TOOLS: dict[str, Callable[[Path, int], float]] = {"openvino": benchmark_app, "onnxruntime": bare_session}


@pytest.fixture(scope="module")
def calibrated() -> Iterator[dict[int, Calibration]]:
    local = LocalExecutor()
    yield lab.calibrations(local, THREADS)
    local.close()


@pytest.mark.parametrize("runtime", TOOLS)
@pytest.mark.parametrize("name", ["regnety_400mf", "bert"])
def test_a_runtime_against_its_own_tool(
    name: str, runtime: str, tmp_path: Path, executor: LocalExecutor, calibrated: dict[int, Calibration]
) -> None:
    """Pairs of one measurement by each, in either order, for ``TOOLS_S``; a network that runs on its own is another."""
    pytest.importorskip(runtime)
    path = exported(next(model for model in MODELS if MODELS[model] == name), tmp_path)
    draw, rows, end = random.Random(0), list[dict[str, Any]](), time.monotonic() + TOOLS_S * SCALE
    while time.monotonic() < end or len(rows) < 2 * len(THREADS):
        threads = THREADS[len(rows) % len(THREADS)]
        case = Case(str(path), "", 1.0, runtime, Placement(threads=threads))
        row: dict[str, Any] = {"model": name, "backend": runtime, "threads": threads, "pair": len(rows)}
        for way in draw.sample(["ours", "theirs"], 2):
            if way == "theirs":
                row["theirs_ms"] = TOOLS[runtime](path, threads) / 1e6
                continue
            made = visit_estimate(lab.call(executor, lab.ours, lab.Job(case, 1.5, calibrated[threads])))
            row |= {"ours_ms": made.normalised_ns / 1e6, "raw_ms": made.raw_ns / 1e6}
        rows.append(row)
        frame = pd.DataFrame(rows)
        kept("runtimes_tools", frame, "model", "backend", "threads")
    print(runtimes_table.tools())
    logs = np.log(frame["raw_ms"] / frame["theirs_ms"])
    for threads, part in logs.groupby(frame["threads"]):
        _, low, high = ratio(list(part))
        assert max(low, 1 / high) <= 1.02, f"{threads} threads: [{low:.3f}, {high:.3f}]"


# --- Compiled eight times --------------------------------------------------------------------------------------------


def test_eight_compilations_agree(executor: LocalExecutor) -> None:
    """What was compiled in an earlier go is taken as it is: the visits alone want a quiet machine."""
    [name] = [name for name in MODELS if MODELS[name] == "unet"]
    case = Case(name, "", 1.0, "compile", Placement(threads=1))
    folders = [cache_folder() / "study_compilations" / str(number) for number in range(COMPILATIONS)]
    budget = Budget(visit_s=0.5, warmup_s=0.5, min_samples=3)
    for folder in folders:
        assert lab.done(executor.call(make_ahead, Task(case, budget, None, folder), 3600.0, lab.NO_LIMITS)) is True
    calibration = lab.calibrations(executor, (1,))[1]
    draw, rows = random.Random(0), []
    for number in range(scaled(VISITS)):
        for compilation in draw.sample(range(COMPILATIONS), COMPILATIONS):
            found = lab.call(executor, visit, Task(case, budget, calibration, folders[compilation], energy=False))
            assert found.facts["cached"] is True
            ms = visit_estimate(found).normalised_ns / 1e6
            compile_s = found.facts["compile_s"]
            rows.append({"compilation": compilation, "visit": number, "ms": ms, "compile_s": compile_s})
        frame = pd.DataFrame(rows)
        kept("runtimes_compiled", frame, "compilation", "visit")
    print(runtimes_table.compiled())
    groups = [np.log(part["ms"]) for _, part in frame.groupby("compilation")]
    assert stats.f_oneway(*groups).pvalue > 0.01, frame.pivot_table(values="ms", index="compilation", columns="visit")
