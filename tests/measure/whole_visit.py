"""Runs in a process of its own, with the simulated accelerator loaded: whole visits, on a clock where all is known.

Usage: ``python tests/measure/whole_visit.py LIBRARY``; prints one JSON object, name of the scenario -> what came out.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.backends.simulator import Simulator

US, MS, MIB = 1_000, 1_000_000, 1 << 20
CONVOLUTION, SMALL, COPY_IN, COPY_OUT = 5 * MS, US, 3 * MS, 7 * MS
KERNELS = 20


class Wide(torch.nn.Module):
    """Two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layers(x)
        return y.flatten(1)


class Many(torch.nn.Module):
    """So many small kernels, each over before the next is launched."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(KERNELS):
            x = torch.sigmoid(x)
        return x


class Waits(Many):
    """The same, with a look at a value in the middle, for which the host waits."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = super().forward(x)
        return super().forward(x if x.sum().item() > 0 else -x)


class Ten(torch.nn.Module):
    """Ten classes, as training wants them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3 * 8 * 8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layer(x.flatten(1))
        return y


def _example() -> torch.Tensor:
    return torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def wide() -> tuple[torch.nn.Module, torch.Tensor]:
    return Wide(), _example()


def many() -> tuple[torch.nn.Module, torch.Tensor]:
    return Many(), _example()


def waits() -> tuple[torch.nn.Module, torch.Tensor]:
    return Waits(), _example()


def ten() -> tuple[torch.nn.Module, torch.Tensor]:
    return Ten(), _example()


class Visits:
    """Whole visits to the simulator; the profiler is imported when its clock is the simulated one."""

    def __init__(self, sim: Simulator) -> None:
        time.perf_counter_ns = sim.clock  # before anything takes it for its clock
        from profiler.measure import visit

        visit.core_wait = lambda _threads: None  # the system's clock is not the simulated one
        self.sim, self.module = sim, visit
        for name, ns in {"convolution": CONVOLUTION, "sigmoid": SMALL, "zero_": 10 * US}.items():
            sim.cost(f"aten::{name}", ns)

    def case(self, model: str, device: str = "sim:1") -> Any:
        from profiler.backends.base import Placement
        from profiler.records.types import Case

        return Case(f"{__file__}:{model}", "", 1.0, "eager", Placement(device), 2)

    def visited(self, one: Any, measures: str = "latency") -> Any:
        from profiler.records.types import Budget

        budget = Budget(visit_s=0.3, warmup_s=0.1, min_samples=3)
        return self.module.visit(self.module.Task(one, budget, None, None, measures, energy=False))

    def row(self, one: Any, *visits: Any) -> dict[str, Any]:
        from profiler.records.reading import Run
        from profiler.records.table import rows
        from profiler.records.types import Record

        when = "2026-01-01T00:00:00+00:00"
        records = tuple(Record(one, None, None, "host", n, when, 1.0, made) for n, made in enumerate(visits))
        (found,) = rows(Run(Path("journal.jsonl"), records=records))
        return {name: value for name, value in found.items() if value is not None}

    def of(self, model: str) -> dict[str, Any]:
        """A visit, and the row of two such."""
        one = self.case(model)
        made = self.visited(one)
        return {"visit": told(made), "row": self.row(one, made, made)}

    def copies(self) -> dict[str, Any]:
        self.sim.cost("copy_in", COPY_IN)
        self.sim.cost("copy_out", COPY_OUT)
        made = self.visited(self.case("wide"))
        self.sim.cost("copy_in", 0)
        self.sim.cost("copy_out", 0)
        return told(made)

    def unheld(self) -> dict[str, Any]:
        """Events around launches that nothing holds up, as they were once read."""
        from profiler.backends import accelerator

        module, x, device = Many(), _example().to("sim:1"), torch.device("sim:1")
        start, end = (torch.Event(device, enable_timing=True) for _ in range(2))
        torch.accelerator.synchronize(device)
        start.record(torch.accelerator.current_stream(device))
        module(x)
        end.record(torch.accelerator.current_stream(device))
        torch.accelerator.synchronize(device)
        held = accelerator.device_times(lambda: module(x), device, 3)
        enough, accelerator._HELD_CYCLES = accelerator._HELD_CYCLES, 1
        late = accelerator.device_times(lambda: module(x), device, 3)
        accelerator._HELD_CYCLES = enough
        return {
            "ns": round(start.elapsed_time(end) * 1e6),
            "held_ns": held.ns,
            "queued": held.queued,
            "late": (late.ns, late.queued),
        }

    def clocks(self) -> dict[str, Any]:
        one, visits = self.case("wide"), []
        for mhz in (1000, 960):
            self.sim.clock_mhz(mhz)
            visits.append(self.visited(one))
        self.sim.clock_mhz(1000)
        return {"looks": [made.clock_mhz for made in visits], "reason": self.row(one, *visits)["reason"]}

    def memory(self) -> dict[str, Any]:
        """A runtime with an allocator of its own takes 100 MiB of the second device when it loads."""
        real, taken, sim = self.module.backends.get, [], self.sim

        class Other:
            def __init__(self, name: str) -> None:
                self.backend = real(name)
                self.name, self.unavailable = self.backend.name, self.backend.unavailable

            def load(self, *given: Any) -> Any:
                taken.append(sim.others(1, 150 * MIB))
                return self.backend.load(*given)

        sim.others(1, 50 * MIB)
        sim.others(0, 70 * MIB)
        self.module.backends.get = Other
        try:
            made = self.visited(self.case("wide"), "memory")
        finally:
            self.module.backends.get = real
            sim.others(1, 0)
            sim.others(0, 0)
        return {"load": made.load_bytes, "run": made.run_bytes, "taken": len(taken)}

    def train(self) -> dict[str, Any]:
        self.sim.cost("aten::addmm", MS)
        self.sim.cost("aten::mm", MS)
        return told(self.visited(replace(self.case("ten"), mode="train")))


def told(outcome: Any) -> dict[str, Any]:
    found = asdict(outcome)
    return found | {"host": [ns for block in found.get("samples_ns", ()) for ns in block]}


def main(library: Path) -> dict[str, Any]:
    visits = Visits(Simulator(library))
    scenarios: dict[str, Callable[[], Any]] = {
        "plain": lambda: visits.of("wide"),
        "copies": visits.copies,
        "many": lambda: visits.of("many"),
        "waits": lambda: visits.of("waits"),
        "unheld": visits.unheld,
        "clocks": visits.clocks,
        "memory": visits.memory,
        "train": visits.train,
        "elsewhere": lambda: told(visits.visited(visits.case("wide", device="sim:2"))),
    }
    return {name: scenario() for name, scenario in scenarios.items()}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
