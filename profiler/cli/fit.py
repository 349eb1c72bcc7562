"""``profiler fit``: what predicts latency here, and how surely."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from rich.console import Console
from typer import Option

from profiler.analysis.fit import SEED, Fit, fit
from profiler.analysis.frame import latency_column, read_table
from profiler.analysis.regression import CONFIDENCE
from profiler.cli.options import Json, RunPath
from profiler.report.console import print_fits


def to_json(fits: list[Fit]) -> str:
    """All fits as JSON: intervals as pairs, what is not known as null, never NaN."""
    rows = [{"label": one.label, **asdict(one)} for one in fits]
    return jsonlib.dumps({"confidence": CONFIDENCE, "seed": SEED, "fits": rows}, indent=2, allow_nan=False)


def run(source: Path, json: bool, y: str | None, chart: Path | None, *, weighted: bool = False) -> None:
    """Print the fits of a run folder, journal or CSV; ``profiler fit``.

    Args:
        source: Run folder, journal or any CSV with the columns model, flops, params, acts and a latency.
        json: Print JSON instead of tables.
        y: Column to explain; None finds the latency.
        chart: Where to write the chart (.html, .png or .svg), or None.
        weighted: Weigh networks by how surely they were measured, see ``fit``.

    Raises:
        UserError: The file or its columns cannot be used.
    """
    frame = read_table(source)
    fits = fit(frame, latency_column(frame, y), weighted=weighted)
    if chart is not None:
        from profiler.report import charts
        from profiler.report.render import save  # altair takes a second, and charts imports this module

        save(charts.latency(frame, fits), chart)
    if json:
        print(to_json(fits))
    else:
        print_fits(fits, Console())


def fit_command(
    source: RunPath,
    y: Annotated[str | None, Option("--y", metavar="COLUMN", help="What to predict [latency_ms].")] = None,
    chart: Annotated[Path | None, Option("--chart", metavar="FILE", help="Write a chart: .html, .png or .svg.")] = None,
    weighted: Annotated[bool, Option("--weighted", help="Weigh networks by how surely they were measured.")] = False,
    json: Json = False,
) -> None:
    """Print the fits of a run; see ``run``."""
    run(source, json, y, chart, weighted=weighted)
