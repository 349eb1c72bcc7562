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
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def wide() -> tuple[torch.nn.Module, torch.Tensor]:
    return Wide(), _example()


def many() -> tuple[torch.nn.Module, torch.Tensor]:
    return Many(), _example()


def waits() -> tuple[torch.nn.Module, torch.Tensor]:
    return Waits(), _example()


def ten() -> tuple[torch.nn.Module, torch.Tensor]:
    return Ten(), _example()


def main(library: Path) -> dict[str, object]:
    sim = Simulator(library)
    time.perf_counter_ns = sim.clock  # before anything takes it for its clock

    from profiler.backends import accelerator
    from profiler.backends.base import Placement
    from profiler.measure import visit
    from profiler.records.reading import Run
    from profiler.records.table import rows
    from profiler.records.types import Budget, Case, Measurement, Memory, Record

    visit.core_wait = lambda _threads: None  # the system's clock is not the simulated one
    costs = {"convolution": CONVOLUTION, "sigmoid.out": SMALL, "sigmoid": SMALL}
    for name, ns in costs.items():
        sim.cost(f"aten::{name}", ns)
    sim.cost("aten::zero_", 10 * US)

    def case(model: str, backend: str = "eager", device: str = "sim:1", **other: object) -> Case:
        return Case(f"{__file__}:{model}", "", 1.0, backend, Placement(device), 2, **other)

    def visited(one: Case, measures: str = "latency") -> object:
        budget = Budget(visit_s=0.3, warmup_s=0.1, min_samples=3)
        return visit.visit(visit.Task(one, budget, None, None, measures, energy=False))

    def told(outcome: object) -> dict[str, object]:
        if not isinstance(outcome, Measurement):
            return asdict(outcome)  # type: ignore[call-overload]
        return {**asdict(outcome), "host": [ns for block in outcome.samples_ns for ns in block]}

    def row(one: Case, *visits: object) -> dict[str, object]:
        records = tuple(
            Record(one, None, None, "host", n, "2026-01-01T00:00:00+00:00", 1.0, made)  # type: ignore[arg-type]
            for n, made in enumerate(visits)
        )
        (found,) = rows(Run(Path("journal.jsonl"), records=records))
        return {name: value for name, value in found.items() if value is not None}

    def plain() -> dict[str, object]:
        one = case("wide")
        made = visited(one)
        return {"visit": told(made), "row": row(one, made, made)}

    def copies() -> dict[str, object]:
        sim.cost("copy_in", COPY_IN)
        sim.cost("copy_out", COPY_OUT)
        made = visited(case("wide"))
        sim.cost("copy_in", 0)
        sim.cost("copy_out", 0)
        return told(made)

    def launches(model: str) -> dict[str, object]:
        one = case(model)
        made = visited(one)
        return {"visit": told(made), "row": row(one, made, made)}

    def unheld() -> dict[str, object]:
        """Events around launches that nothing holds up, as they were once read."""
        module, x = Many(), _example().to("sim:1")
        device = torch.device("sim:1")
        start, end = (torch.Event(device, enable_timing=True) for _ in range(2))
        torch.accelerator.synchronize(device)
        start.record(torch.accelerator.current_stream(device))
        module(x)
        end.record(torch.accelerator.current_stream(device))
        torch.accelerator.synchronize(device)
        held = accelerator.device_times(lambda: module(x), device, 3)
        return {"ns": round(start.elapsed_time(end) * 1e6), "held_ns": held.ns, "queued": held.queued}

    def clocks() -> dict[str, object]:
        one, visits = case("wide"), []
        for mhz in (1000, 960):
            sim.clock_mhz(mhz)
            visits.append(visited(one))
        sim.clock_mhz(1000)
        return {"looks": [made.clock_mhz for made in visits], "reason": row(one, *visits)["reason"]}  # type: ignore[attr-defined]

    def memory() -> dict[str, object]:
        """A runtime with an allocator of its own takes 100 MiB when it loads, and another 50 MiB come and go before."""
        one = case("wide")
        real, taken = visit.backends.get, []

        def get(name: str) -> object:
            backend = real(name)

            class Other:
                name = backend.name
                unavailable = backend.unavailable

                @staticmethod
                def load(*given: object) -> object:
                    taken.append(sim.others(1, 150 * MIB))
                    return backend.load(*given)

            return Other()

        sim.others(1, 50 * MIB)
        sim.others(0, 70 * MIB)
        visit.backends.get = get
        try:
            made = visited(one, "memory")
        finally:
            visit.backends.get = real
            sim.others(1, 0)
            sim.others(0, 0)
        assert isinstance(made, Memory)
        return {"load": made.load_bytes, "run": made.run_bytes, "taken": len(taken)}

    def train() -> dict[str, object]:
        sim.cost("aten::addmm", MS)
        sim.cost("aten::mm", MS)
        return told(visited(replace(case("ten"), mode="train")))

    scenarios: dict[str, Callable[[], object]] = {
        "plain": plain,
        "copies": copies,
        "many": lambda: launches("many"),
        "waits": lambda: launches("waits"),
        "unheld": unheld,
        "clocks": clocks,
        "memory": memory,
        "train": train,
        "elsewhere": lambda: told(visited(case("wide", device="sim:2"))),
    }
    return {name: scenario() for name, scenario in scenarios.items()}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
