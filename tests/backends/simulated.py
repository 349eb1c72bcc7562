"""Runs in a process of its own, with the simulated accelerator loaded: real code on known device times.

Usage: ``python tests/backends/simulated.py LIBRARY``; prints one JSON object, name of the scenario -> what came out.
"""

from __future__ import annotations

import ctypes
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from profiler import backends
from profiler.backends import accelerator, devices
from profiler.backends.base import Fact, Model, Placement, Session
from profiler.backends.onnx_session import OrtSession
from profiler.machine import device_checks
from profiler.machine.bench import Bench
from profiler.machine.gpu import Reading
from profiler.measure import layers, reference, timing, warming
from profiler.records.types import Budget
from tests.backends.samples import fed, only
from tests.backends.simulator import Simulator

MS = 1_000_000
#: Device times that the scenarios give to operations; a forward of the network is two convolutions and a linear layer.
CONVOLUTION, LINEAR = 5 * MS, 2 * MS
FORWARD = 2 * CONVOLUTION + LINEAR
PLACE = Placement("sim:0")
EXAMPLE = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
BUDGET = Budget(visit_s=0.1, warmup_s=0.1)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Conv2d(4, 4, 3),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 5),
    )


MODEL = Model(key=None, module=network)


class Unsynchronised:
    """A session whose author forgot that the device is asynchronous."""

    def __init__(self, session: Session) -> None:
        self.run = session.run

    def sync(self) -> None:
        pass


def measured(session: timing.Workload, clock: Callable[[], int], workload: timing.Workload | None = None) -> float:
    """Median time of one forward as the profiler measures it, in nanoseconds."""
    warmup = warming.warm_up(session, BUDGET, clock)
    timed = timing.measure(session, workload, BUDGET, warmup.samples_ns[-1], clock)
    return statistics.median(ns / timed.calls_per_sample for block in timed.samples_ns for ns in block)


def cold(sim: Simulator) -> dict[str, object]:
    """Flushing takes as long as ten forwards, and must not be counted."""
    sim.cost("aten::zero_", 10 * FORWARD)
    with backends.get("eager:cold=1").load(MODEL, fed(EXAMPLE), PLACE) as session:
        before = sim.busy()
        return {"device_ns": session.device_ns(3), "busy_ns": sim.busy() - before, "cold": session.facts()["cold"]}


def latency(backend: str, sim: Simulator) -> dict[str, object]:
    with backends.get("eager").load(MODEL, fed(EXAMPLE), Placement("cpu")) as session:
        session.run()
        expected = only(session)
    with backends.get(backend).load(MODEL, fed(EXAMPLE), PLACE) as session:
        session.run()
        difference = float(np.abs(only(session) - expected).max())
        return {
            "host_ns": measured(session, sim.clock),
            "beside_another_ns": measured(session, sim.clock, Companion(sim)),
            "device_ns": session.device_ns(5),
            "unsynchronised_ns": measured(Unsynchronised(session), sim.clock),
            "difference": difference,
            "simulated": session.facts()["simulated"],
            "device_name": session.facts()["device_name"],
        }


def layered() -> dict[str, object]:
    """Times of layers by the device's events, which begins with a pause far too short for a forward to be queued."""
    before, accelerator._HELD_CYCLES = accelerator._HELD_CYCLES, 1
    try:
        with backends.get("eager").watched(MODEL, fed(EXAMPLE), PLACE) as run:
            forwards, whole, waited = layers._timed_there(PLACE.device, run, 3)
            accelerator._MOST_HELD_CYCLES, most = 1, accelerator._MOST_HELD_CYCLES  # as if the queue were full
            *_, full = layers._timed_there(PLACE.device, run, 3)
            accelerator._MOST_HELD_CYCLES = most
    finally:
        accelerator._HELD_CYCLES = before
    named = [{" ".join(key): ns for key, ns in one.items()} for one in forwards]
    return {"waited": [waited, full], "forwards": named, "whole": whole}


class OnSimulator:
    """ONNX Runtime's session, whose forwards also work on the simulated device, in a stream of its own choice."""

    def __init__(self, session: object, works_in: torch.Stream) -> None:
        self._session, self.stream = session, works_in
        self._a = torch.ones(2, 2, device=works_in.device)

    def __getattr__(self, name: str) -> object:
        return getattr(self._session, name)

    def run_with_iobinding(self, *_: object) -> None:
        torchs = torch.accelerator.current_stream(self.stream.device)
        torch.accelerator.set_stream(self.stream)
        self.made = torch.mm(self._a, self._a)
        torch.accelerator.set_stream(torchs)


def flushed(sim: Simulator, session: OrtSession) -> dict[str, object]:
    """Flushing takes as long as ten forwards, and is not counted."""
    sim.cost("aten::zero_", 10 * FORWARD)
    busy, zeroed = sim.busy(), sim.zeroed()
    return {"ns": session.device_ns(3), "busy_ns": sim.busy() - busy, "bytes": sim.zeroed() - zeroed}


def shared_stream(sim: Simulator) -> dict[str, object]:
    """ONNX Runtime in the stream that torch shares with it, in another one, and where it does not say in which."""
    device = torch.device(PLACE.device)
    torchs = torch.accelerator.current_stream(device)
    sim.cost("aten::mm", FORWARD)
    told = {"provider_has_user_compute_stream": "1"}
    with backends.get("onnxruntime").load(MODEL, fed(EXAMPLE), Placement("cpu")) as real:
        with accelerator.own_stream(device) as stream:

            def session(works_in: torch.Stream, facts: dict[str, Fact], **how: bool) -> OrtSession:
                runs = OnSimulator(real._session, works_in)
                return OrtSession(runs, fed(EXAMPLE), Placement("cpu"), facts, stream, **how)

            workload = reference.Reference(PLACE)
            inside = {
                "is_torchs": torch.accelerator.current_stream(device) == stream,
                "is_the_default": torchs == stream,
                "device_ns": session(stream, told).device_ns(3),
                "elsewhere_ns": session(torch.Stream(device), told).device_ns(3),
                "unconfirmed_ns": session(stream, {}).device_ns(3),
                "cold": flushed(sim, session(stream, told, cold=True)),
                "reference_ns": accelerator.device_times(workload.run, device, 1, stream=stream).ns,
            }
        # Another session may have made its own stream torch's since.
        outside = {"later_ns": session(stream, told).device_ns(3)}
    return inside | outside | {"is_given_back": torch.accelerator.current_stream(device) == torchs}


def raw(tensor: torch.Tensor) -> np.ndarray:
    """What the tensor's memory holds at this moment; nobody waits."""
    held = (ctypes.c_float * tensor.numel()).from_address(tensor.data_ptr())
    return np.array(held, np.float32).reshape(tensor.shape)


class Late:
    """ONNX Runtime's binding, whose output is the device's memory: whoever reads it finds what is there."""

    def __init__(self, binding: object, session: OnSimulator) -> None:
        self._binding, self._session = binding, session

    def __getattr__(self, name: str) -> object:
        return getattr(self._binding, name)

    def synchronize_outputs(self) -> None:
        self._session.stream.synchronize()

    def get_outputs(self) -> list[Late]:
        return [self]

    def is_tensor(self) -> bool:
        return True

    def numpy(self) -> np.ndarray:
        return raw(self._session.made)


def races(sim: Simulator) -> dict[str, object]:
    """Outputs read before and after the device has finished, where submitting returns long before."""
    sim.lazy(on=True)
    found: dict[str, object] = {}
    with backends.get("eager").load(MODEL, fed(EXAMPLE), Placement("cpu")) as session:
        session.run()
        expected = only(session)
    with backends.get("eager").load(MODEL, fed(EXAMPLE), PLACE) as session:
        session.run()
        found["unwaited"] = bool(np.isnan(raw(session._output)).all())
        session.sync()
        found["waited"] = float(np.abs(raw(session._output) - expected).max())
        session.run()
        found["outputs"] = float(np.abs(only(session) - expected).max())
        session.run()
        copied = torch.empty(session._output.shape).copy_(session._output, non_blocking=True)
        found["unwaited_copy"] = bool(np.isnan(copied.numpy()).all())
    device = torch.device(PLACE.device)
    with (
        backends.get("onnxruntime").load(MODEL, fed(EXAMPLE), Placement("cpu")) as real,
        accelerator.own_stream(device) as stream,
    ):
        runs = OnSimulator(real._session, stream)
        opened = OrtSession(runs, fed(EXAMPLE), Placement("cpu"), {}, stream)
        opened._binding = Late(opened._binding, runs)
        opened.run()
        found["unwaited_runtime"] = bool(np.isnan(raw(runs.made)).all())
        found["runtime"] = only(opened).tolist()
    sim.lazy(on=False)
    return found


class SimBench(Bench):
    """The real bench on small tensors: the simulator says what they cost."""

    def __init__(self, sim: Simulator) -> None:
        super().__init__(str(PLACE.device), edge=2)
        self.sim = sim

    def product(self, edge: int) -> Callable[[], object]:
        submit = super().product(2)

        def priced() -> None:
            self.sim.cost("aten::mm", edge**3 // 1000)
            submit()
            self.sim.cost("aten::mm", MS)

        return priced


class Companion(SimBench):
    """Something else that is timed between the samples, as the reference workload is."""

    def run(self) -> None:
        self.work(1)


class ForgetsToWait(SimBench):
    def sync(self) -> None:
        pass


class WrongStream(SimBench):
    def event_ns(self, units: int) -> int | None:
        start, end = accelerator._event(self.device), accelerator._event(self.device)
        other = torch.Stream(self.device)
        start.record(other)
        self.work(units)
        end.record(other)
        self.sync()
        return round(start.elapsed_time(end) * 1e6)


class ReadsEarly(SimBench):
    def event_ns(self, units: int) -> int | None:
        start, end = accelerator._event(self.device), accelerator._event(self.device)
        start.record()
        self.work(units)
        end.record()
        return round(start.elapsed_time(end) * 1e6)


class KeepsPeak(SimBench):
    def reset_peak(self) -> None:
        pass


class Blocks(SimBench):
    def work(self, units: int) -> None:
        super().work(units)
        devices.synchronize(self.device)


class WrongGraph(SimBench):
    def graph_difference(self) -> float | None:
        return 0.5


class Driver:
    """A driver that sees what happens on the simulator; ``blind`` means that it looks at another device."""

    def __init__(self, sim: Simulator, *, blind: bool = False, partition: bool = False) -> None:
        self.sim, self.blind = sim, blind
        self.name = "another GPU" if blind else "simulated accelerator"
        self.max_clock_mhz, self.is_partition = None, partition

    def read(self) -> Reading:
        busy = 0.0 if self.blind else self.sim.busy() / 1e9
        used = 0 if self.blind else torch.accelerator.memory_allocated(0)
        return Reading(self.sim.clock(), utilisation=None, energy_j=busy * 100, used_bytes=used, processes=())


def checked(bench: SimBench, driver: Driver | None, sim: Simulator) -> dict[str, dict[str, object]]:
    rest = lambda seconds: sim.advance(round(seconds * 1e9))  # noqa: E731
    found = device_checks.run_checks(bench, driver, "no driver is simulated", sim.clock, rest)
    return {finding.check: asdict(finding) for finding in found}


def main(library: Path) -> dict[str, object]:
    sim = Simulator(library)
    results: dict[str, object] = {"unavailable": [devices.unavailable(d) for d in ("sim", "sim:1", "sim:2")]}
    sim.cost("aten::convolution", CONVOLUTION)
    sim.cost("aten::addmm", LINEAR)
    results["forward_ns"] = FORWARD
    results |= {backend: latency(backend, sim) for backend in ("eager", "torchscript")}
    results["layered"] = layered()
    results["cold"] = cold(sim)
    results["shared_stream"] = shared_stream(sim)
    results["races"] = races(sim)
    sim.cost("aten::mm", MS)
    device_checks._LOAD_S = 0.02  # virtual, but a bench that forgets to wait fills it with real submissions
    kinds = (SimBench, ForgetsToWait, WrongStream, ReadsEarly, KeepsPeak, Blocks, WrongGraph)
    results["checks"] = {kind.__name__: checked(kind(sim), Driver(sim), sim) for kind in kinds}
    results["checks"] |= {"BlindDriver": checked(SimBench(sim), Driver(sim, blind=True), sim)}
    results["checks"] |= {"Partition": checked(SimBench(sim), Driver(sim, blind=True, partition=True), sim)}
    results["checks"] |= {"NoDriver": checked(SimBench(sim), None, sim)}
    return results


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
