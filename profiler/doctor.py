"""``profiler doctor``: whether this machine can be measured, and whether its numbers can be believed.

Every check is a function of what was observed, so that tests can hand it a fault. It passes, fails with the next step,
or says why it cannot tell here; only a failure makes the command fail.
"""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import backends
from backends.base import Placement
from profiler import host, measure, reference, telemetry
from profiler.errors import UserError
from profiler.executors import Executor, LocalExecutor
from profiler.records import Budget, Case, Conditions, Failure, Measurement
from profiler.run import cache_folder, reference_visits
from profiler.selfcheck import Finding, Status, check_device, device_settings
from profiler.units import format_duration
from profiler.worker import Limits, Reply, Task, visit

if TYPE_CHECKING:
    from profiler.nvml import Settings

#: Reading the clock may cost this share of the shortest sample.
CLOCK_SHARE = 0.001
#: Relative spread of the reference between fresh processes up to which results repeat. Latencies are ratios to the
#: reference and spread less.
SPREAD = 0.15
#: Cores that other programs may keep busy, as a share of the usable ones; steal and stall as a share of time.
BUSY, STOLEN, STALLED = 0.25, 0.05, 0.25
#: Seconds for which nothing of ours runs, to see what else does.
REST_S = 1.0
#: Room for exported networks and journals.
FREE_BYTES = 1 << 30
#: A small network that every backend runs, and how long.
NETWORK = "regnety_200mf"
BUDGET = Budget(visit_s=0.2, min_samples=3, warmup_s=0.5, rounds=1)

T = TypeVar("T")

_MARKS = {"pass": "[green]pass[/]", "fail": "[red]fail[/]", "unverifiable": "[yellow]cannot tell[/]"}


def run(device: str, as_json: bool) -> int:
    """Check this machine for measuring on ``device``, print what was found and return the exit code.

    0 when no check failed, 1 when one did.

    Raises:
        UserError: ``device`` is no name of a device.
    """
    placement = Placement(device)
    if not device or device != device.strip().lower():
        raise UserError(f"--device {device!r}: expected cpu, cuda, cuda:N, xpu or mps")
    executor = LocalExecutor()
    try:
        findings = list(examine(placement, executor))
        told = _settings(device, executor) if _is_usable_accelerator(device, findings) else None
    finally:
        executor.close()
    (_print_json if as_json else _print_table)(device, findings, told)
    return 1 if any(finding.status == "fail" for finding in findings) else 0


def examine(placement: Placement, executor: Executor) -> Iterator[Finding]:
    """Make every observation and check it, in the order in which a user would fix things."""
    yield versions(host.versions())
    yield from clock([time.perf_counter_ns() for _ in range(20_000)])
    yield free_disk(cache_folder())
    yield noise(_rest(REST_S), REST_S, host.usable_cores())
    for count in sorted({1, host.usable_cores()}):
        yield _answered(f"threads ({count})", executor.call(use_threads, count, 60.0, Limits()), threads)
    usable = _answered("device", executor.call(device_reason, placement.device, 120.0, Limits()), device_usable)
    yield usable
    if usable.status == "pass":
        answer = reference_visits(placement, executor, 3, 0.3)
        yield repeatability(answer if isinstance(answer, Failure) else answer[1])
    for name in backends.available():
        if name != "fake":
            yield backend(name, _visited(name, placement, executor))
    if usable.status == "pass" and placement.device_type != "cpu":
        yield from _self_check(placement.device, executor)


def versions(installed: Mapping[str, str]) -> Finding:
    """Torch is there, and not two distributions that overwrite each other."""
    listed = ", ".join(f"{name} {number}" for name, number in installed.items())
    if "torch" not in installed:
        return Finding("versions", "fail", "torch is not installed: pip install latency-profiler")
    if {"onnxruntime", "onnxruntime-gpu"} <= set(installed):
        remedy = "pip uninstall both, then install latency-profiler[cpu] or latency-profiler[gpu]"
        return Finding("versions", "fail", f"onnxruntime and onnxruntime-gpu overwrite each other: {remedy}")
    return Finding("versions", "pass", listed)


def clock(readings: Sequence[int]) -> list[Finding]:
    """The clock never goes back, and reading it costs next to nothing.

    Args:
        readings: Consecutive readings, in nanoseconds, at least two that differ.
    """
    steps = [after - before for before, after in itertools.pairwise(readings)]
    back = min(steps, default=0)
    monotonic = Finding("clock monotonic", "pass", f"{len(steps)} steps, none backwards")
    if back < 0:
        monotonic = Finding("clock monotonic", "fail", f"it went back by {-back} ns: choose another clock source")
    ahead = sorted(step for step in steps if step > 0)
    if not ahead:
        return [monotonic, Finding("clock resolution", "fail", "it stands still: choose another clock source")]
    allowed = measure.SAMPLE_NS * CLOCK_SHARE
    # The smallest step is the resolution. The mean is what a reading costs, however coarse the clock; that of the
    # quickest twentieth, because a process that is taken off its core only adds to it.
    size = max(1, len(steps) // 20)
    means = [sum(steps[at : at + size]) / size for at in range(0, len(steps) - size + 1, size)]
    cost = max(ahead[0], min(means))
    said = f"a reading costs or resolves {cost:.0f} ns, {allowed:.0f} ns are allowed"
    return [monotonic, _judged("clock resolution", cost <= allowed, said, "choose another clock source (tsc)")]


def free_disk(folder: Path, free_bytes: int | None = None) -> Finding:
    """There is room where exports are kept."""
    if free_bytes is None:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free_bytes = shutil.disk_usage(existing).free
    said = f"{free_bytes / 2**30:.1f} GiB are free for the cache"
    return _judged("free disk", free_bytes >= FREE_BYTES, said, f"make room, or set XDG_CACHE_HOME (now {folder})")


def noise(conditions: Conditions, seconds: float, cores: int) -> Finding:
    """The machine is at rest.

    Args:
        conditions: What happened while nothing of ours ran.
        seconds: For how long.
        cores: Usable cores.
    """
    shares = {
        "other programs": (conditions.load, BUSY * cores, "cores"),
        "steal": (_over(conditions.steal_s, seconds * cores), STOLEN, "of the time"),
        "stall": (_over(conditions.stall_s, seconds), STALLED, "of the time"),
        "throttled": (_over(conditions.throttled_s, seconds), 0.0, "of the time"),
    }
    told = {name: share for name, share in shares.items() if share[0] is not None}
    if not told:
        return Finding("noise", "unverifiable", "this system tells neither load nor steal")
    said = ", ".join(f"{name} {value:.2f} {unit}" for name, (value, _, unit) in told.items())
    loud = [name for name, (value, most, _) in told.items() if value is not None and value > most]
    return _judged("noise", not loud, said, f"too much for steady results ({', '.join(loud)}): stop other programs")


def threads(seen: tuple[int, int, float]) -> Finding:
    """Torch works with as many threads as asked: as it says, and as the CPU time shows.

    Args:
        seen: Threads asked for, threads that torch says, cores that were kept busy.
    """
    asked, told, busy = seen
    name = f"threads ({asked})"
    said = f"torch says {told}, its work kept {busy:.2f} cores busy"
    if told != asked:
        return Finding(name, "fail", f"{said}: unset OMP_NUM_THREADS, OMP_THREAD_LIMIT and MKL_NUM_THREADS")
    if busy > asked + 0.25:
        return Finding(name, "fail", f"{said}: another thread pool works too, look for MKL_NUM_THREADS and the like")
    if busy < 0.6 * asked:
        return Finding(name, "unverifiable", f"{said}: other programs took the cores, or threads do not help here")
    return Finding(name, "pass", said)


def repeatability(visits: Sequence[reference.Calls] | Failure) -> Finding:
    """The reference takes the same time in fresh processes."""
    if isinstance(visits, Failure):
        return Finding("reference", "fail", visits.reason)
    centre, spread = reference.nominal(visits)
    said = f"{centre / 1e6:.3f} ms, {spread:.1%} spread over {len(visits)} processes"
    if all(calls.crowded for calls in visits):
        said += ", all of which waited for a core"
        return Finding("reference", "fail", f"{said}: stop other programs")
    return _judged("reference", spread <= SPREAD, said, "too much for steady results: stop other programs")


def device_usable(answer: tuple[str, str | None, str | None]) -> Finding:
    """Torch computes on the device; nothing less proves that it is there.

    Args:
        answer: Device, why torch cannot use it, and its platform where this project is untested on it.
    """
    device, reason, untested = answer
    if reason:
        return Finding("device", "fail", reason)
    label = f"; latency-profiler is untested on {untested}: believe only what passes below" if untested else ""
    return Finding("device", "pass", f"torch computes on {device}{label}")


def backend(name: str, outcome: object) -> Finding:
    """A backend runs a real network and computes what eager computes; where it cannot, why not."""
    check = f"backend {name}"
    if isinstance(outcome, Failure):
        cannot = outcome.status == "unsupported"
        return Finding(check, "unverifiable" if cannot else "fail", outcome.reason)
    if not isinstance(outcome, Measurement):
        return Finding(check, "fail", f"brought a {type(outcome).__name__} instead of a latency: report this")
    samples = [ns / outcome.calls_per_sample for block in outcome.samples_ns for ns in block]
    parity = "has nothing to compare with" if outcome.parity is None else f"differs by {outcome.parity:.1g} from eager"
    fastest = format_duration(min(samples) / 1e9)
    return Finding(check, "pass", f"runs {NETWORK} in {fastest} and {parity}{_nodes(outcome)}")


def _nodes(outcome: Measurement) -> str:
    nodes = {name: n for name, n in outcome.facts.items() if name.startswith("nodes_") and name.endswith("Provider")}
    return "".join(f", {n} nodes on {name.removeprefix('nodes_')}" for name, n in nodes.items())


def use_threads(count: int) -> tuple[int, int, float]:
    """In a process of its own: return ``count``, what torch says, and how many cores its work keeps busy."""
    import torch

    torch.set_num_threads(count)
    a, out = torch.rand(768, 768), torch.empty(768, 768)
    torch.mm(a, a, out=out)
    wall, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < 0.4:
        torch.mm(a, a, out=out)
    return count, torch.get_num_threads(), (time.process_time() - cpu) / (time.perf_counter() - wall)


def device_reason(device: str) -> tuple[str, str | None, str | None]:
    """In a process of its own: return ``device``, why torch cannot use it, and the platform if it is untested."""
    from backends import devices

    reason = devices.malformed(Placement(device)) or devices.unavailable(device)
    return device, reason, devices.untested(device)


def _rest(seconds: float) -> Conditions:
    before = telemetry.snapshot()
    time.sleep(seconds)
    return telemetry.between(before, telemetry.snapshot())


def _visited(name: str, placement: Placement, executor: Executor) -> object:
    task = Task(Case(NETWORK, "", 1.0, name, placement), BUDGET, None, cache_folder())
    reply = executor.call(visit, task, 300.0, Limits())
    return reply.outcome if isinstance(reply, Reply) else reply


def _self_check(device: str, executor: Executor) -> list[Finding]:
    answer = executor.call(check_device, device, 300.0, Limits())
    return [Finding("self-check", "fail", answer.reason)] if isinstance(answer, Failure) else answer


def _is_usable_accelerator(device: str, findings: Sequence[Finding]) -> bool:
    return Placement(device).device_type != "cpu" and any(f.check == "device" and f.status == "pass" for f in findings)


def _settings(device: str, executor: Executor) -> Settings | str:
    answer = executor.call(device_settings, device, 120.0, Limits())
    return answer.reason if isinstance(answer, Failure) else answer


def _answered(name: str, answer: T | Failure, check: Callable[[T], Finding]) -> Finding:
    return Finding(name, "fail", answer.reason) if isinstance(answer, Failure) else check(answer)


def _judged(check: str, good: bool, said: str, remedy: str) -> Finding:
    status: Status = "pass" if good else "fail"
    return Finding(check, status, said if good else f"{said}; {remedy}")


def _over(amount: float | None, whole: float) -> float | None:
    return None if amount is None else amount / whole


def settings_rows(gpu: Settings) -> list[tuple[str, str]]:
    """Return (setting, what it is) for a reader; empty where the driver does not tell."""
    return [
        ("power limit", _told(("{:g} W", gpu.power_limit_w), ("default {:g} W", gpu.power_limit_default_w))),
        ("clock", _told(("at most {} MHz", gpu.max_clock_mhz), ("{} MHz set", gpu.application_clock_mhz))),
        ("memory clock", _told(("at most {} MHz", gpu.max_memory_clock_mhz))),
        ("held back by clocks that were set", _switch(gpu.clocks_held, "yes", "no")),
        ("persistence", _switch(gpu.persistence)),
        ("compute mode", gpu.compute_mode or ""),
        ("MIG", _switch(gpu.mig)),
        ("ECC", _switch(gpu.ecc)),
        ("PCIe generation", _told(("{}", gpu.pcie_generation), ("at most {}", gpu.pcie_generation_max))),
        ("PCIe lanes", _told(("{}", gpu.pcie_width), ("at most {}", gpu.pcie_width_max))),
    ]


def _told(*parts: tuple[str, float | None]) -> str:
    return ", ".join(text.format(value) for text, value in parts if value is not None)


def _switch(answer: bool | None, on: str = "on", off: str = "off") -> str:
    return "" if answer is None else (on if answer else off)


def _print_table(device: str, findings: Sequence[Finding], settings: Settings | str | None) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("check", "result", "found", title=f"machine {host.key()}, device {device}")
    for finding in findings:
        table.add_row(finding.check, _MARKS[finding.status], escape(finding.said))
    console = Console()
    console.print(table)
    if isinstance(settings, str):
        console.print(f"settings of {device} are not told: {escape(settings)}", highlight=False)
    elif settings is not None:
        listed = Table("setting", "at work", title=f"{device}, told by its driver; nothing here is required")
        for row in settings_rows(settings):
            listed.add_row(*row)
        console.print(listed)
    counts = Counter(finding.status for finding in findings)
    console.print(
        f"{counts['pass']} passed, {counts['fail']} failed, {counts['unverifiable']} cannot be told here",
        highlight=False,
    )


def _print_json(device: str, findings: Sequence[Finding], settings: Settings | str | None) -> None:
    answer = {
        "device": device,
        "host": {"key": host.key(), **host.facts()},
        "findings": [asdict(finding) for finding in findings],
        "settings": None if settings is None or isinstance(settings, str) else asdict(settings),
        "settings_note": settings if isinstance(settings, str) else None,
    }
    print(json.dumps(answer, indent=1))
