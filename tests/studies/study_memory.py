"""Is a peak of memory true, and does it repeat?

Four questions: a fake model that touches a known number of bytes in a process whose parent holds 500 MB; the same case
twice in fresh processes, for every case of the plan quick; a bound from below, parameters and the largest live set of
activations; and growth with the batch. Each leaves a CSV in results/studies/. Nothing here is timed.
"""

from __future__ import annotations

import multiprocessing
import statistics
from dataclasses import replace
from typing import Any

from profiler.backends.base import Placement
from profiler.machine.cache import cache_folder
from profiler.measure.visit import Task, visit
from profiler.plan.cases import expand
from profiler.plan.read import load
from profiler.records.types import Budget, Case, Memory
from profiler.run.child import Limits
from profiler.run.processes import LocalExecutor
from tests.studies import lab

MIB = 1 << 20
BACKENDS = ("eager", "torchscript", "onnxruntime")


def task(case: Case) -> Task:
    return Task(case, Budget(), None, cache_folder(), "memory")


def watched(executor: LocalExecutor, case: Case) -> Memory:
    """Return the peaks of ``case``, loaded from the cache where its backend has one."""
    for _ in range(2):
        found = executor.call(visit, task(case), 600.0, Limits())
        assert isinstance(found, Memory), found
        if case.backend == "eager" or found.facts["cached"]:
            break
    return found


def peak(found: Memory) -> int:
    return max(found.load_bytes["process"], found.run_bytes["process"])


# --- truth ------------------------------------------------------------


def child_of_a_large_parent(pipe: Any, asked: Task) -> None:
    pipe.send(visit(asked))


def forked_visit(case: Case) -> Memory:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=child_of_a_large_parent, args=(theirs, task(case)))
    child.start()
    found: Memory = ours.recv()
    child.join()
    return found


def test_known_bytes_in_the_child_of_a_large_parent() -> None:
    held = bytearray(b"x") * (500 * 1000 * 1000)
    rows = []
    for size in (0, MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB):
        for at in ("load", "run"):
            spec = f"fake:duration_ms=0.1,bytes={size},at={at}"
            found = forked_visit(Case("resnet50", "", 1.0, spec, Placement()))
            for phase, peaks in (("load", found.load_bytes), ("run", found.run_bytes)):
                # What is touched at load stays; what is touched at run is gone before the next run.
                truth = size if at == "load" or phase == "run" else 0
                rows.append({"at": at, "phase": phase, "bytes": truth, "measured": peaks["process"]})
    assert len(held) == 500 * 1000 * 1000
    lab.save_rows("memory_truth", [row | {"error": int(row["measured"]) - int(row["bytes"])} for row in rows])
    assert max(abs(row["measured"] - row["bytes"]) for row in rows) <= MIB, rows


# --- repeatability ------------------------------------------------------------


def test_every_case_of_quick_repeats_in_fresh_processes(executor: LocalExecutor) -> None:
    rows = []
    for case in expand(load("quick"), 1):
        first, second = (peak(watched(executor, case)) for _ in range(2))
        rows.append({"network": case.network, "backend": case.backend, "first": first, "second": second})
    lab.save_rows("memory_twice", rows)
    worst = [row for row in rows if abs(row["first"] - row["second"]) > max(MIB, 0.01 * row["first"])]
    assert not worst, worst


# --- bound and growth ------------------------------------------------------------


def live_bytes(case: Case) -> tuple[int, int]:
    """Return bytes of (parameters, largest input and output of one layer for one image), fp32."""
    import torch

    from profiler import models
    from profiler.models.build import _skeleton

    arch = models.resolve(case.model, case.scaling, case.factor)
    module, largest = _skeleton(arch), 0

    def hook(_: object, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal largest
        largest = max(largest, inputs[0].numel() + output.numel())

    for layer in module.modules():
        if not list(layer.children()):
            layer.register_forward_hook(hook)
    with torch.no_grad():
        module(torch.empty(1, 3, arch.resolution, arch.resolution, device="meta"))
    return 4 * sum(p.numel() for p in module.parameters()), 4 * largest


def test_a_peak_holds_parameters_and_activations_and_grows_with_the_batch(executor: LocalExecutor) -> None:
    rows, batches = [], (1, 8, 16, 32)
    for model in ("efficientnet_b0", "regnety_400mf", "resnet50"):
        for backend in BACKENDS:
            case = Case(model, "", 1.0, backend, Placement())
            params, live = live_bytes(case)
            peaks = [peak(watched(executor, replace(case, batch=batch))) for batch in batches]
            fit = statistics.linear_regression(batches, peaks)
            rows += [
                {
                    "model": model, "backend": backend, "batch": batch, "peak": found, "params": params,
                    "live_per_image": live, "slope": round(fit.slope), "slope_over_live": round(fit.slope / live, 2),
                    "r": round(statistics.correlation(batches, peaks), 5),
                }
                for batch, found in zip(batches, peaks, strict=True)
            ]  # fmt: skip
    lab.save_rows("memory_batch", rows)
    assert all(row["params"] + row["live_per_image"] * row["batch"] <= row["peak"] for row in rows), rows
    # Holds in 8 of the 9 cases of the kept table: ResNet-50 in TorchScript gives 0.957, for a reason not yet found.
    assert min(row["r"] for row in rows) >= 0.99, rows
