"""What a row says of an accelerator: time by its own events, and what it and its driver told beside it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from profiler.records.clocks import at_power_limit, clock_moved, slowdowns
from profiler.records.columns import Row
from profiler.records.intervals import interval
from profiler.records.types import Case, Measurement
from profiler.units import format_share

#: A ratio. A forward whose host's time is so many times the device's waits for launches. Submitting, waiting and the
#: first kernel's start take some ten microseconds, a tenth of a forward of a tenth of a millisecond.
_LAUNCH_BOUND = 1.2
_MS = 1e6
#: A device's queue holds about a thousand kernels.
_WAITS = (
    "device_ms may hold waits for the host: the model asks for a value within a forward, or has more kernels than the "
    "device's queue holds"
)
#: Backends with an option that replays a forward as CUDA graphs, and how that is asked for.
_WITH_GRAPHS = {
    "eager": "eager:cuda_graph=1",
    "onnxruntime": "onnxruntime:cuda_graph=1",
    "compile": "compile:mode=reduce-overhead",
}


def of_device(good: Sequence[Measurement], host_ns: float | None, pilot: int) -> Row:
    """Return the device's own account; None where it does not tell.

    Args:
        good: The visits of a case.
        host_ns: The headline, in ns.
        pilot: As in ``profiler.records.estimate.case_estimate``.
    """
    joules = [m.energy_j for m in good if m.energy_j is not None]
    slow = [m.conditions.gpu_slowdown for m in good if m.conditions.gpu_slowdown]
    return _of_events(good, host_ns, pilot) | {
        "input_ms": _median([ns / _MS for m in good for ns in m.input_ns]),
        "output_ms": _median([ns / _MS for m in good for ns in m.output_ns]),
        "probe_clock_mhz": _median([clock for m in good for clock in m.clock_mhz]),
        "stream_gb_s": _median([speed for m in good for speed in m.stream_gb_s]),
        "gpu_clock_mhz": _told(good, "gpu_clock_mhz", statistics.median),
        "gpu_temperature_c": _told(good, "gpu_temperature_c", max),
        "gpu_power_w": _told(good, "gpu_power_w", statistics.median),
        "energy_j": _median(joules),
        "gpu_foreign_processes": _told(good, "gpu_foreign_processes", max),
        "gpu_slowdown": ", ".join(dict.fromkeys(slow)) or None,
        "simulated": "true" if any(m.facts.get("simulated") for m in good) else None,
    }


def _of_events(good: Sequence[Measurement], host_ns: float | None, pilot: int) -> Row:
    """Time by events by the rule of the headline: the middle of the visits' medians, with its interval over them."""
    medians = [statistics.median(m.device_ns) for m in good if m.device_ns]
    if not medians or min(medians) <= 0:
        return {}
    centre, half = interval([math.log(ns) for ns in medians], pilot)
    device_ns = math.exp(centre)
    ends: Row = {}
    if half is not None:
        ends = {
            "device_ci_low_ms": math.exp(centre - half) / _MS,
            "device_ci_high_ms": math.exp(centre + half) / _MS,
        }
    bound = host_ns is not None and host_ns > _LAUNCH_BOUND * device_ns
    # A time that waits for the host in it tells no more than that a forward is launch-bound.
    known = bound or all(m.facts.get("device_queued") for m in good)
    return {"device_ms": device_ns / _MS, "launch_bound": str(bound).lower() if known else None} | ends


def device_notes(case: Case, good: Sequence[Measurement], row: Row) -> list[str]:
    """Return what whoever reads the row of an accelerator should know, a sentence each."""
    queued = {m.facts["device_queued"] for m in good if m.device_ns and "device_queued" in m.facts}
    waits = _WAITS if False in queued else ""
    return [note for note in (_launches(case, row, waits), waits, _clocks(good), _slowed(good), _limited(good)) if note]


def _launches(case: Case, row: Row, waits: str) -> str:
    host, device = row.get("latency_ms"), row.get("device_ms")
    if row.get("launch_bound") != "true" or not isinstance(host, float) or not isinstance(device, float):
        return ""
    said = f"launch-bound: the device works for {device:.3g} of {host:.3g} ms and waits for the host in the others"
    name = case.backend.partition(":")[0]
    has_graphs = name in _WITH_GRAPHS and not any(word in case.backend for word in ("cuda_graph", "provider", "mode"))
    if not has_graphs or case.mode != "infer" or waits:
        return said
    return f"{said}; a CUDA graph ({_WITH_GRAPHS[name]}) would take about {device:.3g} ms"


def _clocks(good: Sequence[Measurement]) -> str:
    moved = clock_moved(good)
    if moved is None:
        return ""
    return (
        f"the GPU's clock moved by {format_share(moved.share)} ({moved.lowest:.0f} to {moved.highest:.0f} MHz) between "
        "or within visits: lock it with --lock-clocks, or read device_ms beside probe_clock_mhz"
    )


def _slowed(good: Sequence[Measurement]) -> str:
    """Which visits ran while the GPU slowed itself down, and why; empty when none did."""
    slow = [reasons for reasons in map(slowdowns, good) if reasons]
    named = ", ".join(dict.fromkeys(reason for reasons in slow for reason in reasons))
    return f"in {len(slow)} of {len(good)} visits the GPU slowed itself down ({named})" if slow else ""


def _limited(good: Sequence[Measurement]) -> str:
    count = sum(map(at_power_limit, good))
    return f"in {count} of {len(good)} visits the GPU worked at its power limit" if count else ""


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _told(good: Sequence[Measurement], name: str, statistic: Callable[[list[float]], float]) -> float | None:
    values = [value for value in (getattr(m.conditions, name) for m in good) if value is not None]
    return statistic(values) if values else None
