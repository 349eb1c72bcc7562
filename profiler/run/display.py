"""What the user sees while cases are measured. Nothing is drawn while a visit runs: the parent must sleep then."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Protocol

from profiler.records.types import Case, Failure, Record

if TYPE_CHECKING:
    from rich.console import Console

    from profiler.run.schedule import Progress


class Display(Protocol):
    """What the user sees while cases are measured."""

    def before(self, case: Case, number: int, progress: Progress) -> None:
        """Show what runs now; nothing may be drawn until ``after``: the parent must sleep meanwhile."""

    def after(self, record: Record, progress: Progress) -> None:
        """Show what came out."""


class Quiet:
    """Shows nothing."""

    def before(self, case: Case, number: int, progress: Progress) -> None:
        """Show nothing."""

    def after(self, record: Record, progress: Progress) -> None:
        """Show nothing."""


class Live:
    """One line on a terminal, one line per failure; elsewhere (a log, CI) a line per round."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        # No refresh thread: it would wake the parent ten times a second beside what is being timed.
        self._bar = Bar(
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
        self._console = console
        self._round = -1
        self._task = self._bar.add_task("", total=None, round=1, left="?", now="")
        self._seconds: list[float] = []

    def __enter__(self) -> Live:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def before(self, case: Case, number: int, progress: Progress) -> None:
        """Show what runs now and the time left."""
        left = self._left(progress)
        if number > self._round and not self._console.is_terminal:
            unfinished = sum(not progress.finished(case) for case in progress.cases)
            todo = f"{unfinished} of {len(progress.cases)} cases to visit"
            self._console.print(f"round {number + 1}: {todo}, {left} left", highlight=False)
        self._round = max(self._round, number)
        if self._console.is_terminal:
            self._bar.update(
                self._task,
                completed=len(progress.cases) * progress.budget.min_rounds - self._missing(progress),
                total=len(progress.cases) * progress.budget.min_rounds,
                round=number + 1,
                left=left,
                now=case.label,
                refresh=True,
            )

    def after(self, record: Record, progress: Progress) -> None:
        """Show a failure at once, with its reason."""
        del progress
        self._seconds.append(record.wall_s)
        if isinstance(record.outcome, Failure):
            from rich.text import Text

            failed = record.outcome
            text = Text(f"{failed.status}: {record.case.label}: {failed.reason}", style="red")
            self._console.print(text, soft_wrap=True)

    def _left(self, progress: Progress) -> str:
        """Return the time left, if every unfinished case needs its fewest visits; more visits take more."""
        from profiler.units import format_duration

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
