"""Whether the times of layers can be believed: they repeat, find what was inserted, and stay below the machine's peaks.

``python -m pytest tests/studies/study_layers.py``; the runtimes that are not installed are left out.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from statistics import fmean, median

import numpy as np
import pytest

from profiler import backends
from profiler.analysis.by_layers import layered_errors
from profiler.analysis.cost_model import cost_models
from profiler.analysis.layer_costs import in_place
from profiler.analysis.layer_file import costs_frame, read_costs
from profiler.analysis.layers import Explanation, explained
from profiler.analysis.nonnegative import mape
from profiler.analysis.quantity import Quantity
from profiler.backends.base import Placement
from profiler.measure.layers import Traced
from profiler.measure.peaks import Peaks, PeaksTask, best_of, measure_peaks
from profiler.records.columns import Row
from profiler.records.estimate import visit_estimate
from profiler.records.types import Case, now
from profiler.run.explaining import traced_by
from profiler.run.processes import LocalExecutor
from tests import ROOT
from tests.studies import inserted, lab

PLACE = Placement(threads=1)
CELLS = [*itertools.product(("regnety_400mf", "resnet50", "efficientnet_b0"), ("eager", "onnxruntime", "openvino"))]
FORETOLD = (
    "regnety_200mf,regnety_400mf,regnety_600mf,regnetx_200mf,regnetx_400mf,regnetx_600mf,efficientnet_b0,efficientnet_b1,"
    "regnetz_500mf,resnet50,resnext50"
)
#: Layers that agree from here on, and by how much, in parts of the latency.
LARGE, POINT = 0.05, 0.01
#: In s.
LATENCY, TURNS = 1.0, 12
EDGE, BYTES = 1024, 1 << 28
#: Before any process of the studies starts: numpy's product is to run on one thread, as ours.
os.environ["OPENBLAS_NUM_THREADS"] = "1"


@dataclass(frozen=True, slots=True)
class Cell:
    """A network on a backend: its latency in ms, what two processes said of its layers, and both together."""

    network: str
    backend: str
    traces: list[Traced]
    one: Explanation
    endpoint: float = 1.0


def endpoint(values: Sequence[float], doubt: float = 0.05) -> float:
    """How many times the greatest value the true maximum may be, in 95 of 100 (Robson and Whitlock 1964)."""
    *_, second, first = sorted(values)
    return 1 + (1 - doubt) / doubt * (first - second) / first


def case_of(network: str, backend: str) -> Case:
    return Case(network, "", 1.0, backend, PLACE)


def measured_peaks(executor: LocalExecutor) -> Peaks:
    found: Peaks = lab.call(executor, measure_peaks, PeaksTask(PLACE, now()))
    return found


def latency_ms(case: Case, executor: LocalExecutor) -> float:
    measurement = lab.call(executor, lab.ours, lab.Job(case, LATENCY))
    return visit_estimate(measurement).raw_ns / 1e6


@pytest.fixture(scope="module")
def cells(executor: LocalExecutor) -> list[Cell]:
    """Every cell, under the best peaks that were measured before, between and after, as the program keeps them."""
    made, each = list[Cell](), [measured_peaks(executor)]
    for network, backend in CELLS:
        if backends.get(backend).unavailable(PLACE) is None:
            case = case_of(network, backend)
            ms = fmean(latency_ms(case, executor) for _ in range(2))
            traces = traced_by(case, ms, executor, processes=2)
            row: Row = {"model": network, "backend": backend, "threads": 1, "batch": 1}
            made.append(Cell(network, backend, traces, explained(row, Quantity(ms), traces, None)))
            each.append(measured_peaks(executor))
    peaks, above = reduce(best_of, each), endpoint([one.flops_per_s for one in each])
    return [
        replace(one, one=explained(one.one.row, one.one.latency, one.traces, peaks), endpoint=above) for one in made
    ]


def test_shares_agree_between_two_processes(cells: list[Cell]) -> None:
    rows = [
        {
            "network": cell.network,
            "backend": cell.backend,
            "layer": layer.name,
            "operator": layer.operator,
            "share": layer.share,
            "least": layer.shares[0],
            "most": layer.shares[1],
        }
        for cell in cells
        for layer in cell.one.layers
        if layer.shares and layer.share >= 0.01
    ]
    lab.save_rows("layers_repeat", rows)
    apart = [float(row["most"]) - float(row["least"]) for row in rows if float(row["share"]) >= LARGE]  # type: ignore[arg-type]
    print(f"{len(apart)} layers over 5%: apart by {median(apart):.4f} in the median, at most {max(apart):.4f}")
    assert max(apart) <= POINT


def test_what_tracing_costs(cells: list[Cell]) -> None:
    rows = [
        {
            "network": cell.network,
            "backend": cell.backend,
            "latency_ms": cell.one.latency.value,
            "layers": len(cell.one.layers),
            "forward_over_latency": cell.one.tracing,
            "layers_over_latency": cell.one.inflation,
        }
        for cell in cells
    ]
    lab.save_rows("layers_tracing", rows)
    for row in rows:
        print(row)
    assert all(sum(layer.share for layer in cell.one.layers) == pytest.approx(1) for cell in cells)


def test_no_layer_is_above_the_roof(cells: list[Cell]) -> None:
    """By more than both intervals: its time is the longest that a process said, the peak the highest it may be."""
    rows = []
    for cell in cells:
        for layer in cell.one.layers:
            most = layer.shares[1] * cell.one.latency.value if layer.shares else layer.latency_ms
            if layer.roof_ms is not None and layer.share >= 0.01 and most > 0:
                where = {"network": cell.network, "backend": cell.backend, "layer": layer.name}
                rows.append(
                    where
                    | {
                        "bound": layer.bound,
                        "of_roof": layer.roof_ms / most,
                        "peak_up_to": cell.endpoint if layer.bound == "compute" else 1.0,
                    }
                )
    rows.sort(key=lambda row: -float(row["of_roof"]))  # type: ignore[arg-type]
    lab.save_rows("layers_roof", rows)
    above = [row for row in rows if float(row["of_roof"]) > float(row["peak_up_to"])]  # type: ignore[arg-type]
    print(f"{len(above)} of {len(rows)} layers above the roof and its interval; the nearest:", *rows[:5], sep="\n")
    assert not above


@pytest.mark.parametrize("backend", ["eager", "onnxruntime"])
def test_an_inserted_convolution_is_recovered(executor: LocalExecutor, backend: str) -> None:
    """Its time by layer, beside what the latency grew by when it was inserted, turn by turn in the median."""
    names = {way: f"tests.studies.inserted:{way}" for way in ("plain", "more")}
    cases = {way: case_of(name, backend) for way, name in names.items()}
    told: dict[str, list[float]] = {"plain": [], "more": []}
    for _ in range(TURNS):
        for way, case in cases.items():
            told[way].append(latency_ms(case, executor))
    grown = median(more - plain for plain, more in zip(told["plain"], told["more"], strict=True))
    ms = median(told["more"])
    one = explained({}, Quantity(ms), traced_by(cases["more"], ms, executor, processes=2), None)
    found = sum(layer.latency_ms for layer in one.layers if layer.name.startswith(inserted.LAYER))
    row = {"backend": backend, "plain_ms": median(told["plain"]), "more_ms": ms, "grown_ms": grown, "layer_ms": found}
    lab.save_rows(f"layers_inserted_{backend}", [row])
    print(row, f"recovered {found / grown:.3f}")
    assert found == pytest.approx(grown, rel=0.1)


def plain_peaks(_: object) -> tuple[float, float]:
    """Return multiply-adds per second of numpy's product, and bytes per second read and written by its copy."""
    a, b = np.ones((2, EDGE, EDGE), np.float32)
    source, target = np.ones((2, BYTES // 8), np.float32)
    product, copy = (min(_seconds(run) for _ in range(8)) for run in (lambda: a @ b, lambda: np.copyto(target, source)))
    return EDGE**3 / product, BYTES / copy


def _seconds(run: object) -> float:
    begin = time.perf_counter()
    run()  # type: ignore[operator]
    return time.perf_counter() - begin


def test_peaks_are_those_of_a_plain_product_and_a_plain_copy(executor: LocalExecutor) -> None:
    """By turns on the same core, the best of each; numpy brings a BLAS of its own and copies as STREAM does.

    A BLAS may leave half of each vector unused where convolutions do not: the peak is no less, and may be more.
    """
    plain, best = list[tuple[float, float]](), measured_peaks(executor)
    for _ in range(2):
        plain.append(lab.call(executor, plain_peaks, None))
        best = best_of(best, measured_peaks(executor))
    flops, copied = (max(column) for column in zip(*plain, strict=True))
    row = {
        "peak_flops_per_s": best.flops_per_s,
        "numpy_flops_per_s": flops,
        "peak_bytes_per_s": best.bandwidth(BYTES),
        "numpy_bytes_per_s": copied,
    }
    lab.save_rows("layers_peaks", [row])
    print(row)
    assert best.flops_per_s > 0.9 * flops
    assert best.bandwidth(BYTES) == pytest.approx(copied, rel=0.1)


def test_networks_left_out_are_foretold_by_layers(tmp_path: Path) -> None:
    """Small networks of six families, measured and traced as a user would; each left out, then each family."""
    run, costs = tmp_path / "run", tmp_path / "costs.json"
    measure = [
        "--backend",
        "eager,onnxruntime",
        "--threads",
        "1",
        "--visit",
        "250ms",
        "--rounds",
        "2",
        "--precision",
        "5%",
    ]
    for words in (["run", "--model", FORETOLD, *measure, "--out", run], ["explain", run, "--costs", costs]):
        subprocess.run([sys.executable, "-m", "profiler", *words], check=True, cwd=ROOT)
    networks, rows = read_costs(costs), []
    for left, strange in (("network", None), ("family", "none of these")):
        for whole in cost_models(costs_frame(networks), "latency_ms", strange)[0]:
            said, measured = layered_errors(in_place(networks, whole.group), by_family=strange is not None)
            errors = {"whole_networks": whole.typical, "by_layers": mape(said, measured)}
            rows.append({"backend": whole.group["backend"], "left_out": left, "networks": len(said)} | errors)
    lab.save_rows("layers_foretell", rows)
    print(*rows, sep="\n")
    assert all(row["by_layers"] <= 0.08 for row in rows)
