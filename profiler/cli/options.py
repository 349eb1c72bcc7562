"""Arguments and options that several commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

from typer import Argument, Option

from profiler.cli.completing import model_names, run_names
from profiler.errors import UserError

if TYPE_CHECKING:
    from profiler.run.meeting import Meeting

Model = Annotated[
    str,
    Argument(
        metavar="MODEL", help="A name that `profiler models` lists, or a model of your own.", autocompletion=model_names
    ),
]
Factor = Annotated[float | None, Option("--factor", metavar="S", help="Scale flops by about S.")]
Flops = Annotated[str | None, Option("--flops", metavar="T", help="Solve for a target, as 16GF.")]
Json = Annotated[bool, Option("--json", help="Print JSON.")]
RunPath = Annotated[
    Path, Argument(metavar="RUN", help="A run folder, its journal, or a CSV.", autocompletion=run_names)
]
JournalPath = Annotated[Path, Argument(metavar="RUN", help="A run folder or its journal.", autocompletion=run_names)]
RunPaths = Annotated[
    list[Path], Argument(metavar="RUN...", help="Run folders, journals or CSVs.", autocompletion=run_names)
]
AccuracyFile: TypeAlias = Annotated[
    Path | None,
    Option("--accuracy", metavar="FILE", help="A CSV of accuracies: model, top1[, scaling, factor, recipe]."),
]
Recipe: TypeAlias = Annotated[
    str | None, Option("--recipe", metavar="R", help="Accuracies of this training recipe [that of most networks].")
]
PredictAccuracy: TypeAlias = Annotated[
    bool, Option("--predict-accuracy", help="Predict the accuracy of networks that nobody trained.")
]
#: One or several values between commas.
Many: TypeAlias = str | None
#: Shapes of inputs, each a case of its own.
Shape: TypeAlias = Annotated[
    list[str] | None,
    Option("--shape", metavar="X=1x3x8x8", help="Shape of an input, or height=320,width=320; 320/640 or again: cases."),
]
InputFile: TypeAlias = Annotated[
    str | None, Option("--input", metavar="FILE.npz", help="Values of the inputs, by their names.")
]
MemoryFormat: TypeAlias = Annotated[Many, Option("--memory-format", metavar="F,F", help="contiguous, channels_last.")]
Gap: TypeAlias = Annotated[
    str | None, Option("--gap", metavar="0s,10ms", help="Idle so long before each call [0s]: a case for each.")
]
LockClocks: TypeAlias = Annotated[
    int | None, Option("--lock-clocks", metavar="MHZ", help="Hold the GPUs' clocks meanwhile, where permitted.")
]
Scheduler: TypeAlias = Annotated[
    str | None, Option("--scheduler", metavar="TCP", help="Scheduler of a fleet, as tcp://10.0.0.1:8786.")
]
SchedulerFile: TypeAlias = Annotated[
    Path | None,
    Option("--scheduler-file", metavar="FILE", help="File in which `profiler scheduler` wrote where it is."),
]
Tls: TypeAlias = Annotated[
    Path | None, Option("--tls", metavar="DIR", help="Certificates of a fleet that encrypts, by `profiler fleet`.")
]
UntilEof: TypeAlias = Annotated[
    bool, Option("--until-eof", help="End when standard input does, as with the connection of ssh.")
]


def meeting_of(scheduler: str | None, file: Path | None, tls: Path | None) -> Meeting:
    """Return where a fleet meets; raises UserError unless exactly one of an address and a file is given."""
    from profiler.run.meeting import Meeting

    if (scheduler is None) == (file is None):
        raise UserError("expected one of --scheduler (as tcp://10.0.0.1:8786) and --scheduler-file")
    return Meeting(scheduler or "", file, tls)


def warn(sentence: str) -> None:
    """Say something beside the answer of a command."""
    print(sentence, file=sys.stderr, flush=True)
