"""Arguments and options that several commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, TypeAlias

from typer import Argument, Option

Model = Annotated[str, Argument(metavar="MODEL", help="A name that `profiler models` lists.")]
Factor = Annotated[float | None, Option("--factor", metavar="S", help="Scale flops by about S.")]
Flops = Annotated[str | None, Option("--flops", metavar="T", help="Solve for a target, as 16GF.")]
Json = Annotated[bool, Option("--json", help="Print JSON.")]
RunPath = Annotated[Path, Argument(metavar="RUN", help="A run folder, its journal, or a CSV.")]
JournalPath = Annotated[Path, Argument(metavar="RUN", help="A run folder or its journal.")]
RunPaths = Annotated[list[Path], Argument(metavar="RUN...", help="Run folders, journals or CSVs.")]
#: One or several values between commas.
Many: TypeAlias = str | None


def warn(sentence: str) -> None:
    """Say something beside the answer of a command."""
    print(sentence, file=sys.stderr)
