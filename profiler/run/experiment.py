"""Measure cases into a folder: the one way, whoever asks."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.measure.calibration import Calibration
from profiler.records import journal as store
from profiler.records.reading import Run, read
from profiler.records.types import Case
from profiler.run import rounds as runs
from profiler.run.lab import Lab
from profiler.run.schedule import Progress

if TYPE_CHECKING:
    from profiler.plan.plan import Plan


@dataclass(frozen=True, slots=True)
class _Bench:
    """Measures cases of a plan into a folder, by the machinery of ``profiler run``."""

    plan: Plan
    folder: Path
    lab: Lab
    known: Mapping[str, Calibration]
    how: str
    resume: bool

    def measure(self, cases: Sequence[Case], subfolder: str) -> Run:
        """See ``Measure``."""
        from rich.console import Console

        from profiler.records import table
        from profiler.records.columns import write_csv
        from profiler.run.display import Live

        folder = self.folder / subfolder
        seed = self.plan.seed if self.plan.seed is not None else random.SystemRandom().randrange(2**31)
        kept = {name: asdict(made) for name, made in self.known.items()}
        facts = runs.session_facts(self.plan, cases, seed) | {"calibrations": kept}
        progress = Progress(cases, self.plan.budget, levels=self.lab.levels)
        with store.Journal.open(folder, facts, resume=self.resume) as journal, Live(Console(stderr=True)) as shown:
            for record in journal.earlier.records:
                progress.add(record)
            complete = runs.measure_all(journal, progress, seed, self.lab, shown)
        found = read(folder)
        write_csv(table.rows(found), folder / "cases.csv")
        if not complete:
            print(f"stopped; continue with: {self.how}", file=sys.stderr)
            raise KeyboardInterrupt
        return found
