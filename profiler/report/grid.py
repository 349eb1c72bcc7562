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
    """

    texts: Sequence[str]
    numbers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    best: frozenset[int] = frozenset()
