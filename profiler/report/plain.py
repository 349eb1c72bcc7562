"""Tables of a terminal without what fits need: little to import."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

#: Columns of what is no terminal: a log or another program cuts lines itself, and a row that is broken is hard to read.
_UNLIMITED = 9999


def standard_console(*, stderr: bool = False) -> Console:
    """Return what prints to standard output, or to standard error; what is no terminal gets whole lines.

    The environment's COLUMNS says otherwise.
    """
    console = Console(stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _UNLIMITED
    return console


def print_sentence(console: Console, said: str, style: str | None = None) -> None:
    """Print what is no table: broken between words on a terminal, which would break inside them; else in one line."""
    console.print(said, style=style, highlight=False, markup=False, soft_wrap=not console.is_terminal)


def fits_in(table: Table, console: Console, options: ConsoleOptions) -> bool:
    """Whether a table is printed without breaking a cell."""
    measured = table.__rich_measure__(console, options.update(max_width=_UNLIMITED))
    return measured.maximum <= options.max_width


@dataclass(frozen=True, slots=True)
class Fitting:
    """The first of some tables that fits where it is printed, the last where none does."""

    tables: Sequence[Table]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield what rich prints."""
        yield next((one for one in self.tables if fits_in(one, console, options)), self.tables[-1])


def minute(stamp: str) -> str:
    """A time of ISO 8601 to the minute: ``2026-11-25 10:20``."""
    return stamp[:16].replace("T", " ")


def unstable_sentence(number: int, of: int) -> str:
    """How many latencies are unstable, and what that means; empty where none is."""
    if not number:
        return ""
    return f"{number} of {of} are unstable, disturbed or known less well than was asked: the rows' reason says why"


def plain_table(first: str, *numbers: str, title: str = "") -> Table:
    """A table without frame: one column of names, then columns of numbers."""
    table = Table(title=title or None, title_justify="left", title_style="", box=None, pad_edge=False)
    # Folded where a log is narrow: a cell that is cut off is a lost number.
    table.add_column(first, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", overflow="fold")
    return table
