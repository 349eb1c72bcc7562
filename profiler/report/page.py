"""One self-contained page that says what predicts latency on a machine, and how well it was measured.

The page loads nothing: styles, scripts, charts and data are inside. Charts are drawn as SVG first, so that it
prints and reads without scripts; with scripts they gain tooltips and wrap on narrow screens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from profiler.analysis.fit import Fit, fit
from profiler.analysis.frame import latency_column, measured, plain
from profiler.analysis.predict import costs_of
from profiler.errors import UserError
from profiler.report import charts, render
from profiler.report.html import PAGE, SCRIPT, STYLE, definitions, section
from profiler.report.render import Chart, save, styled
from profiler.report.sections import (
    cases,
    conditions,
    failures,
    figure_of,
    group_section,
    knees,
    margins_section,
    reproduce,
    verdict,
)

SIMULATED = "Simulated: no number on this page was measured on hardware."

TRUE = ("true", "1", "yes")

#: Charts over all groups, and their headings.
ACROSS = {
    "side-by-side": "Side by side",
    "batch": "Throughput and latency against batch",
    "costs": "Memory and other costs",
}


def write(frame: pd.DataFrame, facts: Mapping[str, Any], path: Path) -> None:
    """Write the page.

    Args:
        frame: One row per case; a column ``run`` where several runs were joined.
        facts: What is known of the run: host, versions, argv, seed, plan, started; any may be missing. Or
            ``{"runs": {name: facts}}`` for several.
        path: Where to write.

    Raises:
        UserError: The table cannot be used, or it mixes simulated rows with real ones.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(frame, facts), encoding="utf-8")


def write_pictures(frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Write every chart of the page as PNG and SVG; return the files.

    Args:
        frame: As for ``write``.
        folder: Where to write; made if need be.

    Raises:
        UserError: The table cannot be used.
    """
    made = figures(frame, [one for one in fit(frame, latency_column(frame, None)) if one.family is None])
    files = [(chart, folder / f"{name}{suffix}") for name, chart in made.items() for suffix in (".png", ".svg")]
    for chart, file in files:
        save(chart, file)
    return [file for _, file in files]


def figures(frame: pd.DataFrame, pooled: Sequence[Fit]) -> dict[str, Chart]:
    """All charts of a page by name: two for each group, ``latency-1`` and ``behind-1``, then those over groups.

    Args:
        frame: The table.
        pooled: Its pooled fits.
    """
    found: dict[str, alt.ConcatChart | None] = {}
    for number, one in enumerate(pooled, start=1):
        if one.n:
            found[f"latency-{number}"] = charts.group(frame, one)
            found[f"behind-{number}"] = charts.behind(frame, one)
    found["side-by-side"] = charts.side_by_side(frame, pooled)
    found["batch"] = charts.against_batch(frame, pooled)
    others = [one for column in costs_of(frame) if column != pooled[0].y for one in fit(frame, column)]
    found["costs"] = charts.costs(frame, [one for one in others if one.family is None])
    return {name: styled(chart, padding=2) for name, chart in found.items() if chart is not None}


def page(frame: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    """The page as text; see ``write``."""
    simulated = _all_simulated(frame)
    fits = fit(frame, latency_column(frame, None))
    pooled = [one for one in fits if one.family is None]
    sessions: Mapping[str, Mapping[str, Any]] = facts.get("runs") or {"": facts}
    drawn = figures(frame, pooled)
    margins = margins_section(frame, pooled[0].y)
    body = [
        _header(frame, sessions, simulated=simulated),
        section("Verdict", "".join(f"<p class=verdict>{verdict(one)}</p>" for one in pooled)),
        *(
            group_section(frame, one, fits, margins, (drawn.get(f"latency-{k}"), drawn.get(f"behind-{k}")))
            for k, one in enumerate(pooled, start=1)
        ),
        *(
            section(title, figure_of(drawn[name]) + (knees(frame, pooled) if name == "batch" else ""))
            for name, title in ACROSS.items()
            if name in drawn
        ),
        section("Cases without a sound number", failures(frame)),
        section("Conditions", conditions(frame, pooled)),
        section("All cases", cases(frame, pooled[0].y)),
        section("Reproduce", "".join(reproduce(name, each) for name, each in sessions.items())),
    ]
    scripts = f"<script>{render.scripts()}</script>\n<script type=module>{SCRIPT}</script>"
    return PAGE.format(style=STYLE, body="\n".join(body), scripts=scripts)


# --- Sections ----------------------------------------------------------------------------------------------


def _header(frame: pd.DataFrame, sessions: Mapping[str, Mapping[str, Any]], *, simulated: bool) -> str:
    machines = {_machine(each.get("host")) or _cpu_of(frame) for each in sessions.values()} - {""}
    started = sorted(filter(None, (plain(each.get("started")) for each in sessions.values())))
    good = int(measured(frame).sum())
    runs = [name for name in sessions if name]
    rows = [
        ("Machine", "; ".join(sorted(machines)) or "not recorded"),
        ("Measured", _period(started)),
        ("Cases", f"{good} measured, {len(frame) - good} without a number"),
        ("Runs", ", ".join(runs) if len(runs) > 1 else ""),
        ("Written", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
    ]
    listed = definitions((name, value) for name, value in rows if value)
    mark = f"<p class=simulated>{SIMULATED}</p>" if simulated else ""
    return f"<header><h1>What predicts latency here</h1>{mark}<dl>{listed}</dl></header>"


def _machine(host: object) -> str:
    if not isinstance(host, Mapping):
        return ""
    cores = f"{host['cores']} cores" if host.get("cores") else ""
    parts = (host.get("cpu"), cores, host.get("gpu"), host.get("os"))
    return ", ".join(str(part) for part in parts if part)


def _cpu_of(frame: pd.DataFrame) -> str:
    return ", ".join(sorted({plain(v) for v in frame["cpu"]} - {""})) if "cpu" in frame else ""


def _period(started: Sequence[str]) -> str:
    if not started:
        return ""
    return started[0] if started[0] == started[-1] else f"{started[0]} to {started[-1]}"


def _all_simulated(frame: pd.DataFrame) -> bool:
    """Whether every row is simulated.

    Raises:
        UserError: Some are and some are not.
    """
    flags = np.zeros(len(frame), dtype=bool)
    if "backend" in frame:
        flags |= np.array([plain(v).split(":")[0] == "fake" for v in frame["backend"]], dtype=bool)
    if "simulated" in frame:
        flags |= np.array([plain(v).lower() in TRUE for v in frame["simulated"]], dtype=bool)
    if flags.any() and not flags.all():
        raise UserError(
            f"{int(flags.sum())} of {len(flags)} rows are simulated: a report shows either simulated or real "
            "results; report them separately"
        )
    return bool(flags.any())
