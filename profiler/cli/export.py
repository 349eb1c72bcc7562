"""``profiler export``: a run's table as CSV, at any time, also while the run goes on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from typer import Option

from profiler.cli.options import RunPath
from profiler.records.columns import write_csv
from profiler.records.reading import read
from profiler.records.table import rows


def export_command(
    run: RunPath, csv: Annotated[Path, Option("--csv", metavar="FILE", help="Where to write the table.")]
) -> None:
    """Write the table of a run.

    Raises:
        UserError: There is no run, or the file cannot be written.
    """
    journal = read(run)
    for notice in journal.notices:
        print(notice, file=sys.stderr)
    write_csv(rows(journal), csv)
