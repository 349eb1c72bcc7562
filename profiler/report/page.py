"""One self-contained page that says what predicts latency on a machine, and how well it was measured.

The page loads nothing: styles, charts and data are inside. Its first screen is the answer; the rest is folded. Charts
are SVG whose marks say what they are, to who cannot see them and, with a little script, below the pointer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from profiler.analysis.cost_model import cost_models
from profiler.analysis.fit import Fit, fit
from profiler.analysis.frame import group_label, latency_column, network_names, plain
from profiler.errors import UserError
from profiler.records.columns import COLUMNS, Row, Value
from profiler.records.files import write_file
from profiler.report.claims import claims_table
from profiler.report.closing import closing_sentences, latencies_table, legend, predictors_table
from profiler.report.extra import NO_CHARTS, NotDrawnError, can_draw, drawing
from profiler.report.grid import Table
from profiler.report.html import filled
from profiler.report.machines import machines_table
from profiler.report.matrix import runtimes_table
from profiler.report.sections import cases_table, commands, conditions_table, failures_table, header_pairs
from profiler.report.tables import growth_table, knees_table, lines_table, model_sentences, pace_table
from profiler.report.words import sentence

#: Whole numbers below it are whole as floats too.
_WHOLE = 2.0**53
_Made = TypeVar("_Made")
_SIMULATED = "Simulated: no number on this page was measured on hardware."

#: Charts that show an answer at once, the best first.
_FIRST = ("answer", "size", "side-by-side")
#: Headings of what stands there for all groups, by the name of its chart; other charts are headed by their names.
_HEADINGS = {
    "answer": "Latency",
    "side-by-side": "Side by side",
    "size": "Latency against the size of the inputs",
    "batch": "Throughput and latency against batch",
    "runtimes": "Every network on every runtime",
    "machines": "Machines side by side",
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
    files = {folder / f"{name}{suffix}": chart for name, chart in drawn for suffix in (".png", ".svg")}
    for file, chart in files.items():
        write_chart(chart, file)
    return list(files)


def page(frame: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    """The page as text; see ``write_page``."""
    simulated = _all_simulated(frame)
    fits = fit(frame, latency_column(frame, None))
    pooled = [one for one in fits if one.family is None]
    later, without = _tried(lambda: _drawn(frame, pooled)) if can_draw() else (None, NO_CHARTS)
    # Charts may be drawn meanwhile.
    told = _told(frame, facts, fits) | {"simulated": _SIMULATED if simulated else ""}
    drawn: dict[str, str] | None = None
    if later is not None:
        drawn, without = _tried(later)
    return filled("page.html.j2", **_with_charts(told, drawn or {}, without))


def _told(frame: pd.DataFrame, facts: Mapping[str, Any], fits: Sequence[Fit]) -> dict[str, Any]:
    """All that the page says in words and tables."""
    pooled = [one for one in fits if one.family is None]
    sessions: Mapping[str, Mapping[str, Any]] = facts.get("runs") or {"": facts}
    margins = {group_label(model.group): model.margin for model in cost_models(frame, pooled[0].y)[0]}
    return {
        "pairs": header_pairs(frame, sessions),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "title": _title(frame),
        "leading": ("size", *_FIRST) if _only_shapes(frame) else _FIRST,
        "answer": _answer(frame, fits),
        "groups": [_group(frame, one, fits, margins) for one in pooled],
        "across": {
            "runtimes": _runtimes(frame),
            "machines": machines_table(frame, pooled[0].y),
            "batch": knees_table(frame, pooled),
        },
        "claims": claims_table(frame, pooled),
        "failures": failures_table(frame),
        "conditions": conditions_table(frame, pooled),
        "cases": cases_table(frame, pooled[0].y),
        "runs": commands(sessions),
    }


def _runtimes(frame: pd.DataFrame) -> Table | None:
    return runtimes_table(_as_rows(frame) if "latency_ms" in frame else [])


def _with_charts(told: Mapping[str, Any], drawn: Mapping[str, str], without: str) -> dict[str, Any]:
    """What is told, with each chart in its place; names of those of a group end in its number."""
    first = next((name for name in (*told["leading"], *drawn) if name in drawn), None)
    left = {name: svg for name, svg in drawn.items() if name != first or name not in _FIRST}
    groups = [
        group | {"figures": [svg for name, svg in left.items() if name.endswith(f"-{number}")], "nothing": without}
        for number, group in enumerate(told["groups"], start=1)
    ]
    return {
        **told,
        "first": None if first is None else {"title": _heading(first), "svg": drawn[first]},
        "without": without,
        "groups": groups,
        "across": _across(told["across"], left, without),
    }


def _title(frame: pd.DataFrame) -> str:
    """The models where they are few, else how many networks; and on how many runtimes."""
    models = list(dict.fromkeys(map(plain, frame["model"])))
    networks = len(set(network_names(frame)))
    backends = frame["backend"].nunique() if "backend" in frame else 0
    what = " and ".join(models) if len(models) <= 2 and networks <= len(models) else f"{networks} networks"
    if _only_shapes(frame):
        what = f"{models[0]} in {networks} shapes"
    return f"{what} on {backends} runtimes" if backends > 1 else what


def _only_shapes(frame: pd.DataFrame) -> bool:
    """Whether all is one model in several shapes."""
    if "shape" not in frame or frame["model"].nunique() > 1 or frame["shape"].nunique() < 2:
        return False
    return "scaling" not in frame or not any(map(plain, frame["scaling"]))


def _answer(frame: pd.DataFrame, fits: Sequence[Fit]) -> dict[str, Any]:
    """What the first screen says: sentences and one table."""
    if "latency_ms" not in frame:
        said = [sentence(one) for one in fits if one.family is None]
        return {"said": said, "table": lines_table(fits), "heading": "Fits", "legend": ""}
    rows = _as_rows(frame)
    latencies = latencies_table(rows)
    heading = "Latencies [95%]" if latencies else "What predicts latency: r [95%]"
    table = latencies or predictors_table(fits)
    return {"said": closing_sentences(rows, fits), "table": table, "heading": heading, "legend": _legend(rows)}


def _legend(rows: Sequence[Row]) -> str:
    """What marks unstable rows; empty where there are none."""
    why = legend(rows)
    return f"{why} (hollow in charts of points)" if why else ""


def _as_rows(frame: pd.DataFrame) -> list[Row]:
    """Rows of a data frame with all columns; what a cell does not tell is None."""
    known = [{str(k): _value(v) for k, v in row.items()} for row in frame.to_dict("records")]
    return [dict.fromkeys(COLUMNS) | {"status": "ok", "backend": ""} | row for row in known]


def _value(value: Any) -> Value:
    text = plain(value)
    if text == "" or isinstance(value, str):
        return text or None
    number = float(value)
    return int(number) if number.is_integer() and abs(number) < _WHOLE else number


def _tried(made: Callable[[], _Made]) -> tuple[_Made | None, str]:
    """What was made for charts, or why there are none."""
    try:
        with drawing("charts"):
            return made(), ""
    except NotDrawnError as error:
        return None, f"No charts: {error}."


def _drawn(frame: pd.DataFrame, pooled: Sequence[Fit]) -> Callable[[], dict[str, str]]:
    """Have every chart drawn; return what waits for them, and gives each as markup by its name."""
    from profiler.report.figures import figures
    from profiler.report.pieces import markup

    return markup(figures(frame, pooled))


def _group(frame: pd.DataFrame, one: Fit, fits: Sequence[Fit], margins: Mapping[str, float]) -> dict[str, Any]:
    """A group's section, without its charts; one that nothing was ``fitted`` in has none."""
    families = [each for each in fits if each.group == one.group and each.family is not None]
    tables = (growth_table(frame, one), pace_table(frame, one))
    return {
        "title": one.label,
        "verdict": sentence(one),
        "fitted": bool(one.lines),
        "lines": lines_table([one]),
        "families": lines_table(families) if families else None,
        "told": model_sentences(one, margins),
        "tables": [table for table in tables if table is not None],
    }


def _across(tables: Mapping[str, Any], drawn: Mapping[str, str], without: str) -> list[dict[str, Any]]:
    """Sections over all groups: the charts that belong to no group, and what can be said without them."""
    names = [name for name in drawn if not name.rpartition("-")[2].isdecimal()]
    names += [name for name, table in tables.items() if table is not None and name not in names]
    return [
        {"title": _heading(name), "figure": drawn.get(name), "nothing": without, "table": tables.get(name)}
        for name in names
    ]


def _heading(name: str) -> str:
    return _HEADINGS.get(name, name.replace("-", " ").capitalize())


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
