"""What else a machine did while a visit was timed."""

from __future__ import annotations

from dataclasses import dataclass

from profiler.records.ranges import Amount, Count


@dataclass(frozen=True, slots=True)
class Conditions:
    """What else the machine did during the timed part of a visit. None where the system does not tell.

    Attributes:
        involuntary_switches: Times the process was taken off a core against its will.
        steal_s: CPU time taken by the hypervisor, all cores, in seconds.
        stall_s: Time in which some task waited for a CPU (Linux pressure stall, ``some``), in seconds.
        throttled_s: Time the control group was throttled, in seconds.
        frequency_mhz: Mean frequency of the cores after the visit.
        load: Cores kept busy by other processes, on average.
        gpu_readings: Looks at the GPU; None without one, 0 when none fell into the timed part.
        gpu_clock_mhz: Median clock of the multiprocessors.
        gpu_clock_min_mhz: Lowest clock of the multiprocessors.
        gpu_memory_clock_mhz: Median clock of the GPU's memory.
        gpu_temperature_c: Highest temperature of the GPU, in degrees Celsius.
        gpu_power_w: Mean power from the GPU's energy counter, model and reference together.
        gpu_utilisation: Mean share of time in which a kernel ran, 0 to 1.
        gpu_memory_bytes: Most memory of the GPU that NVML counts for this process.
        gpu_foreign_processes: Most other processes with a compute context on the GPU.
        gpu_slowdown: Thermal or power reasons for which the GPU slowed itself down; empty when it did not.
        gpu_note: Why readings are missing or end early.
    """

    involuntary_switches: Count | None = None
    steal_s: Amount | None = None
    stall_s: Amount | None = None
    throttled_s: Amount | None = None
    frequency_mhz: Amount | None = None
    load: Amount | None = None
    gpu_readings: Count | None = None
    gpu_clock_mhz: Amount | None = None
    gpu_clock_min_mhz: Amount | None = None
    gpu_memory_clock_mhz: Amount | None = None
    gpu_temperature_c: Amount | None = None
    gpu_power_w: Amount | None = None
    gpu_utilisation: Amount | None = None
    gpu_memory_bytes: Count | None = None
    gpu_foreign_processes: Count | None = None
    gpu_slowdown: str | None = None
    gpu_note: str | None = None
