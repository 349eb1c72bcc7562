"""The observations of ``profiler doctor``: each made where it can be, in a process of its own or here, and checked.

Every check is a function of what was observed, so that tests can hand it a fault. It passes, fails with the next step,
or says why it cannot tell here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from profiler import backends
from profiler.backends import devices
from profiler.backends.base import Placement
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
from profiler.measure.timing import SAMPLE_NS
from profiler.measure.visit import Task, visit
from profiler.records.circumstances import Conditions
from profiler.records.types import Budget, Case, Failure
from profiler.run.calibrations import reference_visits
from profiler.run.child import Limits
from profiler.run.processes import Executor, LocalExecutor

if TYPE_CHECKING:
    from profiler.machine.nvml import GpuSettings

#: Seconds for which nothing of ours runs, to see what else does.
_REST_S = 1.0

#: How long a backend runs ``NETWORK``.
_BUDGET = Budget(visit_s=0.2, min_samples=3, warmup_s=0.5, rounds=1)

_T = TypeVar("_T")


def examine(placement: Placement) -> tuple[list[Finding], GpuSettings | str | None]:
    """Examine this machine for measuring on ``placement``.

    Returns:
        The findings, in the order in which a user would fix things, and an accelerator's settings: why they are not
        told, or None where it does not work or is none.
    """
    executor = LocalExecutor()
    try:
        findings = list(_findings(placement, executor))
        works = any(finding.check == "device" and finding.status == "pass" for finding in findings)
        if placement.device_type == "cpu" or not works:
            return findings, None
        answer = executor.call(device_settings, placement.device, 120.0, Limits())
        return findings, answer.reason if isinstance(answer, Failure) else answer
    finally:
        executor.close()


def _findings(placement: Placement, executor: Executor) -> Iterator[Finding]:
    yield check_versions(host.versions())
    yield from check_clock([time.perf_counter_ns() for _ in range(20_000)], SAMPLE_NS)
    yield check_disk(cache_folder())
    yield check_noise(_rest(_REST_S), _REST_S, host.usable_cores())
    for count in sorted({1, host.usable_cores()}):
        yield _answered(f"threads ({count})", executor.call(_use_threads, count, 60.0, Limits()), check_threads)
    usable = _answered("device", executor.call(_device_reason, placement.device, 120.0, Limits()), check_usable)
    yield usable
    if usable.status == "pass" and placement.device_type == "cpu":
        answer = reference_visits(placement, executor, 3, 0.3)
        yield check_reference(answer if isinstance(answer, Failure) else answer[1])
    for name in backends.available():
        if name != "fake":
            yield check_backend(name, _visited(name, placement, executor))
    if usable.status == "pass" and placement.device_type != "cpu":
        yield from _self_check(placement.device, executor)


def _use_threads(count: int) -> tuple[int, int, float]:
    """In a process of its own: return ``count``, what torch says, and how many cores its work keeps busy."""
    import torch

    torch.set_num_threads(count)
    a, out = torch.rand(768, 768), torch.empty(768, 768)
    torch.mm(a, a, out=out)
    wall, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < 0.4:
        torch.mm(a, a, out=out)
    return count, torch.get_num_threads(), (time.process_time() - cpu) / (time.perf_counter() - wall)


def _device_reason(device: str) -> tuple[str, str | None, str | None]:
    """In a process of its own: return ``device``, why torch cannot use it, and the platform if it is untested."""
    reason = devices.malformed(Placement(device)) or devices.unavailable(device)
    return device, reason, devices.untested(device)


def _rest(seconds: float) -> Conditions:
    before = snapshot()
    time.sleep(seconds)
    return since(before)


def _visited(name: str, placement: Placement, executor: Executor) -> object:
    task = Task(Case(NETWORK, "", 1.0, name, placement), _BUDGET, None, cache_folder())
    return executor.call(visit, task, 300.0, Limits())


def _self_check(device: str, executor: Executor) -> list[Finding]:
    answer = executor.call(check_device, device, 300.0, Limits())
    return [Finding("self-check", "fail", answer.reason)] if isinstance(answer, Failure) else answer


def _answered(name: str, answer: _T | Failure, check: Callable[[_T], Finding]) -> Finding:
    return Finding(name, "fail", answer.reason) if isinstance(answer, Failure) else check(answer)
