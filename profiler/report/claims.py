"""What the paper claims beside what holds here, as a table of a page, of the terminal and of a document."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from profiler.analysis.claims import claims
from profiler.analysis.fit import Fit
from profiler.analysis.frame import group_label, grouping, plain
from profiler.errors import UserError
from profiler.report.grid import Table
from profiler.report.plain import fits_in, plain_table

_NOTE = (
    "Dollár, Singh and Girshick, Fast and Accurate Model Scaling (CVPR 2021, arXiv 2103.06877), measured on a GPU. A "
    "claim holds where the 95% interval lies on its side, does not where it lies on the other, and is else undecided. "
    "Times of rules are at equal flops, with intervals over base networks. That dWr is about as accurate as dwr, and w "
    "less, is not measured."
)


def claims_table(frame: pd.DataFrame, fits: Sequence[Fit]) -> Table | None:
    """A row for each claim and group; None where no network of the run says anything of one."""
    found = claims(frame, fits)
    rows = [(claim.said, where, one.verdict, one.figures) for claim in found for where, one in claim.found.items()]
    return Table(("the paper", "where", "here", "figures"), (), rows, _NOTE) if rows else None


def print_claims(frame: pd.DataFrame, fits: Sequence[Fit], console: Console) -> None:
    """Print a row for each claim and group; nothing where there is none."""
    table = claims_table(frame, fits)
    if table is None:
        return
    short = _short(frame)
    shown = _claims_table(table, short)
    if fits_in(shown, console, console.options):
        console.print(shown)
        return
    for said, found in itertools.groupby(table.rows, key=lambda row: str(row[0])):
        console.print(said, style="bold", markup=False, highlight=False, soft_wrap=True)
        for _, where, verdict, figures in found:
            told = f"  {short[str(where)]}: {verdict}: {figures}"
            console.print(told, markup=False, highlight=False, soft_wrap=True)


def _claims_table(table: Table, short: Mapping[str, str]) -> RichTable:
    shown = plain_table("the paper claims", "where", "here")
    for column in shown.columns:
        column.justify = "left"
    last = ""
    for said, where, verdict, figures in table.rows:
        shown.add_row(*map(escape, ("" if said == last else str(said), short[str(where)], f"{verdict}: {figures}")))
        last = str(said)
    return shown


def claims_markdown(frame: pd.DataFrame, fits: Sequence[Fit]) -> str:
    """The table of a document: a row for each claim, a column for each group.

    Raises:
        UserError: No network of the run says anything of a claim.
    """
    found = claims(frame, fits)
    if not found:
        raise UserError(
            "no claim can be judged: the run has no networks scaled by several rules, as fast-and-accurate has"
        )
    short = _short(frame)
    places = list(dict.fromkeys(where for claim in found for where in claim.found))
    lines = [("the paper, on a GPU", *(short[where] for where in places)), ("---",) * (len(places) + 1)]
    for claim in found:
        cells = [claim.found.get(where) for where in places]
        lines.append((claim.said, *(f"{one.verdict}: {one.figures}" if one else "" for one in cells)))
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{_NOTE}\n"


def _short(frame: pd.DataFrame) -> dict[str, str]:
    """Each group's label, and what of it differs from those of the others."""
    keys = grouping(frame)
    groups = [dict(zip(keys, map(plain, row), strict=True)) for row in frame[keys].itertuples(index=False)]
    varying = [key for key in keys if len({group[key] for group in groups}) > 1] or keys[:1]
    return {group_label(group): group_label({key: group[key] for key in varying}) for group in groups}
