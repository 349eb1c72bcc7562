"""What each column of the table means: its unit, what told it, and when it is empty."""

from __future__ import annotations

import csv
from itertools import groupby
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

#: One line per column, in the order and under the groups in which they are read.
_FILE = Path(__file__).with_name("columns.csv")


class Column(NamedTuple):
    """A column in words.

    Attributes:
        group: What it stands among.
        name: As the head of ``cases.csv`` has it.
        unit: Of its numbers; ``ratio`` for one without; empty for text.
        meaning: What it says.
        source: What told it.
        empty: When it is empty.
    """

    group: str
    name: str
    unit: str
    meaning: str
    source: str
    empty: str


def columns() -> list[Column]:
    """Return every column of ``profiler.records.columns.COLUMNS``, group by group."""
    with _FILE.open(encoding="utf-8", newline="") as lines:
        return [Column(*cells) for cells in csv.reader(lines)][1:]


def columns_markdown() -> str:
    """Return the columns as a table of Markdown for each group, under a heading."""
    parts = []
    for group, members in groupby(columns(), lambda column: column.group):
        rows = [(f"`{one.name}`", one.unit, one.meaning, one.source, one.empty) for one in members]
        lines = [("column", "unit", "meaning", "told by", "empty"), ("---",) * 5, *rows]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        parts.append(f"## {group}\n\n{table}\n")
    return "\n".join(parts)


def columns_text(width: int) -> str:
    """Return the columns as plain text of at most so many letters a line, a paragraph each, group by group."""
    parts = []
    for group, members in groupby(columns(), lambda column: column.group):
        parts.append(f"\n{group}")
        for one in members:
            unit = f" ({one.unit})" if one.unit else ""
            told = f"{one.name}{unit}: {one.meaning}. Told by: {one.source}. Empty: {one.empty}."
            parts.append(fill(told, width, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False))
    return "\n".join(parts).lstrip()
