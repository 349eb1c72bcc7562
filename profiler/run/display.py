"""What the user sees while cases are measured. Nothing is drawn while a visit runs: the parent must sleep then."""

from __future__ import annotations

import statistics
import time
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column
from rich.text import Text

from profiler.records.types import Case, Failure, Record
from profiler.run.schedule import Progress
from profiler.units import format_duration


class Watcher(Protocol):
    """Whoever is told what is measured."""

    def preparing(self, done: int, total: int) -> None:
        """Hear how many exports and traces are made, before anything is timed."""

    def before(self, case: Case, number: int, progress: Progress) -> None:
        """Hear of a visit that begins; the parent must sleep until it ends."""

    def after(self, record: Record) -> None:
        """Hear of a visit that has ended."""


class Display:
    """One line on a terminal, one line per failure; elsewhere (a log, CI) a line per round.

    Args:
        console: Where to show it; None shows nothing.
        seconds: How long is measured; None for as many rounds as it takes.
    """

    def __init__(self, console: Console | None = None, seconds: float | None = None) -> None:
        self._console = console
        self._budget_s, self._begin = seconds, time.monotonic()
        self._bar = _bar(console) if console and console.is_terminal else None
        self._round, self._overtime = -1, False
        self._seconds: list[float] = []

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._bar:
            self._bar.stop()

    def preparing(self, done: int, total: int) -> None:
        """Show how many exports and traces are made."""
        if self._bar:
            said = f"preparing {done} of {total}"
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, said=said, refresh=True)
        elif self._console and done == 0:
            self._console.print(f"preparing {total} export{'s' * (total != 1)}", highlight=False)
        self._begin = time.monotonic()

    def before(self, case: Case, number: int, progress: Progress) -> None:
        """Show what runs now and the time left; nothing is drawn until ``after``: the parent must sleep meanwhile."""
        cases, left = progress.cases, self._left(progress)
        made, missing = progress.total, self._missing(progress)
        if self._bar:
            elapsed = time.monotonic() - self._begin
            done, total = (made, made + missing) if self._budget_s is None else (elapsed, self._budget_s)
            said = f"{made} visits" if self._budget_s is not None else f"{made} of {total} visits"
            task = self._bar.task_ids[0]
            self._bar.update(task, completed=done, total=total, said=said, left=left, now=case.label, refresh=True)
        elif self._console and number > self._round:
            unfinished = sum(not progress.finished(case) for case in cases)
            said = f"round {number + 1}: {unfinished} of {len(cases)} cases to visit{left and ', '}{left}"
            self._console.print(said, highlight=False)
        elif self._console and not self._overtime and (over := self._over(progress)):
            self._console.print(over, highlight=False)
            self._overtime = True
        self._round = max(self._round, number)

    def after(self, record: Record) -> None:
        """Show a failure at once, with its reason."""
        self._seconds.append(record.wall_s)
        if self._console and isinstance(record.outcome, Failure):
            failed = record.outcome
            text = Text(f"{failed.status}: {record.case.label}: {failed.reason}", style="red")
            self._console.print(text, soft_wrap=not self._console.is_terminal)

    def _left(self, progress: Progress) -> str:
        """Return the time left, if every unfinished case needs its fewest visits; empty before anything is known."""
        if over := self._over(progress):
            return over
        if self._budget_s is not None:
            return f"{format_duration(max(0.0, self._begin + self._budget_s - time.monotonic()))} left"
        if not self._seconds:
            return ""
        seconds = self._missing(progress) * statistics.median(self._seconds[-200:])
        return f"about {format_duration(seconds)} left"

    def _over(self, progress: Progress) -> str:
        """Return how many first visits are made though the time asked for is spent; empty before, and without such."""
        if self._budget_s is None or time.monotonic() < self._begin + self._budget_s:
            return ""
        first = sum(not progress.made(case) for case in progress.cases)
        if not first:
            return ""
        took = first * statistics.median(self._seconds[-200:]) if self._seconds else 0.0
        about = f", about {format_duration(took)}" if took else ""
        return f"time is up: {first} first visit{'s' * (first != 1)} left{about}"

    @staticmethod
    def _missing(progress: Progress) -> int:
        """Return how many visits are still to be made, one at least for every unfinished case."""
        return sum(
            max(1, progress.budget.min_rounds - progress.made(case))
            for case in progress.cases
            if not progress.finished(case)
        )


def _bar(console: Console) -> Bar:
    # No refresh thread: it would wake the parent ten times a second beside what is being timed.
    bar = Bar(
        TextColumn("{task.fields[said]}"),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[now]}", style="dim", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
        console=console,
        auto_refresh=False,
        transient=True,
        expand=True,
    )
    bar.add_task("", total=None, said="", left="", now="")
    return bar
