"""Checks of the host: clock, threads, noise, disk, runtimes."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from profiler.machine.finding import Finding, judged
from profiler.records.circumstances import Conditions
from profiler.records.nominal import Calls, nominal
from profiler.records.types import Failure, Measurement
from profiler.units import format_duration

#: Reading the clock may cost this share of the shortest sample.
_CLOCK_SHARE = 0.001
#: Relative spread of the reference between fresh processes up to which results repeat. Latencies are ratios to the
#: reference and spread less.
_SPREAD = 0.15
#: Cores that other programs may keep busy, as a share of the usable ones; steal and stall as a share of time.
_BUSY, _STOLEN, _STALLED = 0.25, 0.05, 0.25

#: A small network that every backend runs.
NETWORK = "regnety_200mf"
#: Room for exported networks and journals.
_FREE_BYTES = 1 << 30


def check_versions(installed: Mapping[str, str]) -> Finding:
    """Torch is there, and not two distributions that overwrite each other."""
    listed = ", ".join(f"{name} {number}" for name, number in installed.items())
    if "torch" not in installed:
        return Finding("versions", "fail", "torch is not installed: pip install latency-profiler")
    if {"onnxruntime", "onnxruntime-gpu"} <= set(installed):
        remedy = "pip uninstall both, then install latency-profiler[cpu] or latency-profiler[gpu]"
        return Finding("versions", "fail", f"onnxruntime and onnxruntime-gpu overwrite each other: {remedy}")
    return Finding("versions", "pass", listed)


def check_clock(readings: Sequence[int], sample_ns: int) -> list[Finding]:
    """The clock never goes back, and reading it costs next to nothing.

    Args:
        readings: Consecutive readings, in nanoseconds, at least two that differ.
        sample_ns: The shortest sample that is timed.
    """
    steps = [after - before for before, after in itertools.pairwise(readings)]
    back = min(steps, default=0)
    monotonic = Finding("clock monotonic", "pass", f"{len(steps)} steps, none backwards")
    if back < 0:
        monotonic = Finding("clock monotonic", "fail", f"it went back by {-back} ns: choose another clock source")
    ahead = sorted(step for step in steps if step > 0)
    if not ahead:
        return [monotonic, Finding("clock resolution", "fail", "it stands still: choose another clock source")]
    allowed = sample_ns * _CLOCK_SHARE
    # The smallest step is the resolution. The mean is what a reading costs, however coarse the clock; that of the
    # quickest twentieth, because a process that is taken off its core only adds to it.
    size = max(1, len(steps) // 20)
    means = [sum(steps[at : at + size]) / size for at in range(0, len(steps) - size + 1, size)]
    cost = max(ahead[0], min(means))
    said = f"a reading costs or resolves {cost:.0f} ns, {allowed:.0f} ns are allowed"
    return [monotonic, judged("clock resolution", cost <= allowed, said, "choose another clock source (tsc)")]


def check_disk(folder: Path, free_bytes: int | None = None) -> Finding:
    """There is room where exports are kept."""
    if free_bytes is None:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free_bytes = shutil.disk_usage(existing).free
    said = f"{free_bytes / 2**30:.1f} GiB are free for the cache"
    return judged("free disk", free_bytes >= _FREE_BYTES, said, f"make room, or set XDG_CACHE_HOME (now {folder})")


def check_noise(conditions: Conditions, seconds: float, cores: int) -> Finding:
    """The machine is at rest.

    Args:
        conditions: What happened while nothing of ours ran.
        seconds: For how long.
        cores: Usable cores.
    """
    shares = {
        "other programs": (conditions.load, _BUSY * cores, "cores"),
        "steal": (_over(conditions.steal_s, seconds * cores), _STOLEN, "of the time"),
        "stall": (_over(conditions.stall_s, seconds), _STALLED, "of the time"),
        "throttled": (_over(conditions.throttled_s, seconds), 0.0, "of the time"),
    }
    told = {name: share for name, share in shares.items() if share[0] is not None}
    if not told:
        return Finding("noise", "unverifiable", "this system tells neither load nor steal")
    said = ", ".join(f"{name} {value:.2f} {unit}" for name, (value, _, unit) in told.items())
    loud = [name for name, (value, most, _) in told.items() if value is not None and value > most]
    return judged("noise", not loud, said, f"too much for steady results ({', '.join(loud)}): stop other programs")


def check_threads(seen: tuple[int, int, float]) -> Finding:
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


def check_reference(visits: Sequence[Calls] | Failure) -> Finding:
    """The reference takes the same time in fresh processes."""
    if isinstance(visits, Failure):
        return Finding("reference", "fail", visits.reason)
    centre, spread = nominal(visits)
    said = f"{centre / 1e6:.3f} ms, {spread:.1%} spread over {len(visits)} processes"
    if all(calls.crowded for calls in visits):
        said += ", all of which waited for a core"
        return Finding("reference", "fail", f"{said}: stop other programs")
    return judged("reference", spread <= _SPREAD, said, "too much for steady results: stop other programs")


def check_usable(answer: tuple[str, str | None, str | None]) -> Finding:
    """Torch computes on the device; nothing less proves that it is there.

    Args:
        answer: Device, why torch cannot use it, and its platform where this project is untested on it.
    """
    device, reason, untested = answer
    if reason:
        return Finding("device", "fail", reason)
    label = f"; latency-profiler is untested on {untested}: believe only what passes below" if untested else ""
    return Finding("device", "pass", f"torch computes on {device}{label}")


def check_backend(name: str, outcome: object) -> Finding:
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


def _over(amount: float | None, whole: float) -> float | None:
    return None if amount is None else amount / whole
