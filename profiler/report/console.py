"""Fits as tables of a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from profiler.analysis.fit import Fit
from profiler.analysis.frame import PROXIES
from profiler.records.intervals import Interval
from profiler.report.closing import predictors_table
from profiler.report.grid import Cell
from profiler.report.grid import Table as Grid
from profiler.report.plain import Fitting, plain_table
from profiler.report.words import (
    correlation,
    full_sentence,
    has_intervals,
    outliers_sentence,
    rates_sentence,
    sentence,
    two_term_sentence,
)
from profiler.units import three_digits

#: Of no more settings the models stand below a table that has a row for each.
_MODELS = 3
#: Of a terminal, as everything fits it.
_COLUMNS = 80


def print_fits(fits: Sequence[Fit], console: Console, *, brief: bool = False) -> None:
    """Print fits, pooled first, in no more than 80 columns.

    Args:
        fits: Of one table, as ``fit`` returns them.
        console: Where to print.
        brief: Leave out families, exponents and slopes within families.
    """
    for pooled in (one for one in fits if one.family is None):
        console.print(escape(pooled.label), style="bold", soft_wrap=True)
        if pooled.lines:
            console.print(_lines_table(pooled))
        told = (sentence, two_term_sentence, full_sentence, rates_sentence, outliers_sentence)
        for text in (*(tell(pooled) for tell in told), *_footnotes(pooled)):
            if text:
                console.print(escape(text), highlight=False)
        if not brief:
            _print_more(pooled, [one for one in fits if one.group == pooled.group and one.family], console)
        console.print()


def print_fits_briefly(fits: Sequence[Fit], console: Console) -> None:
    """Print fits in about 25 lines: of one setting all but its families; of several a table, of a few their models."""
    pooled = [one for one in fits if one.family is None]
    if len(pooled) == 1:
        print_fits(pooled, console, brief=True)
    else:
        _print_models(pooled, console)
    if any(one.lines for one in pooled):
        console.print("-v prints every fit whole.")


def _print_models(pooled: Sequence[Fit], console: Console) -> None:
    table = predictors_table(pooled)
    if table is not None:
        console.print(fitting_table(table))
    for one in pooled if len(pooled) <= _MODELS else ():
        console.print(escape(one.label), style="bold", soft_wrap=True)
        left_out = f"{len(one.left_out)} left out of the fit." if one.left_out else ""
        for text in (sentence(one), two_term_sentence(one), left_out):
            if text:
                console.print(escape(text), highlight=False)


def _print_more(pooled: Fit, families: Sequence[Fit], console: Console) -> None:
    if pooled.lines:
        console.print(_exponents_table(pooled))
    if any(one.lines for one in families):
        console.print(_families_table([one for one in families if one.lines]))
    for one in families:
        if one.reason and pooled.lines:
            console.print(escape(f"{one.family}: {one.reason}."), highlight=False)


def rich_table(table: Grid) -> Table:
    """The table as a terminal shows it: where 80 columns are too few, words of its first go on below each other."""
    shown = whole_table(table)
    rows = [[_text(cell) for cell in row] for row in table.rows]
    _, *widths = (max(map(len, cells)) + 1 for cells in zip((*table.texts, *table.numbers), *rows, strict=True))
    room = _COLUMNS - sum(widths) - 1
    if room >= max((len(word) for row in rows for word in row[0].split()), default=0):
        shown.columns[0].max_width = room
    return shown


def fitting_table(table: Grid) -> Fitting:
    """The table as wide as the terminal allows."""
    *wider, last = (table, *table.narrower)
    return Fitting([*map(whole_table, wider), rich_table(last)])


def whole_table(table: Grid) -> Table:
    """The table with every row on a line."""
    shown = plain_table(*table.texts, *table.numbers)
    shown.padding = (0, 1, 0, 0)
    for row in table.rows:
        shown.add_row(*(escape(_text(cell)) for cell in row))
    return shown


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


def _lines_table(one: Fit) -> Table:
    unit = f" ({one.unit})" if one.unit else ""
    table = plain_table("pooled on", f"slope{unit}", "95%", "intercept", "r [95%]", "MAPE")
    for line in one.lines:
        table.add_row(
            f"per {line.x_unit}",
            three_digits(line.slope),
            escape(_interval(line.slope_interval if has_intervals(line) else None)),
            three_digits(line.intercept),
            escape(correlation(line, 2)),
            f"{line.mape:.1%}",
        )
    return table


def _exponents_table(one: Fit) -> Table:
    unit = f" ({one.unit})" if one.unit else ""
    table = plain_table("on", "exponent", "95%", f"slope within families{unit}", "95%")
    for line in one.lines:
        within = "" if line.within_slope is None else three_digits(line.within_slope)
        exponent = "" if line.exponent is None else f"{line.exponent:.3f}"
        pairs = (line.exponent_interval, line.within_interval) if has_intervals(line) else (None, None)
        ends = [escape(_interval(pair)) for pair in pairs]
        table.add_row(line.proxy, exponent, ends[0], within, ends[1])
    return table


def _families_table(families: Sequence[Fit]) -> Table:
    table = plain_table("per family", "n", *(f"r {p}" for p in PROXIES), "two-term MAPE, left out")
    for one in families:
        lines = [one.line(proxy) for proxy in PROXIES]
        left_out = one.two_term.loo_mape if one.two_term else None
        error = "" if left_out is None else f"{left_out:.1%}"
        table.add_row(one.family, str(one.n), *("" if line is None else f"{line.r:.3f}" for line in lines), error)
    return table


def _interval(pair: Interval | None) -> str:
    return f"[{three_digits(pair[0])}, {three_digits(pair[1])}]" if pair else ""


def _footnotes(one: Fit) -> list[str]:
    """What was left out of a fit, by name."""
    notes = [] if one.reason else [f"No line on {proxy}: {why}." for proxy, why in one.unfit.items()]
    if one.left_out:
        cases = "case" if len(one.left_out) == 1 else "cases"
        names: dict[str, list[str]] = {}
        for network, why in one.left_out:
            names.setdefault(why, []).append(network)
        told = "; ".join(f"{', '.join(networks)} ({why})" for why, networks in names.items())
        notes.append(f"Left out {len(one.left_out)} {cases}: {told}")
    return notes
