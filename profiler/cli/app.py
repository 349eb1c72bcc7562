"""The command line: names its commands, and says an error of theirs in one sentence.

The command NAME is ``NAME_command`` of the module NAME of this folder, imported when it is called: ``profiler --help``
imports typer and nothing else that takes time, and a command's module may import what it needs at its top.
"""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from profiler import __version__
from profiler.cli import terminal
from profiler.errors import StoppedError, UserError

#: Each command, and what its help says it does.
_COMMANDS = {
    "models": "List the networks there are, with their exact complexity.",
    "complexity": "Print a network's exact flops, params and acts, scaled or not.",
    "latency": "Tell within seconds how fast a model is here, and on which runtime it is fastest.",
    "load": "Tell latency and throughput of a model with several streams at once, or requests at random times.",
    "explain": "Tell which layers take the time of a model here, and how far each is from what the machine can do.",
    "run": "Measure a plan: a fresh process per visit, every visit kept, a CSV, charts and a report at the end.",
    "export": "Write a run's table, one row per case, at any time.",
    "fit": "Fit latency against activations, flops and parameters; any CSV with those columns will do.",
    "rank": "Say which network of a run is fastest, at one size or budget, and how surely.",
    "predict": "Predict what an unmeasured network costs, with a 90% interval, from a run.",
    "advise": "Search for the best way to scale a network to a target on the device of a run.",
    "frontier": "Find the networks that are fast and accurate here, and the best under a limit, with how sure.",
    "compare": "Put devices, backends, precisions and runs side by side, network by network.",
    "report": "Write one self-contained page: charts, fits, failures, the table, and how to reproduce it.",
    "gate": "Fail when a candidate is slower than its baseline: 0 pass, 1 regression, 2 error, 3 inconclusive, 4 not comparable.",
    "history": "List the runs of each machine over time, with points of change; advisory.",
    "calibrate": "Measure the nominal time of the reference workload again, on a quiet machine, and keep it.",
    "doctor": "Check whether this machine can be measured and its numbers believed; exits 1 when a check fails.",
    "baseline": "Keep a run as the baseline of later ones.",
    "scheduler": "Run the meeting point of a fleet of machines.",
    "worker": "Lend a device of this machine to a fleet.",
    "workers": "List the workers of a fleet.",
    "fleet": "Start a fleet over ssh, and make the certificates of one that encrypts.",
}

#: What one wants, and the commands for it in the order of the help.
_GROUPS = {
    "Measure": ("latency", "load", "explain", "run", "models", "complexity"),
    "Ask a run": ("rank", "frontier", "fit", "predict", "advise", "compare", "report", "export"),
    "Guard": ("gate", "baseline", "history"),
    "Check the machine": ("doctor", "calibrate"),
    "Many machines": ("worker", "scheduler", "workers", "fleet"),
}

#: What to type, shown below each command's options.
_EXAMPLES = {
    "latency": "profiler latency resnet50 --backend eager,onnxruntime --batch 1,8",
    "load": "profiler load resnet50 --keep p99=50ms --report",
    "explain": "profiler explain resnet50 --backend onnxruntime --html layers.html",
    "run": "profiler run quick --time 1min --out results/quick",
    "models": "profiler models",
    "complexity": "profiler complexity regnety_400mf --scale dWr --factor 2",
    "rank": "profiler rank results/quick --flops 400MF",
    "fit": "profiler fit results/quick",
    "predict": "profiler predict results/quick regnety_400mf --scale dWr --flops 800MF",
    "advise": "profiler advise efficientnet_b0 results/quick --flops 600MF --backend eager",
    "frontier": "profiler frontier results/quick --latency 20ms --predict-accuracy",
    "compare": "profiler compare results/quick",
    "report": "profiler report results/quick -o report.html",
    "export": "profiler export results/quick --to cases.parquet",
    "gate": 'profiler gate --baseline "git:main" --candidate "net.py:build @eager" --max-slowdown 5%',
    "baseline": "profiler baseline update results/quick",
    "history": "profiler history results",
    "doctor": "profiler doctor --device cuda:0",
    "calibrate": "profiler calibrate --threads 1",
    "scheduler": "profiler scheduler --port 8786 --scheduler-file scheduler.json",
    "worker": "profiler worker --scheduler tcp://127.0.0.1:8786 --label h100 --device cuda:0",
    "workers": "profiler workers --scheduler tcp://127.0.0.1:8786",
    "fleet": "profiler fleet --ssh hosts.toml",
}


class _Commands(TyperGroup):
    """A group that lists its commands by name and help alone, and imports the one that is called."""

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        """List the commands by what one wants."""
        for group, names in _GROUPS.items():
            with formatter.section(group):
                formatter.write_dl([(name, _COMMANDS[name]) for name in names])

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return (name, command, arguments left); the command is made from its module here."""
        name, named, rest = super().resolve_command(ctx, args)
        return name, _made(name) if name else named, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; typer would leave without a word where it is stopped."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise StoppedError("stopped") from None


#: Commands that measure: the server of their processes loads the runtimes while their own modules are imported.
_MEASURING = ("latency", "explain", "load", "run")
#: Set where a shell asks what may follow.
_COMPLETING = "_PROFILER_COMPLETE"


def _made(name: str) -> Any:  # a command of click, which typer brings along or depends on, by its version
    asked = not {"-h", "--help"} & {*sys.argv} and _COMPLETING not in os.environ
    if name in _MEASURING and asked and "--dry-run" not in sys.argv:
        importlib.import_module("profiler.run.processes").start_server()
    if name == "report" and asked:
        importlib.import_module("profiler.report.drawer").start()
    found = vars(importlib.import_module(f"profiler.cli.{name}"))[f"{name}_command"]
    if not isinstance(found, typer.Typer):
        function, found = found, typer.Typer(add_completion=False, rich_markup_mode=None)
        found.command(name)(function)
    made = typer.main.get_command(found)
    made.help = _COMMANDS[name]
    made.epilog = f"Example: {_EXAMPLES[name]}"
    return made


# Without rich, which takes longer to import than typer does, and whose markup drops what help has in brackets.
app = typer.Typer(
    name="profiler",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="What a network costs on your hardware: latency of scaled networks, and what predicts it.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"latency-profiler {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def _unmade() -> None:
    """Stand in the list of commands for one whose module is not imported."""


for _name, _help in _COMMANDS.items():
    app.command(_name, short_help=_help)(_unmade)


def _failed(message: str, code: int) -> int:
    said, width = f"profiler: {message}", shutil.get_terminal_size().columns
    if sys.stderr and sys.stderr.isatty():  # which would break inside words
        said = textwrap.fill(said, width, break_long_words=False, break_on_hyphens=False)
    print(said, file=sys.stderr)
    return code


def _code() -> int | str | None:
    """Run the command and return its exit code."""
    try:
        app()
    except UserError as error:
        return _failed(str(error), error.exit_code)
    except BrokenPipeError:  # the reader of a pipe went away: not an error of ours
        return 0
    except KeyboardInterrupt:
        return _failed("stopped", 130)
    except SystemExit as ended:
        return ended.code
    return 0


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Take SIGTERM as Ctrl-C: whoever is stopped puts away what it made for a while, and lets go of what it holds."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def main() -> None:
    """Run the command line; a known error is one sentence on standard error and a non-zero exit."""
    terminal.guard_streams()
    with _ended_as_by_ctrl_c():
        code = _code()
    if why := terminal.lost():
        said = _failed(f"standard output cannot be written ({why}): what was printed is lost, files are not", 2)
        # What these two found is their exit code, and a run is in its folder.
        tells = sys.argv[1:2] in (["run"], ["gate"]) and not {"--dry-run", "--help"} & {*sys.argv}
        code = code if code or tells else said
    raise SystemExit(code)
