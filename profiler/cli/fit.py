"""``profiler fit``: what predicts latency here, and how surely."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import pandas as pd
from rich.markup import escape
from typer import Option

from profiler.analysis.cost_model import CostModel
from profiler.analysis.fit import SEED, Fit, fit
from profiler.analysis.frame import group_label, latency_column
from profiler.analysis.holdout import WITHIN, HeldOut, foretold
from profiler.analysis.source import read_table
from profiler.cli.options import Json, RunPath, warn
from profiler.errors import UserError
from profiler.records.intervals import CONFIDENCE
from profiler.report.console import print_fits, print_fits_briefly
from profiler.report.extra import NO_CHARTS, can_draw, drawing
from profiler.report.plain import plain_table, standard_console

#: What JSON calls the coefficients of counts whose columns are no such name.
_PER = {"layers": "layer", "padding_flops": "padding"}


def _to_json(fits: list[Fit]) -> str:
    """All fits as JSON: intervals as pairs, what is not known as null, never NaN."""
    rows = [_facts(one) for one in fits]
    return jsonlib.dumps({"confidence": CONFIDENCE, "seed": SEED, "fits": rows}, indent=2, allow_nan=False)


def _facts(one: Fit) -> dict[str, object]:
    facts = asdict(replace(one, two_term=None, full=None))
    probability = facts.pop("winner_probability")
    return {
        "label": one.label,
        **facts,
        "winner": None if one.winner is None else {"proxy": one.winner, "probability": probability},
        "two_term": _model(one.two_term),
        "full": _model(one.full),
        "left_out": [{"network": network, "why": why} for network, why in one.left_out],
        "outliers": [{"network": name, "measured": y, "predicted": said} for name, y, said in one.outliers],
    }


def _model(model: CostModel | None) -> dict[str, object] | None:
    if model is None:
        return None
    slopes = {f"per_{_PER.get(term.column, term.column)}": term.coefficient for term in model.terms}
    errors = {"mape": model.mape, "loo_mape": model.loo_mape, "lofo_mape": model.lofo_mape}
    return {"t0": model.t0, **slopes, **errors, "weighted": model.weights is not None}


def fit_command(
    source: RunPath,
    y: Annotated[str | None, Option("--y", metavar="COLUMN", help="What to predict [latency_ms].")] = None,
    chart: Annotated[Path | None, Option("--chart", metavar="FILE", help="Write a chart: .html, .png or .svg.")] = None,
    weighted: Annotated[bool, Option("--weighted", help="Weigh networks by how surely they were measured.")] = False,
    holdout: Annotated[bool, Option("--holdout", help="Say how well networks left out are foretold.")] = False,
    verbose: Annotated[bool, Option("--verbose", "-v", help="Print every fit whole.")] = False,
    json: Json = False,
) -> None:
    """Print the fits of a run folder, a journal or any CSV with model, flops, params, acts and a latency.

    A chart that cannot be drawn without the extra ``report`` is said and not written.

    Raises:
        UserError: The file or its columns cannot be used, or no line could be fitted.
    """
    frame = read_table(source, warn)
    if holdout:
        _print_holdout(frame, latency_column(frame, y), json=json)
        return
    fits = fit(frame, latency_column(frame, y), weighted=weighted)
    if json:
        print(_to_json(fits))
    elif not any(one.lines for one in fits):
        raise _unfitted(fits)
    elif verbose:
        print_fits(fits, standard_console())
    else:
        print_fits_briefly(fits, standard_console())
    if chart is not None and not can_draw():
        print(NO_CHARTS, file=sys.stderr)
    elif chart is not None:
        with drawing(str(chart)):
            from profiler.report.charts.panels import latency_panels
            from profiler.report.render import write_chart  # with what draws, which may be missing

            write_chart(latency_panels(frame, fits), chart)
    if not any(one.lines for one in fits):
        raise _unfitted(fits)


def _unfitted(fits: Sequence[Fit]) -> UserError:
    whys = "; ".join(f"{one.label}: {one.reason}" for one in fits if one.family is None)
    return UserError(f"no line could be fitted: {whys}; measure more networks, of other sizes")


def _print_holdout(frame: pd.DataFrame, y: str, *, json: bool) -> None:
    found, without = foretold(frame, y)
    if not found:
        raise UserError(f"nothing can be left out: {'; '.join(f'{label}: {why}' for label, why in without.items())}")
    if json:
        print(jsonlib.dumps({"y": y, "within": WITHIN, "foretold": [asdict(one) for one in found], "without": without}))
        return
    console = standard_console()
    groups: dict[str, list[HeldOut]] = {}
    for one in found:
        groups.setdefault(group_label(one.group), []).append(one)
    for label, several in groups.items():
        console.print(f"{escape(label)}: {several[0].networks} networks, {y}", style="bold", soft_wrap=True)
        table = plain_table("left out", "model", "mean error", *(f"within {limit:.0%}" for limit in WITHIN), "asked")
        for one in several:
            hits = (f"{hit:.0%}" for hit in one.hits)
            table.add_row(one.left_out, one.model, f"{one.error:.1%}", *hits, "predict" if one.chosen else "")
        console.print(table)
    for label, why in without.items():
        console.print(escape(f"{label}: {why}"), highlight=False, soft_wrap=True)
