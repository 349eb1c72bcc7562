"""Bugs of the GPU path and of layers, each as a text of the source and what takes its place, with its tests, which must
turn red.
"""

from __future__ import annotations

from typing import NamedTuple


class Plant(NamedTuple):
    """One bug.

    Attributes:
        bug: What is wrong, in words.
        file: Where.
        text: Stands there exactly once,
        instead: and becomes this.
        tests: Are red then.
    """

    bug: str
    file: str
    text: str
    instead: str
    tests: str


_WHOLE = "tests/measure/test_whole_visit.py"
_SIMULATED = "tests/measure/test_simulated.py"
_SIMULATOR = "tests/backends/test_simulator.py"
_ONNX = "tests/backends/test_onnx_cuda.py"
_RUNS = "tests/run/test_gpu_runs.py"
_GPU, _NVML = "tests/machine/test_gpu.py", "tests/machine/test_nvml.py"
_ROWS = "tests/records/test_memory_rows.py"
_LAYERS, _PEAKS, _EXPLAIN = "tests/analysis/test_layers.py", "tests/measure/test_peaks.py", "tests/cli/test_explain.py"
_COMPILE, _DEVICES = "tests/backends/test_compile.py", "tests/backends/test_devices.py"
_COSTS = "tests/analysis/test_layer_costs.py"

PLANTS = (
    Plant(
        "nobody waits for the device",
        "backends/pytorch.py",
        "        devices.synchronize(self._device)\n\n    def device_ns",
        "        pass\n\n    def device_ns",
        _WHOLE,
    ),
    Plant(
        "whoever waits for one device waits for the other",
        "backends/devices.py",
        "torch.accelerator.synchronize(device)",
        "torch.accelerator.synchronize(torch.device(device.type, 0))",
        _WHOLE,
    ),
    Plant(
        "the device waits for the host between kernels",
        "backends/accelerator.py",
        "partial(sleep, held))",
        "partial(sleep, 0))",
        _WHOLE,
    ),
    Plant(
        "events are in another stream than the work",
        "backends/accelerator.py",
        "self.events[-1].record(self._stream)",
        "self.events[-1].record(type(self._stream)(self._device))",
        _WHOLE,
    ),
    Plant(
        "what cannot be queued is said to have been",
        "backends/accelerator.py",
        "queued = queued and not marks.begun",
        "queued = True",
        _WHOLE,
    ),
    Plant(
        "times of calls that waited for the host are kept",
        "backends/accelerator.py",
        "and marks.begun and held < _MOST_HELD_CYCLES",
        "and False",
        _WHOLE,
    ),
    Plant(
        "the sleep is timed too",
        "backends/accelerator.py",
        "            hold()\n        self.add()\n",
        "            pass\n        self.add()\n        if hold is not None:\n            hold()\n",
        _WHOLE,
    ),
    Plant(
        "outputs of another runtime are read before they are there",
        "backends/onnx_session.py",
        "        self.sync()\n        made =",
        "        made =",
        _SIMULATOR,
    ),
    Plant(
        "the host waits between the parts of a step",
        "profiler/measure/training.py",
        "if isinstance(session, PartsTimed) and",
        "if isinstance(session, str) and",
        _WHOLE,
    ),
    Plant(
        "every part begins with the step",
        "backends/accelerator.py",
        "pairwise(events)) for events in made",
        "zip(events[:1] * (len(events) - 1), events[1:])) for events in made",
        _WHOLE,
    ),
    Plant(
        "onnxruntime's cache is warm",
        "backends/onnx_session.py",
        "if self._cold else None",
        "if False else None",
        _SIMULATOR,
    ),
    Plant(
        "a graph is captured while its outputs are elsewhere",
        "backends/onnx_session.py",
        "            once.add_run_config_entry(*_NOT_CAPTURED)\n",
        "            once.add_run_config_entry(*_CAPTURED)\n",
        _ONNX,
    ),
    Plant(
        "a network is transposed at its start",
        "backends/onnx_layout.py",
        "        _put_channels_last(value)\n    for",
        "        first.pop()\n    for",
        _ONNX,
    ),
    Plant(
        "tf32 means TF32 in products too",
        "backends/pytorch.py",
        '"products_in_tf32": flags.tf32}',
        '"products_in_tf32": convolutions}',
        "tests/backends/test_switches.py",
    ),
    Plant(
        "several forwards share one wait",
        "profiler/measure/visit.py",
        "single=task.single or not on_host",
        "single=task.single",
        _WHOLE,
    ),
    Plant(
        "copies are timed until they are submitted",
        "profiler/measure/timing.py",
        "        work()\n        sync()\n        times.append",
        "        work()\n        times.append",
        _WHOLE,
    ),
    Plant(
        "inputs and outputs change places",
        "profiler/measure/visit.py",
        "        input_ns=inputs,\n        output_ns=outputs,",
        "        input_ns=outputs,\n        output_ns=inputs,",
        _WHOLE,
    ),
    Plant(
        "the clock is that of the long sleep alone, with its launch",
        "profiler/measure/probe.py",
        "round((_LONGER - 1) * _CYCLES / (long - short) * 1e3, 1)",
        "round(_LONGER * _CYCLES / (long - short) * 1e3, 1)",
        _WHOLE,
    ),
    Plant(
        "nobody looks at the clock after the first block",
        "profiler/measure/timing.py",
        "            between()\n            if not crowded",
        "            between.func(reference, references, None, *between.args[3:])\n            if not crowded",
        _WHOLE,
    ),
    Plant(
        "times on an accelerator are divided by a reference again",
        "profiler/run/calibrations.py",
        'if placement.device_type != "cpu":',
        'if placement.device_type == "none":',
        _RUNS,
    ),
    Plant(
        "memory is what the device holds in all, not what it has lost",
        "profiler/measure/memory.py",
        "max(0, used - level)",
        "used",
        _WHOLE,
    ),
    Plant(
        "memory is that of the first device",
        "profiler/measure/memory.py",
        "        used = accelerator.used_bytes(device)\n",
        "        used = accelerator.used_bytes(type(device)(device.type, 0))\n",
        _WHOLE,
    ),
    Plant(
        "allocated and reserved change places",
        "profiler/measure/memory.py",
        '("allocated", "reserved").index(source)',
        '("reserved", "allocated").index(source)',
        _SIMULATED,
    ),
    Plant(
        "torch's allocator stands for the device",
        "profiler/records/table.py",
        '("device", "allocated", "nvml")',
        '("allocated", "device", "nvml")',
        _ROWS,
    ),
    Plant(
        "half of the cache is flushed",
        "backends/accelerator.py",
        "size = 2 * (int(",
        "size = 1 * (int(",
        _SIMULATED,
    ),
    Plant(
        "a session does not put its switches back",
        "backends/pytorch.py",
        "if switches.current() is not self._switches:",
        "if False:",
        _SIMULATED,
    ),
    Plant(
        "energy is divided among forwards that were submitted",
        "profiler/measure/timing.py",
        "        session.run()\n        session.sync()\n        calls += 1",
        "        session.run()\n        calls += 1",
        _SIMULATED,
    ),
    Plant(
        "a power limit costs visits",
        "profiler/records/clocks.py",
        "if reason and reason != _POWER_CAP",
        "if reason",
        _RUNS,
    ),
    Plant(
        "a moved clock is visited again for ever",
        "profiler/run/schedule.py",
        "clock_moved(good) is None or self._narrow(good[:-1], common)",
        "clock_moved(good) is None",
        _RUNS,
    ),
    Plant(
        "a moved clock is not visited again",
        "profiler/run/schedule.py",
        "(clock_moved(good) is None or self._narrow(good[:-1], common))",
        "True",
        _RUNS,
    ),
    Plant(
        "the interval of device_ms is the headline's",
        "profiler/records/on_device.py",
        "math.exp(centre - half) / _MS",
        "host_ns / _MS",
        _RUNS,
    ),
    Plant(
        "nothing is launch-bound",
        "profiler/records/on_device.py",
        "host_ns > _LAUNCH_BOUND * device_ns",
        "host_ns < device_ns",
        _RUNS,
    ),
    Plant(
        "power from two readings next to each other",
        "profiler/machine/gpu.py",
        "if end - start < _POWER_NS or last <= first:",
        "if end == start:",
        _GPU,
    ),
    Plant(
        "one odd answer of the driver loses all",
        "profiler/machine/nvml.py",
        "if error.value in _OVER:",
        "if error.value not in (3,):",
        _NVML,
    ),
    Plant(
        "the memory's clock is taken for the multiprocessors'",
        "profiler/machine/nvml.py",
        'clock_mhz=query("nvmlDeviceGetClockInfo", whole, pynvml.NVML_CLOCK_SM),\n        memory',
        'clock_mhz=query("nvmlDeviceGetClockInfo", whole, pynvml.NVML_CLOCK_MEM),\n        memory',
        _NVML,
    ),
    Plant(
        "a partition is asked for the clock that only its GPU has",
        "profiler/machine/nvml.py",
        "    whole = _whole(found)\n    energy",
        "    whole = found\n    energy",
        _NVML,
    ),
    Plant(
        "two cards of one name are one machine",
        "profiler/machine/host.py",
        '_YOUNGER_FACTS = ("gpu_setup", "openvino")',
        '_YOUNGER_FACTS = ("openvino",)',
        _NVML,
    ),
    Plant(
        "a locked clock stays locked",
        "profiler/machine/locking.py",
        "pynvml.nvmlDeviceResetGpuLockedClocks(found)",
        "pass",
        _NVML,
    ),
    Plant(
        "a graph's replay does not hold its weights",
        "backends/eager.py",
        "_weights: nn.Module = module, ",
        "",
        "tests/backends/test_accelerator.py",
    ),
    Plant(
        "a check of the device waits for nothing",
        "profiler/machine/bench.py",
        "        devices.synchronize(self.device)\n\n    def event_ns",
        "        pass\n\n    def event_ns",
        _SIMULATOR,
    ),
    Plant(
        "a partition is blamed for the energy of its neighbours",
        "profiler/machine/device_checks.py",
        "if shares is None and driver.is_partition:",
        "if shares is None and driver is None:",
        _SIMULATOR,
    ),
    Plant(
        "an energy counter that stands still passes",
        "profiler/machine/device_checks.py",
        "hotter = joules is None or joules[1] > _MORE_ENERGY * max(joules[0], 0.0)",
        "hotter = True",
        "tests/machine/test_doctor.py tests/backends/test_simulator.py",
    ),
    Plant(
        "a binding without one function reads nothing",
        "profiler/machine/nvml.py",
        "getattr(pynvml, name, None)",
        "getattr(pynvml, name)",
        _NVML,
    ),
    Plant(
        "a watch that fails says nothing",
        "profiler/machine/gpu.py",
        "if note is None and self._process.returncode:",
        "if False:",
        _NVML,
    ),
    Plant(
        "the first of two GPUs is the same whatever is visible",
        "profiler/machine/gpus.py",
        "if len(found) > 1 or any(map(_partitions, found)):",
        "if False:",
        _NVML,
    ),
    Plant(
        "a limit that moves by itself makes another machine",
        "profiler/machine/gpus.py",
        'settable = query("nvmlDeviceGetPowerManagementLimit", found) is not None',
        "settable = True",
        _NVML,
    ),
    Plant(
        "a second device is captured in the stream of the first",
        "backends/accelerator.py",
        "torch.cuda.graph(graph, stream=own)",
        "torch.cuda.graph(graph)",
        "tests/backends/test_accelerator.py",
    ),
    Plant(
        "code compiled for one GPU is read on another",
        "backends/pytorch.py",
        "named += map(str, torch.cuda.get_device_capability(device))",
        "named = []",
        _COMPILE,
    ),
    Plant(
        "graphs that are launched kernel by kernel are called CUDA graphs",
        "backends/compile.py",
        'if self.mode == "reduce-overhead" and launched:',
        "if False:",
        _COMPILE,
    ),
    Plant(
        "a driver that does not start has no devices",
        "backends/devices.py",
        "if torch.cuda.device_count() == 0:",
        "if False:",
        _DEVICES,
    ),
    Plant(
        "launches that wait for their kernels are timed",
        "backends/devices.py",
        'if blocking in ("", "0"):',
        "if True:",
        _DEVICES,
    ),
    Plant(
        "what an environment keeps from TF32 is called tf32",
        "backends/devices.py",
        'if os.environ.get("NVIDIA_TF32_OVERRIDE") != "0":',
        "if True:",
        _DEVICES,
    ),
    Plant(
        "a library that onnxruntime lacks is not named",
        "backends/onnx_session.py",
        "if lost := library_lost(provider):",
        'if lost := "":',
        _ONNX,
    ),
    Plant(
        "a GPU that leaves its idle clock fails its check",
        "profiler/machine/device_checks.py",
        "once, twice = _settled_ns(bench), bench.event_ns(2)",
        "once, twice = bench.event_ns(1), bench.event_ns(2)",
        "tests/machine/test_doctor.py",
    ),
    Plant(
        "layers hold waits for the host and nobody says so",
        "profiler/measure/layers.py",
        "in told], queued is False",
        "in told], False",
        _SIMULATOR,
    ),
    Plant(
        "every try of a batch counts energy",
        "profiler/run/lab.py",
        "number == 0 and lab.budget.visit_s > _TRIES_S",
        "number == 0",
        _RUNS,
    ),
    Plant(
        "a copy counts what it reads, not what it writes",
        "profiler/measure/peaks.py",
        "{size: size / _fastest",
        "{size: size / 2 / _fastest",
        _PEAKS,
    ),
    Plant(
        "the peak is that of the slowest product",
        "profiler/measure/peaks.py",
        "flops = max(*products",
        "flops = min(*products",
        _PEAKS,
    ),
    Plant(
        "an operator takes as long as a turn of many",
        "profiler/measure/peaks.py",
        "overhead = _fastest(add) / _TINY",
        "overhead = _fastest(add)",
        _PEAKS,
    ),
    Plant(
        "the worse of two peaks is kept",
        "profiler/measure/peaks.py",
        "max(first.flops_per_s, second.flops_per_s)",
        "min(first.flops_per_s, second.flops_per_s)",
        _LAYERS,
    ),
    Plant(
        "advice promises what its layers take, not what they lose to the roof",
        "profiler/analysis/faster.py",
        "layer.share * max(0.0, 1 - (layer.of_roof or 0.0))",
        "layer.share",
        _LAYERS,
    ),
    Plant(
        "advice of no worth is given",
        "profiler/analysis/faster.py",
        "if one.at_most >= _WORTH",
        "if one.at_most >= 0",
        _LAYERS,
    ),
    Plant(
        "a trial at another batch is compared forward by forward",
        "profiler/analysis/faster.py",
        'examples = int(row["batch"] or 1) / int(base["batch"] or 1)',
        "examples = 1.0",
        f"{_LAYERS} {_EXPLAIN}",
    ),
    Plant(
        "a trial measures what was explained again",
        "profiler/cli/explain.py",
        "for_answer(**flags | {_KEYS[name]: value for name, value in trial.items()})",
        "for_answer(**flags)",
        _EXPLAIN,
    ),
    Plant(
        "all boxes of a module begin at its left",
        "profiler/report/layers_page.py",
        "        left += inner.share\n",
        "",
        _EXPLAIN,
    ),
    Plant(
        "modules with one within are not joined",
        "profiler/report/layers_page.py",
        "if only is not None and only.inner:",
        "if False:",
        "tests/report/test_layers_page.py",
    ),
    Plant(
        "the page leaves the advice out",
        "profiler/report/layers_page.py",
        "advice=[*map(advice_sentence, advices), *map(tried_sentence, trials)]",
        "advice=[]",
        _EXPLAIN,
    ),
    Plant(
        "a network left out is among those that foretell it",
        "profiler/analysis/layer_costs.py",
        "if its != out]",
        "if its]",
        _COSTS,
    ),
    Plant(
        "a layer that runs twice costs as one that runs once",
        "profiler/analysis/layer_costs.py",
        "else layer.calls * known",
        "else known",
        _COSTS,
    ),
)
