"""One self-contained page that says what predicts latency on a machine, and how well it was measured.

The page loads nothing: styles, scripts, charts and data are inside. Charts are drawn as SVG first, so that it
prints and reads without scripts; with scripts they gain tooltips and wrap on narrow screens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from profiler.analysis.cost_model import cost_models
from profiler.analysis.fit import Fit, fit
from profiler.analysis.frame import group_label, latency_column, plain
from profiler.errors import UserError
from profiler.records.files import write_file
from profiler.report.extra import NO_CHARTS, NotDrawnError, can_draw, drawing
from profiler.report.html import filled
from profiler.report.sections import cases_table, commands, conditions_table, failures_table, header_pairs
from profiler.report.tables import growth_table, knees_table, lines_table, model_sentences, pace_table
from profiler.report.words import sentence

_SIMULATED = "Simulated: no number on this page was measured on hardware."

#: Headings of what stands there for all groups, by the name of its chart; other charts are headed by their names.
_HEADINGS = {
    "size": "Latency against the size of the inputs",
    "batch": "Throughput and latency against batch",
    "costs": "Memory and other costs",
}


def write_page(frame: pd.DataFrame, facts: Mapping[str, Any], path: Path) -> None:
    """Write the page.

    Args:
        frame: One row per case; a column ``run`` where several runs were joined.
        facts: What is known of the run: host, versions, argv, seed, plan, started; any may be missing. Or
            ``{"runs": {name: facts}}`` for several.
        path: Where to write.

    Raises:
        UserError: The table cannot be used, it mixes simulated rows with real ones, or the file cannot be written.
    """
    write_file(path, page(frame, facts))


def write_pictures(frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Write every chart of the page as PNG and SVG; return the files.

    Args:
        frame: As for ``write_page``.
        folder: Where to write; made if need be.

    Raises:
        UserError: The table cannot be used, or a file cannot be written.
    """
    from profiler.report.figures import figures
    from profiler.report.render import write_chart

    drawn = figures(frame, [one for one in fit(frame, latency_column(frame, None)) if one.family is None])
    files = {folder / f"{name}{suffix}": chart for name, chart in drawn.items() for suffix in (".png", ".svg")}
    for file, chart in files.items():
        write_chart(chart, file)
    return list(files)


def page(frame: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    """The page as text; see ``write_page``."""
    simulated = _all_simulated(frame)
    fits = fit(frame, latency_column(frame, None))
    pooled = [one for one in fits if one.family is None]
    sessions: Mapping[str, Mapping[str, Any]] = facts.get("runs") or {"": facts}
    drawn, script, without = _drawn_or_why(frame, pooled)
    margins = {group_label(model.group): model.margin for model in cost_models(frame, pooled[0].y)[0]}
    groups = [_group(frame, one, fits, margins, drawn, without, f"-{k}") for k, one in enumerate(pooled, start=1)]
    return filled(
        "page.html.j2",
        simulated=_SIMULATED if simulated else "",
        pairs=header_pairs(frame, sessions, datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        groups=groups,
        across=_across(frame, pooled, drawn, without),
        failures=failures_table(frame),
        conditions=conditions_table(frame, pooled),
        cases=cases_table(frame, pooled[0].y),
        runs=commands(sessions),
        script=script,
    )


def _drawn_or_why(frame: pd.DataFrame, pooled: Sequence[Fit]) -> tuple[dict[str, dict[str, Any]], str, str]:
    """As ``_drawn``, and why there is nothing where charts cannot be drawn."""
    if not can_draw():
        return {}, "", NO_CHARTS
    try:
        with drawing("charts"):
            return *_drawn(frame, pooled), ""
    except NotDrawnError as error:
        return {}, "", f"No charts: {error}."


def _drawn(frame: pd.DataFrame, pooled: Sequence[Fit]) -> tuple[dict[str, dict[str, Any]], str]:
    """Every chart as SVG and as specification, and the script that draws the latter; empty where there are none."""
    from profiler.report import render
    from profiler.report.figures import figures

    charts = figures(frame, pooled)
    drawn = {name: {"svg": render.svg(one), "spec": render.specification(one)} for name, one in charts.items()}
    return drawn, render.drawing_script() if drawn else ""


def _group(
    frame: pd.DataFrame,
    one: Fit,
    fits: Sequence[Fit],
    margins: Mapping[str, float],
    drawn: Mapping[str, dict[str, Any]],
    without: str,
    end: str,
) -> dict[str, Any]:
    """A group's section; its charts are those whose names end in ``end``, the first above all else."""
    nothing = without if one.n else f"Nothing to draw: {one.reason or 'nothing was measured'}."
    families = [each for each in fits if each.group == one.group and each.family is not None]
    tables = (growth_table(frame, one), pace_table(frame, one))
    return {
        "title": one.label,
        "verdict": sentence(one),
        "figures": [figure for name, figure in drawn.items() if name.endswith(end)],
        "nothing": nothing,
        "lines": lines_table([one]),
        "families": lines_table(families) if families else None,
        "told": model_sentences(one, margins),
        "tables": [table for table in tables if table is not None],
    }


def _across(
    frame: pd.DataFrame, pooled: Sequence[Fit], drawn: Mapping[str, dict[str, Any]], without: str
) -> list[dict[str, Any]]:
    """Sections over all groups: the charts that belong to no group, and what can be said without them."""
    tables = {"batch": knees_table(frame, pooled)}
    names = [name for name in drawn if not name.rpartition("-")[2].isdecimal()]
    names += [name for name, table in tables.items() if table is not None and name not in names]
    return [
        {
            "title": _HEADINGS.get(name, name.replace("-", " ").capitalize()),
            "figure": drawn.get(name),
            "nothing": without,
            "table": tables.get(name),
        }
        for name in names
    ]


def _all_simulated(frame: pd.DataFrame) -> bool:
    """Whether every row is simulated.

    Raises:
        UserError: Some are and some are not.
    """
    flags = np.zeros(len(frame), dtype=bool)
    if "backend" in frame:
        flags |= np.array([plain(v).split(":")[0] == "fake" for v in frame["backend"]], dtype=bool)
    if "simulated" in frame:
        flags |= np.array([plain(v).lower() in ("true", "1", "yes") for v in frame["simulated"]], dtype=bool)
    if flags.any() and not flags.all():
        raise UserError(
            f"{int(flags.sum())} of {len(flags)} rows are simulated: a report shows either simulated or real "
            "results; report them separately"
        )
    return bool(flags.any())
