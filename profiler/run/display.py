"""What the user sees while cases are measured. Nothing is drawn while a visit runs: the parent must sleep then."""

from __future__ import annotations

import statistics
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from profiler.records.types import Case, Failure, Record
from profiler.run.schedule import Progress
from profiler.units import format_duration


class Watcher(Protocol):
    """Whoever is told what is measured."""

    def before(self, case: Case, number: int, progress: Progress) -> None:
        """Hear of a visit that begins; the parent must sleep until it ends."""

    def after(self, record: Record) -> None:
        """Hear of a visit that has ended."""


class Display:
    """One line on a terminal, one line per failure; elsewhere (a log, CI) a line per round.

    Args:
        console: Where to show it; None shows nothing.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console
        self._bar = _bar(console) if console and console.is_terminal else None
        self._round = -1
        self._seconds: list[float] = []

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._bar:
            self._bar.stop()

    def before(self, case: Case, number: int, progress: Progress) -> None:
        """Show what runs now and the time left; nothing is drawn until ``after``: the parent must sleep meanwhile."""
        cases = progress.cases
        if self._bar:
            self._bar.update(
                self._bar.task_ids[0],
                completed=len(cases) * progress.budget.min_rounds - self._missing(progress),
                total=len(cases) * progress.budget.min_rounds,
                round=number + 1,
                left=self._left(progress),
                now=case.label,
                refresh=True,
            )
        elif self._console and number > self._round:
            unfinished = sum(not progress.finished(case) for case in cases)
            said = f"round {number + 1}: {unfinished} of {len(cases)} cases to visit, {self._left(progress)} left"
            self._console.print(said, highlight=False)
        self._round = max(self._round, number)

    def after(self, record: Record) -> None:
        """Show a failure at once, with its reason."""
        self._seconds.append(record.wall_s)
        if self._console and isinstance(record.outcome, Failure):
            failed = record.outcome
            text = Text(f"{failed.status}: {record.case.label}: {failed.reason}", style="red")
            self._console.print(text, soft_wrap=True)

    def _left(self, progress: Progress) -> str:
        """Return the time left, if every unfinished case needs its fewest visits; more visits take more."""
        if len(self._seconds) < 3:
            return "?"
        # The median: a first visit may export and compile for seconds, the others do not.
        return "about " + format_duration(self._missing(progress) * statistics.median(self._seconds[-200:]))

    @staticmethod
    def _missing(progress: Progress) -> int:
        """Return how many visits are still to be made, one at least for every unfinished case."""
        return sum(
            max(1, progress.budget.min_rounds - len(progress.visits[case.key]))
            for case in progress.cases
            if not progress.finished(case)
        )


def _bar(console: Console) -> Bar:
    # No refresh thread: it would wake the parent ten times a second beside what is being timed.
    bar = Bar(
        TextColumn("round {task.fields[round]}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("visits,"),
        TextColumn("{task.fields[left]} left"),
        TextColumn("{task.fields[now]}", style="dim"),
        console=console,
        auto_refresh=False,
        transient=True,
    )
    bar.add_task("", total=None, round=1, left="?", now="")
    return bar
