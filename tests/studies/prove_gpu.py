"""Prove the GPU path on a real GPU, in at most ten minutes: ``python -m tests.studies.prove_gpu``.

It wants Python 3.12 and a CUDA build of torch. What a bare machine lacks beyond it names, and how to fetch it elsewhere
(``wheels.py``); ``--wheels`` takes the folder in which it was brought, of at most 64 MiB, and installs it beside, for
this proof alone. A step whose packages did not come is skipped and says so. Each step asks for something whose answer
is known, and runs in a fresh process. What was found is written after each, so that a cut loses nothing.

Everything up to the CUDA driver also runs against the simulated accelerator, see ``test_prove_gpu.py``.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.studies import wheels

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
#: The files with tests that need a GPU; others would want their own packages to be collected.
GPU_TESTS = ("tests/test_gpu.py", "tests/backends/test_contract.py")
NETWORKS = ("regnety_400mf", "efficientnet_b0", "resnet50")
#: Exit code of a command that took too long.
_CUT = 124
#: Seconds in which nothing more is begun before the end.
_RESERVE_S = 15.0
#: Seconds that a function in a process of its own may take.
_CALL_S = 180.0
#: Seconds in which a command that was interrupted ends by itself: a visit's, and what writes the table.
_STOP_S = 20.0
#: Seconds in which a process that reads the driver has started and read it a few times.
_STARTED_S = 5.0
#: Nanoseconds for which the clock is looked at: the driver's is told ten times a second.
_LOOK_NS = 2_000_000_000


#: Leaves 2 GiB of a device free for as long as it runs.
_HOLD = """
import sys, time, torch
free, _ = torch.cuda.mem_get_info(sys.argv[1])
held = torch.empty(max(0, free - (2 << 30)), dtype=torch.uint8, device=sys.argv[1])
print("held", flush=True)
time.sleep(300)
"""
#: Images that do not fit there, of 0.6 MB each: no more, as the host makes them first.
_HUGE = "8192"
#: Nanoseconds between two kernels of a queue; a launch by eager torch takes five times as long.
_GAP_NS = 2000


class SkippedError(Exception):
    """What a step needs is not here; the message says what."""


@contextmanager
def held(device: str) -> Iterator[None]:
    """Let another program leave 2 GiB of ``device`` for the duration of the context."""
    holder = subprocess.Popen([sys.executable, "-c", _HOLD, device], stdout=subprocess.PIPE)
    try:
        if holder.stdout is None or holder.stdout.readline().strip() != b"held":
            raise SkippedError("nothing could be held on the device")
        yield
    finally:
        holder.kill()
        holder.wait()


@dataclass
class Proof:
    """What the steps share.

    Attributes:
        device: Where.
        out: Folder of what is found.
        call: Runs a function with one argument, in a fresh process.
        command: Runs a command of the shell for so many seconds at most; returns its exit code and what it said.
        seconds: For all steps.
        networks: What is measured.
        trained: A classifier, of which training steps are timed.
        processes: Of the step that looks at their spread.
        visit_s: Timed part of a visit.
        held: Fills the device but for 2 GiB while its context is open.
        so_far: Keeps what an unfinished step has found.
    """

    device: str
    out: Path
    call: Callable[[Callable[[Any], Any], Any], Any]
    command: Callable[[list[str], float], tuple[int, str]]
    seconds: float = 600.0
    networks: tuple[str, ...] = NETWORKS
    trained: str = NETWORKS[0]
    processes: int = 8
    visit_s: float = 1.0
    held: Callable[[str], AbstractContextManager[None]] = held
    so_far: Callable[[dict[str, Any]], object] = lambda _found: None
    begun: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds until nothing more is begun."""
        return self.seconds - _RESERVE_S - (time.monotonic() - self.begun)

    def case(self, network: str, backend: str = "eager", batch: int = 1) -> Any:
        """Return the case of a network on the device."""
        from profiler.backends.base import Placement
        from profiler.records.types import Case

        return Case(network, "", 1.0, backend, Placement(self.device), batch)


@contextmanager
def session(case: Any) -> Iterator[Any]:
    """Open ``case`` in this process and run it once."""
    from profiler import backends
    from profiler.models import source

    loaded, backend = source.load_model(case.asked(None)), backends.get(case.backend)
    reason = backend.unavailable(case.placement)
    if reason is not None:
        raise SkippedError(reason)
    with backend.load(loaded.model, loaded.inputs, case.placement) as opened:
        opened.run()
        opened.sync()
        yield opened


def host_ns(opened: Any, calls: int = 30) -> float:
    """Median time of single forwards on the host, in ns."""
    from profiler.measure import timing

    return statistics.median(timing.time_each(opened.run, opened.sync, calls, time.perf_counter_ns))


# --- what runs in a process of its own: each takes one argument and returns plain data


def unusable(device: str) -> str | None:
    """Why ``device`` cannot be used at all."""
    from profiler.backends import devices

    return devices.unavailable(device)


def graphs(case: Any) -> dict[str, Any]:
    """Two graphs: each equals eager after memory was emptied and taken, 100 replays later, and when one is gone."""
    import numpy as np
    import torch

    def differs(opened: Any) -> float:
        opened.run()
        return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(opened.outputs(), plain, strict=True))

    with session(replace(case, backend="eager")) as eager:
        plain = eager.outputs()
    with session(case) as first:
        with session(case) as second:
            torch.cuda.empty_cache()
            taken = [torch.full((64 * MIB,), float("nan"), device=case.placement.device) for _ in range(4)]
            for _ in range(100):
                first.run()
                second.run()
            both = differs(first), differs(second)
        del taken
        torch.cuda.empty_cache()
        torch.full((256 * MIB,), float("nan"), device=case.placement.device)
        alone = differs(first)
    worst = max(*both, alone)
    return {"both": both, "one_reset": alone, "claims": {"graphs equal eager": worst < 1e-4}}


def clock(device: str) -> dict[str, Any]:
    """The clock by kernels that sleep, beside the driver's, under the load of the probe itself."""
    from profiler.backends import accelerator
    from profiler.backends.base import Placement
    from profiler.machine import gpu
    from profiler.measure.probe import Probe

    probe = Probe(Placement(device))
    with gpu.watching(accelerator.uuid(device)) as watch:
        end = time.perf_counter_ns() + _LOOK_NS
        while time.perf_counter_ns() < end:
            probe.look()
        readings, note = watch.stop() if watch else ([], "no driver")
    told = [reading.clock_mhz for reading in readings[len(readings) // 2 :] if reading.clock_mhz]
    ours = statistics.median(probe.clock_mhz[len(probe.clock_mhz) // 2 :]) if probe.clock_mhz else None
    nvml = statistics.median(told) if told else None
    near = None if ours is None or nvml is None else abs(ours / nvml - 1) < 0.01
    speed = statistics.median(probe.stream_gb_s) if probe.stream_gb_s else None
    found = {"probe_mhz": ours, "nvml_mhz": nvml, "stream_gb_s": speed, "note": note, "looks": len(probe.clock_mhz)}
    return found | {"claims": {"probe within 1% of NVML": near}}


def events(case: Any) -> dict[str, Any]:
    """A small forward by events: as launched, behind a kernel that sleeps, as a graph, and by torch's profiler."""
    import torch

    from profiler.backends import accelerator

    device = torch.device(case.placement.device)
    with session(case) as opened:
        plain = _plain_events(opened, device)
        held = accelerator.device_times(opened.run, device, 20)
        kernels, launches = _kernel_ns(opened) if device.type == "cuda" else (None, 0)
        host = host_ns(opened)
    graph = None
    if device.type == "cuda":
        with session(replace(case, backend="eager:cuda_graph=1")) as opened:
            graph = statistics.median(opened.device_ns(20))
    queued = statistics.median(held.ns)
    claims = {
        "a whole forward was queued": held.queued,
        "queued is no more than plain": queued <= 1.02 * plain,
        "nothing waits for the host between queued kernels": None
        if kernels is None
        else 0.98 * kernels < queued < 1.05 * kernels + _GAP_NS * launches,
        "graph is no more than queued": None if graph is None else graph < 1.05 * queued,
    }
    found = {"host_ns": host, "plain_ns": plain, "queued_ns": queued, "kernels_ns": kernels, "graph_ns": graph}
    found["kernels"] = launches
    return found | {"claims": claims}


def _plain_events(opened: Any, device: Any) -> float:
    import torch

    times = []
    for _ in range(20):
        start, end = (torch.Event(device, enable_timing=True) for _ in range(2))
        opened.sync()
        start.record(torch.accelerator.current_stream(device))
        opened.run()
        end.record(torch.accelerator.current_stream(device))
        opened.sync()
        times.append(start.elapsed_time(end) * 1e6)
    return statistics.median(times)


def _kernel_ns(opened: Any, calls: int = 10) -> tuple[float | None, float]:
    """Return the time of a forward's kernels by torch's profiler, and how many they are; None where it may not look."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for _ in range(calls):
            opened.run()
        opened.sync()
    # The launches themselves are told too, with no time on the device.
    kernels = [event for event in profiled.key_averages() if event.self_device_time_total > 0]
    ns = sum(event.self_device_time_total for event in kernels) * 1e3
    return (ns / calls if kernels else None), sum(event.count for event in kernels) / calls


def tf32(device: str) -> dict[str, Any]:
    """The reference takes as long whatever torch's switches were left at."""
    import torch

    from profiler.backends import accelerator
    from profiler.backends.base import Placement
    from profiler.measure.reference import Reference

    workload, place, found = Reference(Placement(device)), torch.device(device), {}
    for allowed in (False, True, False, True):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
        workload.run()
        found.setdefault(str(allowed), []).extend(accelerator.device_times(workload.run, place, 20).ns)
    off, on = (statistics.median(found[name]) for name in ("False", "True"))
    return {"off_ns": off, "on_ns": on, "claims": {"TF32 does not reach the reference": abs(on / off - 1) < 0.02}}


def onnxruntime(case: Any) -> dict[str, Any]:
    """Events in the shared stream tell the host's time where kernels are large, and submitting does not wait."""
    with session(case) as opened:
        host, device = host_ns(opened), opened.device_ns(20)
        submitted = []
        for _ in range(20):
            opened.sync()
            start = time.perf_counter_ns()
            opened.run()
            submitted.append(time.perf_counter_ns() - start)
        opened.sync()
        facts = dict(opened.facts())
    inside, submit = statistics.median(device) if device else math.nan, statistics.median(submitted)
    claims = {"events within 5% of the host": abs(inside / host - 1) < 0.05, "submitting is no wait": submit < host / 2}
    return {"host_ns": host, "device_ns": inside, "submit_ns": submit, "facts": facts, "claims": claims}


def runtime_graph(case: Any) -> dict[str, Any]:
    """ONNX Runtime's own CUDA graph: computes what launches do, also of other inputs, and costs the device no more."""
    import numpy as np

    with session(replace(case, backend="onnxruntime")) as launched:
        expected, plain = launched.outputs(), statistics.median(launched.device_ns(20))
    with session(case) as opened:
        for _ in range(100):
            opened.run()
        worst = max(float(np.abs(a - b).max()) for a, b in zip(opened.outputs(), expected, strict=True))
        opened.upload()
        opened.run()
        worst = max(worst, *(float(np.abs(a - b).max()) for a, b in zip(opened.outputs(), expected, strict=True)))
        graph, host, facts = statistics.median(opened.device_ns(20)), host_ns(opened), dict(opened.facts())
    claims = {
        "ONNX Runtime's graph equals launches": worst < 1e-4,
        "ONNX Runtime's graph is no more than launches": graph < 1.05 * plain,
    }
    return {"plain_ns": plain, "graph_ns": graph, "host_ns": host, "worst": worst, "facts": facts, "claims": claims}


def layout(case: Any) -> dict[str, Any]:
    """ONNX Runtime in channels last: what eager computes, and no transposition at the ends of what runs."""
    import numpy as np
    import onnx

    from profiler.backends import onnxruntime as module

    last = replace(case, placement=replace(case.placement, memory_format="channels_last"))
    with session(replace(case, backend="eager")) as eager:
        expected = eager.outputs()
    with session(case) as opened:
        first_ns = statistics.median(opened.device_ns(20))
    with tempfile.TemporaryDirectory() as folder:
        kept, opening = Path(folder) / "optimised.onnx", module.open_session

        def keeping(path: Any, options: Any, *rest: Any) -> Any:
            options.optimized_model_filepath = str(kept)
            return opening(path, options, *rest)

        module.open_session = keeping
        try:
            with session(last) as opened:
                found, last_ns = opened.outputs(), statistics.median(opened.device_ns(20))
        finally:
            module.open_session = opening
        graph = onnx.load(kept, load_external_data=False).graph
    gap = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(found, expected, strict=True))
    ends = {value.name for value in (*graph.input, *graph.output)}
    turned = [node for node in graph.node if node.op_type == "Transpose"]
    at_ends = [node.name for node in turned if ends & {*node.input, *node.output}]
    claims = {"channels last equals eager": gap < 1e-3, "nothing is transposed at the ends": not at_ends}
    return {
        "gap": gap, "transposes": len(turned), "at_ends": at_ends, "first_ns": first_ns, "last_ns": last_ns,
        "claims": claims,
    }  # fmt: skip


def words(case: Any) -> dict[str, Any]:
    """Precision tf32: how far from fp32 its outputs are, and that it costs no more."""
    import numpy as np

    from profiler.measure.parity import PARITY

    outputs, times = {}, {}
    for precision in ("fp32", "tf32"):
        with session(replace(case, placement=replace(case.placement, precision=precision))) as opened:
            outputs[precision], times[precision] = opened.outputs(), statistics.median(opened.device_ns(20))
    pairs = zip(outputs["tf32"], outputs["fp32"], strict=True)
    gap = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)
    claims = {
        "tf32 is within its tolerance": gap < PARITY["tf32"],
        "tf32 costs no more": times["tf32"] < 1.02 * times["fp32"],
    }
    return {"gap": gap, "ns": times, "claims": claims}


def cold(case: Any) -> dict[str, Any]:
    """A forward whose weights are in no cache costs the device no less."""
    with session(case) as warm, session(replace(case, backend=f"{case.backend}:cold=1")) as flushed:
        before, after = (statistics.median(one.device_ns(20)) for one in (warm, flushed))
    return {"warm_ns": before, "cold_ns": after, "claims": {f"{case.backend} is no faster cold": after > 0.98 * before}}


def training(case: Any) -> dict[str, Any]:
    """The parts of a training step by events: they add up to the step."""
    from profiler import backends
    from profiler.models import source

    loaded, backend = source.load_model(case.asked(None)), backends.get(case.backend)
    if reason := backend.unavailable(case.placement):
        raise SkippedError(reason)
    with backend.train(loaded.model, loaded.inputs, case.placement) as opened:
        for _ in range(5):
            opened.run()
        opened.sync()
        step = statistics.median(opened.device_ns(20))
        parts = {name: statistics.median(part) for name, part in opened.device_parts_ns(20).items()}
    near = abs(sum(parts.values()) / step - 1) < 0.03
    return {"step_ns": step, "parts_ns": parts, "claims": {"parts add up to the step": near}}


def memory_told(case: Any) -> dict[str, int]:
    """What a visit says a model takes of the device."""
    from profiler.measure import visit
    from profiler.records.types import Budget, Memory

    made = visit.visit(visit.Task(case, Budget(), None, None, "memory"))
    if not isinstance(made, Memory):
        raise SkippedError(made.reason if hasattr(made, "reason") else repr(made))
    return dict(made.run_bytes)


def memory_lost(case: Any) -> int:
    """What the device says by hand that it has lost to it."""
    import torch

    from profiler.backends import accelerator, devices

    devices.unavailable(case.placement.device)  # starts the device
    device = torch.device(case.placement.device)
    torch.get_device_module(device).empty_cache()
    before = accelerator.used_bytes(device)
    with session(case) as opened:
        for _ in range(3):
            opened.run()
            opened.sync()
        after = accelerator.used_bytes(device)
    return (after or 0) - (before or 0)


def watched(case: Any) -> dict[str, Any]:
    """Forwards with a process that reads the driver beside them, and without, by turns."""
    from profiler.backends import accelerator
    from profiler.machine import gpu

    uuid, found = accelerator.uuid(case.placement.device), {"alone": [], "watched": []}
    with session(case) as opened:
        for _ in range(6):
            found["alone"].append(host_ns(opened, 50))
            with gpu.watching(uuid) as watch:
                begun = time.monotonic()
                while watch is not None and not watch.settled() and time.monotonic() < begun + _STARTED_S:
                    time.sleep(0.05)
                found["watched"].append(host_ns(opened, 50))
    cost = statistics.median(found["watched"]) / statistics.median(found["alone"]) - 1
    return {"cost": cost, "claims": {"the watch costs under 1%": None if uuid is None else cost < 0.01}}


def compiled(case: Any) -> dict[str, Any]:
    """torch.compile's own CUDA graphs: compute what eager does when they are replayed, and cost the device no more."""
    import numpy as np

    with session(replace(case, backend="eager")) as eager:
        expected, plain = eager.outputs(), statistics.median(eager.device_ns(20))
    with session(case) as opened:
        for _ in range(20):
            opened.run()
        found, ns, facts = opened.outputs(), statistics.median(opened.device_ns(20)), dict(opened.facts())
    gap = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(found, expected, strict=True))
    claims = {"compiled equals eager": gap < 1e-3, "compiled costs no more": ns < 1.05 * plain}
    return {"plain_ns": plain, "ns": ns, "gap": gap, "facts": facts, "claims": claims}


def spread_visit(argument: tuple[Any, float, Any]) -> dict[str, Any]:
    """One visit, with the reference beside it as an accelerator's visit no longer has it."""
    from profiler.measure import visit
    from profiler.records.estimate import visit_estimate
    from profiler.records.types import Budget, Measurement

    case, seconds, calibration = argument
    budget = Budget(visit_s=seconds, warmup_s=2.0)
    made = visit.visit(visit.Task(case, budget, calibration, None, energy=False))
    if not isinstance(made, Measurement):
        raise SkippedError(made.reason)
    told = visit_estimate(made)
    device = statistics.median(made.device_ns) if made.device_ns else math.nan
    return {"raw": told.raw_ns, "device": device, "normalised": told.normalised_ns, "clock_mhz": made.clock_mhz}


# --- the steps, in the order in which they are worth most


def doctor(proof: Proof) -> dict[str, Any]:
    """Every check of the profiler itself."""
    command = [sys.executable, "-m", "profiler", "doctor", "--device", proof.device, "--json"]
    code, said = proof.command(
        command, min(240.0, proof.left)
    )  # torch.compile takes a minute of it the first time, and so does AOTI
    try:
        found, _ = json.JSONDecoder().raw_decode(said, said.index("{"))
    except ValueError:
        return {"said": said[-2000:], "claims": {"doctor passes but for noise": None if code == _CUT else False}}
    failed = [finding["check"] for finding in found["findings"] if finding["status"] == "fail"]
    # The host may be noisy; what is said of the GPU must hold all the same.
    claim = not [check for check in failed if check != "noise"] and (code == 0 or bool(failed))
    return {"doctor": found, "failed": failed, "claims": {"doctor passes but for noise": claim}}


def spread(proof: Proof) -> dict[str, Any]:
    """How much each estimator differs between fresh processes."""
    from profiler.measure.visit import CalibrationTask, calibrate
    from profiler.records.nominal import Calibration, nominal

    place = proof.case(proof.networks[0]).placement
    repeats, calls = proof.call(calibrate, CalibrationTask(place, None, 0.5))
    known = Calibration(repeats, nominal([calls])[0], 0.0, 1, "now")
    found: dict[str, list[dict[str, Any]]] = {network: [] for network in proof.networks}
    for _ in range(proof.processes):
        for network in proof.networks:
            if proof.left > 0:
                argument = (proof.case(network, batch=16), proof.visit_s, known)
                found[network].append(proof.call(spread_visit, argument))
                proof.so_far({"visits": found})
    ways = {
        network: {way: _cv([one[way] for one in visits]) for way in ("raw", "device", "normalised")}
        for network, visits in found.items()
    }
    devices = [one["device"] for one in ways.values() if one["device"] is not None]
    claim = max(devices) < 0.01 if len(devices) == len(proof.networks) else None
    return {"visits": found, "cv": ways, "claims": {"device times spread by under 1%": claim}}


def needs(group: str) -> None:
    """Raise where a package of a group is not here.

    Raises:
        SkippedError: Names them.
    """
    if gone := wheels.missing(group):
        raise SkippedError(f"{group} needs {' and '.join(gone)}, which this Python does not have and nobody brought")


def _cv(values: list[float]) -> float | None:
    return (
        statistics.stdev(values) / statistics.fmean(values) if len(values) > 1 and not math.isnan(sum(values)) else None
    )


def memory(proof: Proof, backend: str) -> dict[str, Any]:
    """Both ways in fresh processes: a second session of one would find kernels and workspaces of the first loaded."""
    case = proof.case(proof.networks[0], backend, 16)
    told, by_hand = proof.call(memory_told, case), proof.call(memory_lost, case)
    near = None if "device" not in told else abs(by_hand - told["device"]) <= 64 * MIB
    return {"by_hand": by_hand, "told": told, "claims": {f"{backend} within 64 MiB": near}}


def near_full(proof: Proof) -> dict[str, Any]:
    """Beside a program that leaves 2 GiB a huge batch is out of memory, and the largest that fits is above 1."""
    needs("profiler run")
    with proof.held(proof.device):
        found = {}
        for batch in (_HUGE, "max"):
            folder = proof.out / f"batch_{batch}"
            # Of a network with large activations few tries find the largest.
            what = ["--model", "resnet50", "--backend", "eager", "--device", proof.device, "--batch", batch]
            how = ["--rounds", "1", "--visit", "100ms", "--out", str(folder), "-q"]
            proof.command([sys.executable, "-m", "profiler", "run", *what, *how], min(120.0, proof.left))
            found[batch] = next(iter(_rows(folder)), {})
    largest = int(found["max"].get("batch") or 0)
    claims = {"a huge batch is oom": found[_HUGE].get("status") == "oom", "the largest batch is above 1": largest > 1}
    return {"rows": found, "claims": claims}


def _rows(folder: Path) -> list[dict[str, str]]:
    import csv

    try:
        with (folder / "cases.csv").open(encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError:
        return []


def gpu_tests(proof: Proof) -> dict[str, Any]:
    """The tests that need a GPU."""
    needs("the tests for GPUs")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *GPU_TESTS]
    code, said = proof.command(command, min(150.0, proof.left))
    ran = re.search(r"\d+ passed", said) is not None
    return {"said": said[-3000:], "claims": {"pytest -m gpu": None if code == 0 and not ran else code == 0}}


def paper(proof: Proof) -> dict[str, Any]:
    """The plan of the paper, a backend after the other as far as time allows; what needs no export comes first."""
    needs("profiler run")
    made: dict[str, int] = {}
    for backend in ("eager", "torchscript", "onnxruntime"):
        if (seconds := proof.left - _STOP_S) < 30:
            break
        folder = proof.out / f"paper_{backend}"
        run = [sys.executable, "-m", "profiler", "run", "paper", "--device", proof.device, "--backend", backend]
        proof.command([*run, "--time", f"{int(seconds)}s", "--out", str(folder), "-q"], seconds)
        made[backend] = len(_rows(folder))
    if not made:
        raise SkippedError("no time is left")
    return {"rows": made, "claims": {"paper has a row": made["eager"] > 0}}


def steps(proof: Proof) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return all steps by name, in their order."""
    first = proof.networks[0]
    return {
        "doctor": lambda: doctor(proof),
        "graphs": lambda: proof.call(graphs, proof.case(first, "eager:cuda_graph=1")),
        "clock": lambda: proof.call(clock, proof.device),
        "events": lambda: proof.call(events, proof.case(first)),
        "tf32": lambda: proof.call(tf32, proof.device),
        "onnxruntime": lambda: proof.call(onnxruntime, proof.case(first, "onnxruntime", 64)),
        "onnxruntime graph": lambda: proof.call(runtime_graph, proof.case(first, "onnxruntime:cuda_graph=1")),
        "onnxruntime channels last": lambda: proof.call(layout, proof.case(first, "onnxruntime", 16)),
        "cold eager": lambda: proof.call(cold, proof.case(first)),
        "cold onnxruntime": lambda: proof.call(cold, proof.case(first, "onnxruntime")),
        "precision tf32": lambda: proof.call(words, proof.case(first, batch=16)),
        "training": lambda: proof.call(training, proof.case(proof.trained, batch=16)),
        **{
            f"memory {name}": lambda name=name: memory(proof, name)  # type: ignore[misc]
            for name in ("eager", "torchscript", "onnxruntime")
        },
        "watch": lambda: proof.call(watched, proof.case(first, batch=16)),
        "spread": lambda: spread(proof),
        "near full": lambda: near_full(proof),
        "gpu tests": lambda: gpu_tests(proof),
        "compiled": lambda: proof.call(compiled, proof.case(first, "compile:mode=reduce-overhead")),
        "paper": lambda: paper(proof),
    }


def prove(proof: Proof, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """Take the steps one by one; what was found stands in ``prove.json`` after each."""
    found: dict[str, Any] = {"device": proof.device, "lacking": wheels.lacking(), "steps": {}}
    keep(proof.out, found)
    for name, step in steps(proof).items():
        if only and name not in only:
            continue
        begun = time.monotonic()
        proof.so_far = partial(_so_far, proof.out, found, name)
        try:
            answer = step() if proof.left > 0 else {"skipped": "no time is left"}
        except SkippedError as reason:
            answer = {"skipped": str(reason)}
        except Exception as error:  # noqa: BLE001 - one step that fails must not lose the others
            answer = {"error": f"{type(error).__name__}: {error}"[:2000], "claims": {name: False}}
        found["steps"][name] = answer | {"seconds": round(time.monotonic() - begun, 1)}
        keep(proof.out, found)
        print(name, answer.get("claims") or answer.get("skipped") or answer.get("error"), flush=True)
    return found


def _so_far(out: Path, found: dict[str, Any], name: str, answer: dict[str, Any]) -> None:
    found["steps"][name] = answer | {"unfinished": True}
    keep(out, found)


def keep(out: Path, found: dict[str, Any]) -> None:
    """Write what was found so far; a cut leaves the file of before or this one, never half of it."""
    out.mkdir(parents=True, exist_ok=True)
    partial = out / ".prove.json"
    partial.write_text(json.dumps(found, indent=1, default=str), encoding="utf-8")
    partial.replace(out / "prove.json")


def refuted(found: dict[str, Any]) -> list[str]:
    """Return the claims that do not hold; what cannot be told here is none of them."""
    told = [step.get("claims", {}) for step in found["steps"].values()]
    return [claim for claims in told for claim, holds in claims.items() if holds is False]


def shell(command: list[str], seconds: float) -> tuple[int, str]:
    """Run a command; one that takes longer is interrupted as by Ctrl-C, then killed, and its exit code is 124."""
    with tempfile.TemporaryFile("w+") as said:
        running = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        code = _ended(running, max(seconds, 1.0))
        if code is None:
            running.send_signal(signal.SIGINT)
            if _ended(running, _STOP_S - 5.0) is None:
                running.kill()
                running.wait()
        said.seek(0)
        return _CUT if code is None else code, said.read()


def _ended(running: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return running.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def main() -> int:
    """Prove what the command line asks for; exit 1 where a claim does not hold."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--device", default="cuda:0")
    asked.add_argument("--out", type=Path, default=ROOT / "results" / "reference" / "proof")
    asked.add_argument("--seconds", type=float, default=600.0)
    asked.add_argument("--steps", default="", help="names, with commas between")
    asked.add_argument("--wheels", type=Path, help="folder of wheels to install first")
    given = asked.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="proof-") as folder:
        if wrong := wheels.unready(given.wheels, Path(folder)):
            keep(given.out, {"device": given.device, "steps": {}, "error": wrong})
            print(wrong, file=sys.stderr)
            return 2
        return _proved(given, begun)


def _proved(given: argparse.Namespace, begun: float) -> int:
    from profiler.records.types import Failure
    from profiler.run.child import Limits
    from profiler.run.processes import LocalExecutor

    executor = LocalExecutor()

    def call(function: Callable[[Any], Any], argument: Any) -> Any:
        left = max(1.0, given.seconds - (time.monotonic() - begun))
        answer = executor.call(function, argument, min(_CALL_S, left), Limits())
        if isinstance(answer, Failure):
            if answer.status == "timeout" and left < _CALL_S:
                raise SkippedError("the time was over before it had ended")
            reason = answer.reason.removeprefix("SkippedError: ")
            kind = SkippedError if reason != answer.reason or answer.status == "unsupported" else RuntimeError
            raise kind(reason)
        return answer

    try:
        if wrong := call(unusable, given.device):
            keep(given.out, {"device": given.device, "steps": {}, "error": wrong})
            print(wrong, file=sys.stderr)
            return 2
        proof = Proof(given.device, given.out, call, shell, given.seconds, begun=begun)
        found = prove(proof, tuple(filter(None, given.steps.split(","))))
    finally:
        executor.close()
    wrong = refuted(found)
    print(json.dumps({"refuted": wrong, "seconds": round(time.monotonic() - begun, 1)}))
    return 1 if wrong else 0


if __name__ == "__main__":
    from tests.studies.prove_gpu import main as run  # functions that go to another process need a module with a name

    raise SystemExit(run())
