"""``profiler report``: one page of a run that opens offline."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from typer import Option

from profiler.analysis.accuracy import with_accuracy
from profiler.analysis.fit import fit
from profiler.analysis.frame import latency_column
from profiler.analysis.source import in_one, read_table, source_names
from profiler.cli.options import AccuracyFile, PredictAccuracy, Recipe, RunPaths, warn
from profiler.errors import UserError
from profiler.records.files import write_file
from profiler.records.load_file import holds_loads, read_loads
from profiler.records.reading import read
from profiler.report.claims import claims_markdown
from profiler.report.extra import NO_CHARTS, NotDrawnError, can_draw, drawing
from profiler.report.load_page import write_load_page
from profiler.report.page import write_page, write_pictures

#: Endings of the name of a page; what is no file, as /dev/stdout, is called as it likes.
_PAGES = (".html", ".htm")


def report_command(
    runs: RunPaths,
    output: Annotated[Path, Option("--output", "-o", metavar="FILE", help="The page.")] = Path("report.html"),
    charts: Annotated[
        Path | None, Option("--charts", metavar="DIR", help="Write each chart as .png and .svg too, into this folder.")
    ] = None,
    accuracy: AccuracyFile = None,
    recipe: Recipe = None,
    predict_accuracy: PredictAccuracy = False,
    claims: Annotated[
        Path | None, Option("--claims", metavar="FILE.md", help="Write what the paper claims, and what holds here.")
    ] = None,
) -> None:
    """Write the report of one or several runs.

    Raises:
        UserError: No source, one that cannot be read, or simulated rows beside real ones.
    """
    if not runs:
        raise UserError("no run given: name at least one run folder, journal or CSV")
    if output.suffix.lower() not in _PAGES and (output.is_file() or not output.exists()):
        raise UserError(f"--output {output}: a report is a page, and its name ends in .html; write {output.stem}.html")
    if any(map(holds_loads, runs)):
        _report_loads(runs, output)
        return
    names = source_names(runs)
    frames = [read_table(source, warn) for source in runs]
    if len(frames) > 1:
        frames = in_one(runs, frames)
    sessions = {name: _facts(source) for name, source in zip(names, runs, strict=True)}
    frame = pd.concat(frames, ignore_index=True)
    if accuracy or recipe or predict_accuracy:
        frame = with_accuracy(frame, accuracy, recipe, predict=predict_accuracy).frame
    if claims:
        write_file(claims, claims_markdown(frame, fit(frame, latency_column(frame, None))))
    with drawing(output.name, draws=False):
        write_page(frame, {"runs": sessions}, output)
    print(output)
    if not can_draw():
        print(NO_CHARTS, file=sys.stderr)
    elif charts is not None:
        try:
            with drawing(charts.name):
                print(*write_pictures(frame, charts), sep="\n")
        except NotDrawnError as error:
            print(error, file=sys.stderr)


def _report_loads(runs: Sequence[Path], output: Path) -> None:
    """Write the page of one folder of loads."""
    if len(runs) > 1:
        raise UserError(
            f"{len(runs)} sources are named and one holds loads, which have a page of their own: name it alone"
        )
    found = read_loads(runs[0])
    for notice in found.notices:
        warn(notice)
    write_load_page(found, output)
    print(output)
    if not can_draw():
        print(NO_CHARTS, file=sys.stderr)


def _facts(source: Path) -> Mapping[str, Any]:
    """What the journal says of its latest session; a CSV says nothing."""
    if source.suffix.lower() == ".csv":
        return {}
    sessions = read(source).sessions
    return sessions[-1].facts if sessions else {}
