"""``profiler export``: a run's table as CSV, at any time, also while the run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from profiler.cli.options import JournalPath, warn
from profiler.errors import UserError
from profiler.records.columns import write_csv
from profiler.records.reading import read
from profiler.records.table import rows


def export_command(
    run: JournalPath, csv: Annotated[Path, Option("--csv", metavar="FILE", help="Where to write the table.")]
) -> None:
    """Write the table of a run.

    Raises:
        UserError: There is no run, or the file cannot be written.
    """
    journal = read(run)
    for notice in journal.notices:
        warn(notice)
    if not (journal.sessions or journal.records):
        raise UserError(f"{run} holds no line of a run; expected a run folder or its journal")
    write_csv(rows(journal), csv)
