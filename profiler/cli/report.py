"""``profiler report``: one page of a run that opens offline."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from profiler.analysis.source import read_table, source_names
from profiler.errors import UserError
from profiler.records.reading import read
from profiler.report.extra import NO_CHARTS, can_draw
from profiler.report.page import write_page, write_pictures


def run(sources: Sequence[Path], output: Path) -> None:
    """Write the report of one or several runs; ``profiler report``.

    Args:
        sources: Run folders, journals or CSV files.
        output: The page to write, ``.html``.

    Raises:
        UserError: No source, one that cannot be read, or simulated rows beside real ones.
    """
    if not sources:
        raise UserError("no run given: name at least one run folder, journal or CSV")
    names = source_names(sources)
    frames = [read_table(source) for source in sources]
    if len(frames) > 1:
        frames = [frame.assign(run=name) for name, frame in zip(names, frames, strict=True)]
    sessions = {name: _facts(source) for name, source in zip(names, sources, strict=True)}
    frame = pd.concat(frames, ignore_index=True)
    write_page(frame, {"runs": sessions}, output)
    if can_draw():
        write_pictures(frame, output.with_name(f"{output.stem}-charts"))
    else:
        print(NO_CHARTS, file=sys.stderr)


def _facts(source: Path) -> Mapping[str, Any]:
    """What the journal says of its latest session; a CSV says nothing."""
    if source.suffix.lower() == ".csv":
        return {}
    sessions = read(source).sessions
    return sessions[-1].facts if sessions else {}
