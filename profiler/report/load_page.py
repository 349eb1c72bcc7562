"""The page of a model under load: what follows, the curve of latency against calls per second, and the table."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from profiler.analysis.load import Limit, UnderLoad, limit_of, load_curves
from profiler.errors import UserError
from profiler.records.files import write_file
from profiler.records.load import load_point
from profiler.records.load_file import LoadRun
from profiler.report.extra import NO_CHARTS, can_draw, drawing
from profiler.report.html import filled
from profiler.report.loads import load_sentences, load_table
from profiler.report.sections import span_text


def write_load_page(run: LoadRun, path: Path) -> None:
    """Write the page as one file that needs no other; with a chart where charts can be drawn.

    Raises:
        UserError: There is no load in ``run``, or the file cannot be written.
    """
    if not run.records:
        raise UserError("there is no load to write a page of: put a model under one with profiler load MODEL")
    told = [(record, point) for record in run.records if (point := load_point(record.streams)) is not None]
    keep = run.facts.get("keep")
    limit = limit_of(keep) if isinstance(keep, str) and keep else None
    machine = run.facts.get("host")
    cores = machine.get("cores") if isinstance(machine, dict) else None
    with drawing(str(path), draws=False):
        figure = _figure(told, limit) if can_draw() else ""
        page = filled(
            "load.html.j2",
            title=", ".join(dict.fromkeys(record.case.network for record in run.records)),
            simulated=all(record.case.backend.partition(":")[0] == "fake" for record in run.records),
            said=load_sentences(run.records, told, limit, cores if isinstance(cores, int) else None),
            figure=figure,
            without="" if can_draw() else NO_CHARTS,
            table=load_table(told),
            notices=run.notices,
            pairs=_pairs(run),
            command=_command(run),
        )
        write_file(path, page)


def _figure(told: Sequence[UnderLoad], limit: Limit | None) -> str:
    from profiler.report.charts.load import load_chart  # with what draws, which may be missing
    from profiler.report.pieces import markup

    chart = load_chart(load_curves(told), limit)
    return markup([("load", chart)])()["load"] if chart is not None else ""


def _pairs(run: LoadRun) -> list[tuple[str, str]]:
    """What stands at the top: machine, cores, time, versions."""
    host, versions = (run.facts.get(name) for name in ("host", "versions"))
    found: list[tuple[str, str]] = []
    if isinstance(host, dict):
        found += [("Machine", ", ".join(str(host[name]) for name in ("cpu", "gpu", "os") if host.get(name)))]
        found += [("Cores", str(host.get("cores") or ""))]
    if started := str(run.facts.get("started") or ""):
        found += [("Measured", span_text(started, started))]
    if isinstance(versions, dict):
        found += [("Versions", ", ".join(f"{name} {value}" for name, value in versions.items()))]
    return [(name, value) for name, value in found if value]


def _command(run: LoadRun) -> str:
    argv = run.facts.get("argv")
    return shlex.join(["profiler", *map(str, argv)]) if isinstance(argv, list) else ""
