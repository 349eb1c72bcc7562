"""What a GPU's time follows from one fresh process to the next, and what beside it follows the same.

Parts that a reference could be made of are timed apart, beside four models, in fresh processes: on a quiet machine,
with a program that keeps the GPU busy half of the time, and with programs that want every core of the host. A part is
worth having in the reference where model over part spreads less than the model alone.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import altair as alt
import pandas as pd
import pytest

from profiler.backends.base import Placement
from profiler.records.types import Case
from profiler.run.examine import _device_reason
from profiler.run.processes import LocalExecutor
from tests.studies import lab

DEVICE = os.environ.get("PROFILER_DEVICE", "cuda:0")
PROCESSES = int(os.environ.get("PROFILER_PROCESSES", "10"))
TURNS, CALLS = 6, 3
MODELS = {
    "light b64": ("regnety_400mf", "eager", 64),
    "mobile b64": ("efficientnet_b0", "eager", 64),
    "light b1": ("regnety_400mf", "eager", 1),
    "light b1 graph": ("regnety_400mf", "eager:cuda_graph=1", 1),
}
LOADS = ("quiet", "half of the GPU", "all cores")

#: Keeps a GPU busy for half of every tenth of a second.
_GPU_HOG = """
import sys, time, torch
a = torch.rand(4096, 4096, device=sys.argv[1])
out = torch.empty_like(a)
while True:
    end = time.perf_counter() + 0.05
    while time.perf_counter() < end:
        torch.mm(a, a, out=out)
        torch.cuda.synchronize()
    time.sleep(0.05)
"""
_SPIN = "while True: pass"


def parts(device: str) -> dict[str, Callable[[], object]]:
    """Return what a reference could be made of; each call takes one to five milliseconds on a large GPU."""
    import torch
    from torch.nn import functional

    def rand(*size: int) -> torch.Tensor:
        return torch.rand(*size, device=device)

    def often(count: int, call: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            with torch.inference_mode():
                for _ in range(count):
                    call()

        return run

    (a, b), (c, d) = rand(2, 2048, 2048), rand(2, 1024, 1024)
    small, large = rand(4096), rand(64 << 20)
    x, dense, narrow = rand(64, 64, 56, 56), rand(64, 64, 3, 3), rand(64, 1, 3, 3)
    out, out_small = torch.empty_like(a), torch.empty_like(c)
    return {
        "product 2048": often(8, lambda: torch.mm(a, b, out=out)),
        "product 1024": often(40, lambda: torch.mm(c, d, out=out_small)),
        "small kernels": often(300, lambda: small.mul_(1.0)),
        "stream": often(12, lambda: large.mul_(1.0)),
        "convolution": often(12, lambda: functional.conv2d(x, dense, padding=1)),
        "depthwise": often(12, lambda: functional.conv2d(x, narrow, padding=1, groups=64)),
    }


def timed(seed: int) -> dict[str, list[float]]:
    """Return, for every part and model, the medians of its turns in ns; in a fresh process."""
    import torch

    from profiler.backends import devices

    with contextlib.ExitStack() as stack:
        calls = parts(DEVICE)
        for name, (network, backend, batch) in MODELS.items():
            case = Case(network, "", 1.0, backend, Placement(DEVICE), batch)
            session, _ = stack.enter_context(lab.session(lab.Job(case, 60.0)))
            calls[name] = session.run
        sync = partial(devices.synchronize, torch.device(DEVICE))
        draw, found = random.Random(seed), {name: [] for name in calls}
        for _ in range(TURNS + 1):
            for name in draw.sample(list(calls), len(calls)):
                calls[name]()
                sync()
                times = []
                for _ in range(CALLS):
                    start = time.perf_counter_ns()
                    calls[name]()
                    sync()
                    times.append(time.perf_counter_ns() - start)
                found[name].append(median(times))
        return {name: times[1:] for name, times in found.items()}  # the first turn warms up


@contextlib.contextmanager
def load(name: str) -> Iterator[None]:
    """Disturb the machine meanwhile."""
    with contextlib.ExitStack() as stack:
        if name == "half of the GPU":
            stack.enter_context(lab.beside(_GPU_HOG, DEVICE))
            time.sleep(4.0)
        if name == "all cores":
            for _ in range(os.cpu_count() or 1):
                stack.enter_context(lab.beside(_SPIN))
        yield


def collect(executor: LocalExecutor) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for name in LOADS:
        with load(name):
            for process in range(PROCESSES):
                for what, times in lab.call(executor, timed, process).items():
                    rows += [
                        {"load": name, "process": process, "what": what, "turn": turn, "ms": ns / 1e6}
                        for turn, ns in enumerate(times)
                    ]
    return pd.DataFrame(rows)


def spreads(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the CV over processes of each model alone and over each part, by load."""
    wide = frame.pivot_table("ms", ["load", "process", "turn"], "what")
    rows = []
    columns: list[str | None] = [None, *(name for name in wide if name not in MODELS)]
    for model, part in itertools.product(MODELS, columns):
        ratio = wide[model] / (wide[part] if part else 1.0)
        levels = ratio.groupby(["load", "process"]).median()
        cv = levels.groupby("load").std() / levels.groupby("load").mean()
        rows += [{"load": name, "model": model, "over": part or "nothing", "cv": value} for name, value in cv.items()]
    return pd.DataFrame(rows)


def chart(table: pd.DataFrame) -> alt.FacetChart:
    over, model = alt.Y("over:N", title="model over", sort=None), alt.Color("model:N", title=None)
    return lab.spread_chart(table, "spread over processes (CV)", over, model)


def test_what_a_gpu_follows() -> None:
    executor = LocalExecutor()
    _, reason, _ = lab.call(executor, _device_reason, DEVICE)
    if reason is not None:
        executor.close()
        pytest.skip(reason)
    frame = collect(executor)
    executor.close()
    table = spreads(frame)
    lab.save("device", frame, chart(table))
    shown = frame.groupby(["load", "what"])["ms"].agg(["median", "std"])
    print(shown.to_string())
    print(table.pivot_table("cv", ["load", "over"], "model", sort=False).to_string(float_format="{:.2%}".format))
    assert (frame["ms"] > 0).all()
    assert frame.groupby(["load", "process", "what"])["turn"].nunique().eq(TURNS).all()
    assert frame["load"].nunique() == len(LOADS)
