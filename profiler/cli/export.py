"""``profiler export``: a run's table, at any time, also while the run goes on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

from typer import Exit, Option

from profiler.cli.options import JournalPath, warn
from profiler.errors import UserError
from profiler.records.described import columns_text
from profiler.records.exporting import write_table
from profiler.records.reading import read
from profiler.records.table import rows


def _columns(asked: bool) -> None:
    if asked:
        print(columns_text(shutil.get_terminal_size().columns))
        raise Exit


def export_command(
    run: JournalPath,
    to: Annotated[
        Path | None, Option("--to", metavar="FILE", help="Where to write: .csv, .parquet, .json, .md or .prom.")
    ] = None,
    csv: Annotated[Path | None, Option("--csv", metavar="FILE", help="The same, as CSV whatever its name.")] = None,
    all_columns: Annotated[
        bool, Option("--all-columns", help="Every column, not only those that most ask for.")
    ] = False,
    _columns_told: Annotated[
        bool,
        Option(
            "--columns",
            callback=_columns,
            is_eager=True,
            help="Say what every column means, its unit, what told it and when it is empty, as docs/table.md.",
        ),
    ] = False,
) -> None:
    """Write the table of a run.

    Raises:
        UserError: There is no run, the file's ending is none of these, or it cannot be written.
    """
    targets = [(to, None), (csv, ".csv")]
    if to is None and csv is None:
        raise UserError("nothing to write: name a file with --to, as --to cases.parquet")
    journal = read(run)
    if not (journal.sessions or journal.records):
        raise UserError(f"{run} holds no line of a run; expected a run folder or its journal")
    for notice in journal.notices:
        warn(notice)
    table = rows(journal)
    for path, kind in targets:
        if path is not None:
            write_table(table, path, kind, all_columns=all_columns)
            print(f"{path}: {len(table)} row{'s' * (len(table) != 1)}")
