"""Whether the numbers of a device can be believed: checks over a small interface, so that they run against a simulator.

Each check asks the device for something whose answer is known by construction: twice the work takes twice the time, a
held block is as large as it is, a submission returns before its work is done. A check passes, fails, or says why it
cannot tell here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from profiler.machine.bench import Bench
from profiler.machine.finding import Finding, judged
from profiler.machine.nvml import Gpu

#: Bytes that the memory check holds: a whole number of every allocator's pages, so that the peak is exact.
_HELD_BYTES = 256 << 20
#: A unit of work that takes as long as the one before it, within this share, is timed at a clock that stands still; so
#: many units are waited for, a second of most GPUs' idle clocks.
_REPEATS, _TURNS = 0.01, 40
#: Edges of the matrix products; the second costs 8 times the first, and no less than 4 times on a GPU that the first
#: leaves half idle.
_EDGES = (2048, 4096)
#: Multiply-adds that a multiprocessor can do per clock in fp32 without tensor cores: no NVIDIA generation does more
#: than 128 (CUDA C++ Programming Guide, "Arithmetic Instructions").
_LANES = 128
#: Seconds of load for the check of energy and utilisation: NVML averages over up to a second.
_LOAD_S = 2.0
#: A ratio. A GPU that computes takes at least so many times the energy of one at rest.
_MORE_ENERGY = 1.2


def _events_scale(bench: Bench) -> Finding:
    """Twice the work takes twice the time by events."""
    once, twice = _settled_ns(bench), bench.event_ns(2)
    if once is None or twice is None:
        return Finding("events scale", "unverifiable", "this device has no events that keep time")
    if once <= 0:
        return Finding("events scale", "fail", f"work took {_ms(once)} by events: they are not in its stream")
    ratio = twice / once
    said = f"twice the work took {ratio:.3f} times the event time ({_ms(once)}, {_ms(twice)})"
    return _within("events scale", ratio, 1.9, 2.1, said, "the events do not time the work")


def _events_match_host(bench: Bench, clock: Callable[[], int]) -> Finding:
    """Time by events is time by the host's clock until the wait is over."""
    events = bench.event_ns(4)
    _, total = _host_ns(bench, 4, clock)
    if events is None:
        return Finding("events match the host", "unverifiable", "this device has no events that keep time")
    said = f"4 units took {_ms(events)} by events and {_ms(total)} on the host"
    remedy = "waiting for the device does not wait, or the events are in another stream"
    return _within("events match the host", total / max(events, 1), 0.95, 1.2, said, remedy)


def _submission_is_asynchronous(bench: Bench, clock: Callable[[], int]) -> Finding:
    """A submission returns long before its work is done; otherwise what is timed is the submission."""
    launch, total = _host_ns(bench, 4, clock)
    said = f"submitting took {_ms(launch)}, the work {_ms(total)}"
    remedy = "either waiting does not wait, or launches block (is CUDA_LAUNCH_BLOCKING set?)"
    return _within("asynchronous", launch / max(total, 1), 0, 0.5, said, remedy)


def _peak_is_exact(bench: Bench) -> Finding:
    """Holding a block moves the allocator's peak by exactly its size, also after a larger block was held before."""
    with bench.holding(2 * _HELD_BYTES):
        pass
    bench.reset_peak()
    before = bench.peak()
    with bench.holding(_HELD_BYTES):
        pass
    after = bench.peak()
    if before is None or after is None:
        return Finding("memory peak", "unverifiable", "nobody counts the memory of this device")
    said = f"holding {_HELD_BYTES >> 20} MiB moved the peak by {(after - before) / 2**20:g} MiB"
    return judged("memory peak", after - before == _HELD_BYTES, said, "the peak is not reset, or not this device's")


def _driver_agrees(bench: Bench, driver: Gpu) -> Finding:
    """The driver knows the device by its UUID under the same name."""
    said = f"torch calls it {bench.name!r}, the driver {driver.name!r}"
    if driver.name is None:
        return Finding("identity", "unverifiable", said)
    # A partition that is known by its GPU's UUID has the GPU's name there, and the profile behind it here.
    names = [bench.name, *([str(bench.name).partition(" MIG ")[0]] if driver.is_partition else [])]
    return judged("identity", driver.name in names, said, "the driver's figures would be another GPU's")


def _own_process_is_listed(bench: Bench, driver: Gpu, pid: int) -> Finding:
    """The driver lists this process on the device."""
    bench.sync()
    listed = driver.read().processes
    if listed is not None and pid in [process for process, _ in listed]:
        return Finding("own process", "pass", f"the driver lists process {pid} among {len(listed)}")
    why = "the driver does not tell" if listed is None else "it lists others: a container has its own numbers"
    return Finding("own process", "unverifiable", f"process {pid} is not in the driver's list: {why}")


def _driver_sees_memory(bench: Bench, driver: Gpu) -> Finding:
    """What is held here is in use there: the strongest proof that both mean the same device."""
    before = driver.read().used_bytes
    with bench.holding(_HELD_BYTES):
        bench.sync()
        after = driver.read().used_bytes
    if before is None or after is None:
        return Finding("driver sees memory", "unverifiable", "the driver does not tell how much memory is in use")
    said = f"holding {_HELD_BYTES >> 20} MiB raised the driver's figure by {(after - before) / 2**20:g} MiB"
    return judged("driver sees memory", after - before >= _HELD_BYTES, said, "the driver's figures are another GPU's")


def _load_is_seen(bench: Bench, driver: Gpu, clock: Callable[[], int], sleep: Callable[[float], None]) -> Finding:
    """Under load the driver reports more utilisation than at rest, and clearly more energy, where it tells them."""
    submit = bench.product(_EDGES[1])  # sleeping work keeps one multiprocessor busy, which is lost in the idle draw
    bench.sync()
    first = driver.read()
    sleep(_LOAD_S)
    rested = driver.read()
    end = clock() + round(_LOAD_S * 1e9)
    while clock() < end:
        submit()
        bench.sync()
    loaded = driver.read()
    shares = _pair(rested.utilisation, loaded.utilisation)
    joules = _pair(_delta(first.energy_j, rested.energy_j), _delta(rested.energy_j, loaded.energy_j))
    if shares is None and joules is None:
        return Finding("load is seen", "unverifiable", "the driver tells neither utilisation nor energy")
    said = "; ".join(
        f"{what} went from {pair[0]:.3g} to {pair[1]:.3g}"
        for what, pair in (("utilisation", shares), ("energy in joules", joules))
        if pair is not None
    )
    if shares is None and driver.is_partition:
        return Finding("load is seen", "unverifiable", f"{said}, of the whole GPU: its other partitions count in it")
    busier = shares is None or shares[1] > shares[0]
    hotter = joules is None or joules[1] > _MORE_ENERGY * max(joules[0], 0.0)
    remedy = "the driver's figures are another GPU's, or the GPU was busy" if not busier else "do not use its energy"
    return judged("load is seen", busier and hotter, said, remedy)


def _products_scale(bench: Bench, driver: Gpu | None, clock: Callable[[], int]) -> Finding:
    """A matrix product twice as wide costs about 8 times as much, and none beats the arithmetic of the GPU."""
    times = [_product_ns(bench, edge, clock) for edge in _EDGES]
    ratio = times[1] / max(times[0], 1)
    reached = 2 * _EDGES[1] ** 3 / max(times[1], 1) * 1e9
    said = f"{_EDGES[1]} wide took {ratio:.1f} times {_EDGES[0]} wide and reached {reached / 1e12:.3g} TFLOP/s"
    most = _most_flops(bench, driver)
    if most is not None and reached > most:
        return Finding("products scale", "fail", f"{said}, {most / 1e12:.3g} are possible: waiting does not wait")
    return _within("products scale", ratio, 4, 12, said, "the timing does not follow the work")


def _graph_equals_launches(bench: Bench) -> Finding:
    """A replayed CUDA graph computes what plain launches compute."""
    difference = bench.graph_difference()
    if difference is None:
        return Finding("graph", "unverifiable", "this device has no CUDA graphs")
    said = f"a replayed graph differs by {difference:.2g} from plain launches"
    return _within("graph", difference, 0, 1e-5, said, "do not use cuda_graph=1 here")


def run_checks(
    bench: Bench,
    driver: Gpu | None,
    note: str,
    clock: Callable[[], int] = time.perf_counter_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Finding]:
    """Run every check; one that raises has failed.

    Args:
        bench: The device.
        driver: The driver's view of it, or None.
        note: Why there is no driver's view.
        clock: Nanoseconds.
        sleep: Lets seconds pass.
    """
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("events scale", lambda: _events_scale(bench)),
        ("events match the host", lambda: _events_match_host(bench, clock)),
        ("asynchronous", lambda: _submission_is_asynchronous(bench, clock)),
        ("memory peak", lambda: _peak_is_exact(bench)),
        ("products scale", lambda: _products_scale(bench, driver, clock)),
        ("graph", lambda: _graph_equals_launches(bench)),
    ]
    if driver is None:
        names = ("identity", "own process", "driver sees memory", "load is seen")
        return [_attempt(*check) for check in checks] + [Finding(name, "unverifiable", note) for name in names]
    checks += [
        ("identity", lambda: _driver_agrees(bench, driver)),
        ("own process", lambda: _own_process_is_listed(bench, driver, os.getpid())),
        ("driver sees memory", lambda: _driver_sees_memory(bench, driver)),
        ("load is seen", lambda: _load_is_seen(bench, driver, clock, sleep)),
    ]
    return [_attempt(*check) for check in checks]


def _within(check: str, value: float, low: float, high: float, said: str, remedy: str) -> Finding:
    return judged(check, low <= value <= high, said, f"expected {low:g} to {high:g}: {remedy}")


def _attempt(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - whatever the device raises is what the check found
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Finding(name, "fail", f"the check itself failed: {first}")


def _host_ns(bench: Bench, units: int, clock: Callable[[], int]) -> tuple[int, int]:
    """Return the host's time until the submission returned, and until the work was done."""
    bench.sync()
    start = clock()
    bench.work(units)
    submitted = clock()
    bench.sync()
    return submitted - start, clock() - start


def _product_ns(bench: Bench, edge: int, clock: Callable[[], int], calls: int = 5) -> int:
    """Return the fastest of some products, by the host's clock."""
    submit = bench.product(edge)
    times = []
    for _ in range(calls):
        bench.sync()
        start = clock()
        submit()
        bench.sync()
        times.append(clock() - start)
    return min(times)


def _most_flops(bench: Bench, driver: Gpu | None) -> float | None:
    if driver is None or driver.max_clock_mhz is None or bench.processors is None:
        return None
    return 2.0 * bench.processors * _LANES * driver.max_clock_mhz * 1e6


def _delta(first: float | None, last: float | None) -> float | None:
    return None if first is None or last is None else last - first


def _pair(first: float | None, last: float | None) -> tuple[float, float] | None:
    return None if first is None or last is None else (first, last)


def _settled_ns(bench: Bench) -> int | None:
    """Return the time of one unit by events once it repeats: a GPU at rest takes a while to leave its idle clock."""
    last = bench.event_ns(1)
    for _ in range(_TURNS):
        before, last = last, bench.event_ns(1)
        if before is None or last is None or abs(last - before) <= _REPEATS * before:
            break
    return last


def _ms(ns: int) -> str:
    return f"{ns / 1e6:.3f} ms"
