"""``profiler doctor``: whether this machine can be measured, and whether its numbers can be believed.

Every check is a function of what was observed, so that tests can hand it a fault. It passes, fails with the next step,
or says why it cannot tell here; only a failure makes the command fail.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TypeVar

from profiler import backends
from profiler.backends.base import Placement
from profiler.errors import UserError
from profiler.machine import host
from profiler.machine.cache import cache_folder
from profiler.machine.conditions import since, snapshot
from profiler.machine.device import check_device, device_settings
from profiler.machine.finding import Finding
from profiler.machine.host_checks import (
    NETWORK,
    check_backend,
    check_clock,
    check_disk,
    check_noise,
    check_reference,
    check_threads,
    check_usable,
    check_versions,
)
from profiler.machine.nvml import GpuSettings
from profiler.measure.timing import SAMPLE_NS
from profiler.measure.visit import Reply, Task, visit
from profiler.records.types import Budget, Case, Conditions, Failure
from profiler.run.calibrations import reference_visits
from profiler.run.child import Limits
from profiler.run.processes import Executor, LocalExecutor

#: Seconds for which nothing of ours runs, to see what else does.
REST_S = 1.0

#: How long a backend runs ``NETWORK``.
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
    yield check_versions(host.versions())
    yield from check_clock([time.perf_counter_ns() for _ in range(20_000)], SAMPLE_NS)
    yield check_disk(cache_folder())
    yield check_noise(_rest(REST_S), REST_S, host.usable_cores())
    for count in sorted({1, host.usable_cores()}):
        yield _answered(f"threads ({count})", executor.call(use_threads, count, 60.0, Limits()), check_threads)
    usable = _answered("device", executor.call(device_reason, placement.device, 120.0, Limits()), check_usable)
    yield usable
    if usable.status == "pass":
        answer = reference_visits(placement, executor, 3, 0.3)
        yield check_reference(answer if isinstance(answer, Failure) else answer[1])
    for name in backends.available():
        if name != "fake":
            yield check_backend(name, _visited(name, placement, executor))
    if usable.status == "pass" and placement.device_type != "cpu":
        yield from _self_check(placement.device, executor)


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
    from profiler.backends import devices

    reason = devices.malformed(Placement(device)) or devices.unavailable(device)
    return device, reason, devices.untested(device)


def _rest(seconds: float) -> Conditions:
    before = snapshot()
    time.sleep(seconds)
    return since(before)


def _visited(name: str, placement: Placement, executor: Executor) -> object:
    task = Task(Case(NETWORK, "", 1.0, name, placement), BUDGET, None, cache_folder())
    reply = executor.call(visit, task, 300.0, Limits())
    return reply.outcome if isinstance(reply, Reply) else reply


def _self_check(device: str, executor: Executor) -> list[Finding]:
    answer = executor.call(check_device, device, 300.0, Limits())
    return [Finding("self-check", "fail", answer.reason)] if isinstance(answer, Failure) else answer


def _is_usable_accelerator(device: str, findings: Sequence[Finding]) -> bool:
    return Placement(device).device_type != "cpu" and any(f.check == "device" and f.status == "pass" for f in findings)


def _settings(device: str, executor: Executor) -> GpuSettings | str:
    answer = executor.call(device_settings, device, 120.0, Limits())
    return answer.reason if isinstance(answer, Failure) else answer


def _answered(name: str, answer: T | Failure, check: Callable[[T], Finding]) -> Finding:
    return Finding(name, "fail", answer.reason) if isinstance(answer, Failure) else check(answer)


def settings_rows(gpu: GpuSettings) -> list[tuple[str, str]]:
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


def _print_table(device: str, findings: Sequence[Finding], settings: GpuSettings | str | None) -> None:
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


def _print_json(device: str, findings: Sequence[Finding], settings: GpuSettings | str | None) -> None:
    answer = {
        "device": device,
        "host": {"key": host.key(), **host.facts()},
        "findings": [asdict(finding) for finding in findings],
        "settings": None if settings is None or isinstance(settings, str) else asdict(settings),
        "settings_note": settings if isinstance(settings, str) else None,
    }
    print(json.dumps(answer, indent=1))
