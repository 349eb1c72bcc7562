"""Runs in a process of its own, with the simulated accelerator loaded: what is measured beside and around a session.

Usage: ``python tests/measure/simulated.py LIBRARY``; prints one JSON object, name of the scenario -> what came out.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from profiler import backends
from profiler.backends import accelerator, devices
from profiler.backends.base import Model, Placement
from profiler.backends.inputs import Inputs
from profiler.gate import blocks
from profiler.measure import memory, reference, timing, warming
from profiler.records.types import Budget
from tests.backends.simulator import Simulator
from tests.backends.states import LEAKS, untouched

MS, MIB = 1_000_000, 1 << 20
#: Device times: a unit of the reference is one product and small kernels, a forward two convolutions and a layer.
PRODUCT, CONVOLUTION, LINEAR = 4 * MS, 5 * MS, 2 * MS
FORWARD = 2 * CONVOLUTION + LINEAR
TF32 = 4
PLACE, SECOND = Placement("sim:0", threads=1), Placement("sim:1", threads=1)
EXAMPLE = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
BUDGET = Budget(visit_s=0.3, warmup_s=0.1)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    return torch.nn.Sequential(*layers, torch.nn.Linear(4, 5))


MODEL = Model(key=None, module=network)


def calibrated(sim: Simulator) -> dict[str, float]:
    """The parts of a calibration, by the simulated clock."""
    repeats = reference.choose_repeats(PLACE, sim.clock)
    workload, model = reference.Reference(PLACE), reference.StandIn(PLACE)
    busy = sim.busy()
    model.run()
    stand_in = sim.busy() - busy
    calls = reference._sample_beside(model, workload, 0.05, timing.reference_settle_ns(1), None, sim.clock).times_ns
    return {"repeats": repeats, "call_ns": statistics.median(calls), "least_ns": min(calls), "stand_in_ns": stand_in}


def leaks(sim: Simulator) -> dict[str, dict[str, float]]:
    """A calibration in every state that a process may be in."""
    found = {}
    for name, leak in LEAKS.items():
        if "tf32" not in name and "matmul" not in name:
            continue
        with untouched():
            leak()
            found[name] = calibrated(sim)
    return found


def headline(backend: str, sim: Simulator) -> dict[str, float]:
    """A visit's time by the reference beside it, whose nominal time is the one that the simulator gives it."""
    with untouched(), backends.get(backend).load(MODEL, Inputs((EXAMPLE,)), PLACE) as session:
        workload = reference.Reference(PLACE)
        warmup = warming.warm_up(session, BUDGET, sim.clock)
        timed = timing.measure(session, workload, BUDGET, warmup.typical_ns, sim.clock)
        device_ns = session.device_ns(3)
    raw = statistics.median(ns / timed.calls_per_sample for block in timed.samples_ns for ns in block)
    beside = statistics.median(ns for block in timed.reference_ns for ns in block)
    return {"raw_ns": raw, "reference_ns": beside, "device_ns": statistics.median(device_ns)}


def energy(sim: Simulator) -> dict[str, float]:
    """What forwards are counted while energy is: those that were done in the time, not those that were submitted."""
    with backends.get("eager").load(MODEL, Inputs((EXAMPLE,)), PLACE) as session:
        start, end, calls = timing.repeat_for(session, 0.1, sim.clock)
    return {"forward_ns": (end - start) / calls}


class Types(torch.overrides.TorchFunctionMode):
    """Notes what products are made of."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function.__name__ == "mm":
            self.seen |= {f"{one.dtype} {one.device}" for one in args}
        return function(*args, **(kwargs or {}))


def precisions() -> dict[str, list[str]]:
    """What the reference multiplies, by the precision that it is the reference for."""
    found = {}
    for precision in ("fp32", "fp16", "bf16"):
        workload = reference.Reference(Placement("sim:1", precision, threads=1))
        with Types() as types:
            workload.run()
        found[precision] = sorted(types.seen)
    return found


def gate(sim: Simulator) -> dict[str, float]:
    """Two sides in one process, the one in TF32 and the other not."""
    in_tf32, in_fp32 = (backends.get(name).load(MODEL, Inputs((EXAMPLE,)), PLACE) for name in ("eager:tf32=1", "eager"))
    with untouched(), in_tf32 as old, in_fp32 as new:
        slots = [blocks.prepared(session, 1, sim.clock) for session in (old, new)]
        first, second, third, fourth = (statistics.median(slots[i]()) for i in (0, 1, 1, 0))
    return {"baseline_ns": max(first, fourth), "candidate_ns": min(second, third)}


def flushed(sim: Simulator) -> dict[str, float]:
    """Bytes of the device that are overwritten before each forward which is to find a cold cache."""
    with backends.get("eager:cold=1").load(MODEL, Inputs((EXAMPLE,)), PLACE) as session:
        before = sim.zeroed()
        session.device_ns(3)
        return {"bytes": (sim.zeroed() - before) / 3}


@contextmanager
def holding(size: int, place: Placement) -> Iterator[None]:
    held = torch.empty(size, dtype=torch.uint8, device=place.device)
    yield
    del held


class Spike:
    """A session whose load holds 3 MiB and whose forwards take 5 MiB more, for as long as they last."""

    def __init__(self, place: Placement) -> None:
        self._place = place

    def run(self) -> None:
        with holding(5 * MIB, self._place):
            pass

    def sync(self) -> None:
        pass

    def facts(self) -> dict[str, object]:
        return {}


def peaks(place: Placement) -> dict[str, dict[str, int]]:
    """Peaks of both phases on ``place``, while other things are held on both devices."""

    @contextmanager
    def load() -> Iterator[Spike]:
        with holding(64 * MIB, place):  # gone before the model is there
            pass
        with holding(3 * MIB, place):
            yield Spike(place)

    with holding(10 * MIB + 1, PLACE), holding(20 * MIB + 1, SECOND):
        found = memory.watch_peaks(load(), memory.gauges(place.device))
    return {"load": found.load_bytes, "run": found.run_bytes}


def second_device(sim: Simulator) -> dict[str, object]:
    """Everything on the second device, while the first one has work for a second to do."""
    a = torch.ones(2, 2, device=PLACE.device)
    sim.cost("aten::relu", 1000 * MS)
    torch.relu(a)
    start = sim.clock()
    with untouched(), backends.get("eager").load(MODEL, Inputs((EXAMPLE,)), SECOND) as session:
        device = torch.device(SECOND.device)
        workload = reference.Reference(SECOND)
        found = {
            "host_ns": timing.time_one(session, sim.clock),
            "device_ns": session.device_ns(3),
            "reference_ns": timing.reference_block(workload, sim.clock, settle_ns=0),
            "cold_bytes_on": str(accelerator.flusher(device).run.__self__.device),
            "name": devices.device_name(device),
        }
        with accelerator.own_stream(device) as stream:
            found["own_stream_on"] = str(stream.device)
    return found | {"waited_ns": sim.clock() - start}


def main(library: Path) -> dict[str, object]:
    sim = Simulator(library)
    costs: dict[str, int] = {"aten::mm": PRODUCT, "aten::convolution": CONVOLUTION, "aten::addmm": LINEAR}
    for operation, ns in costs.items():
        sim.cost(operation, ns)
    sim.tf32(TF32)
    reference._EDGE = 2  # the simulator says what a product costs
    scenarios: dict[str, Callable[[], object]] = {
        "truth": lambda: {"product": PRODUCT, "forward": FORWARD, "convolution": CONVOLUTION, "tf32": TF32},
        "leaks": lambda: leaks(sim),
        "headlines": lambda: {spec: headline(spec, sim) for spec in ("eager", "eager:tf32=1", "torchscript:tf32=1")},
        "gate": lambda: gate(sim),
        "energy": lambda: energy(sim),
        "precisions": precisions,
        "flushed": lambda: flushed(sim),
        "peaks": lambda: [peaks(place) for place in (PLACE, SECOND)],
        "second": lambda: second_device(sim),
    }
    return {name: scenario() for name, scenario in scenarios.items()}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
