"""A table of text and numbers, as a terminal and a page show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

#: A cell as text, or as text and the exact number to sort by.
Cell: TypeAlias = str | tuple[str, str]


class Table(NamedTuple):
    """Columns of text first, then columns of numbers, which are set to the right.

    Attributes:
        texts: Headings of the columns of text.
        numbers: Headings of the columns of numbers.
        rows: Cells from left to right.
        note: What to know of it, below it; or empty.
        best: Which rows stand out.
        narrower: The same with less, to be tried in turn where a terminal is too narrow.
    """

    texts: Sequence[str]
    numbers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    best: frozenset[int] = frozenset()
    narrower: tuple[Table, ...] = ()

    def without(self, heading: str) -> Table:
        """The table without the columns of numbers under a heading."""
        kept = [at for at, name in enumerate(self.numbers) if name != heading]
        before = len(self.texts)
        rows = [[*row[:before], *(row[before + at] for at in kept)] for row in self.rows]
        return self._replace(numbers=[self.numbers[at] for at in kept], rows=rows)
