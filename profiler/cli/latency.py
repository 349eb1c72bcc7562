"""``profiler latency``: how fast a model is here, within seconds."""

from __future__ import annotations

import json as jsonlib
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.live import Live
from typer import Argument, Exit, Option

from profiler.cli.completing import backend_names, model_names
from profiler.cli.options import Gap, InputFile, Json, LockClocks, Many, MemoryFormat, Shape, warn
from profiler.machine import host
from profiler.plan.cases import expand
from profiler.plan.read import for_answer
from profiler.records import table
from profiler.records.columns import Row
from profiler.records.reading import Run, read
from profiler.records.types import Case, Record
from profiler.report.answer import AnswerTable, answer_sentence, cold_start_table, failed_alike, remarks, what_ran
from profiler.report.plain import print_sentence, standard_console
from profiler.run.clocks import checked_clock, held_clocks
from profiler.run.experiment import measure_into, opened_lab
from profiler.run.schedule import Progress


class _Answer:
    """The table of what has been measured so far, drawn anew after each visit."""

    def __init__(self, live: Live) -> None:
        self._live, self._records = live, list[Record]()

    def preparing(self, done: int, total: int) -> None:
        """Say that exports are made."""
        self._live.update(f"preparing {done} of {total}", refresh=True)

    def before(self, case: Case, number: int, progress: Progress) -> None:
        """Nothing is drawn while a visit runs."""

    def after(self, record: Record) -> None:
        """Draw the table with the new record in it."""
        self._records.append(record)
        self._live.update(AnswerTable(table.rows(Run(Path(), records=tuple(self._records)))), refresh=True)


def latency_command(
    model: Annotated[
        str, Argument(metavar="MODEL", help="A name, package.module:function, or a file.", autocompletion=model_names)
    ],
    backend: Annotated[
        str, Option("--backend", metavar="B,B", help="Runtimes.", autocompletion=backend_names)
    ] = "eager,onnxruntime",
    batch: Annotated[Many, Option("--batch", metavar="N,N", help="Examples per forward [1].")] = None,
    threads: Annotated[Many, Option("--threads", metavar="N,N", help="Threads [every usable core].")] = None,
    device: Annotated[Many, Option("--device", metavar="D,D", help="cpu, cuda:0, ... [cpu].")] = None,
    precision: Annotated[Many, Option("--precision", metavar="P,P", help="fp32, tf32, fp16, bf16 [fp32].")] = None,
    memory_format: MemoryFormat = None,
    shape: Shape = None,
    input_file: InputFile = None,
    gap: Gap = None,
    time: Annotated[str, Option("--time", metavar="10s", help="How long to measure.")] = "10s",
    lock_clocks: LockClocks = None,
    save: Annotated[Path | None, Option("--save", metavar="DIR", help="Keep the run in this folder.")] = None,
    json: Json = False,
) -> None:
    """Print how fast a model is here on each runtime, and which is fastest.

    Raises:
        UserError: The model cannot be had, or an option is wrong.
    """
    flags = {"models": model, "backends": backend, "batches": batch, "threads": threads, "devices": device}
    inputs = {"shapes": shape, "input_file": input_file, "gaps": gap}
    plan = for_answer(**flags, **inputs, precisions=precision, memory_formats=memory_format, time=time)
    with ExitStack() as stack:
        folder = save or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="latency-profiler-")))
        stack.enter_context(held_clocks(checked_clock(lock_clocks), plan.devices, warn))
        lab = stack.enter_context(opened_lab(plan, calibrate=False))
        live = stack.enter_context(Live(console=Console(stderr=True), auto_refresh=False, transient=True))
        cases = expand(plan, host.usable_cores())
        measure_into(folder, plan, cases, lab, passes=("memory",), watcher=_Answer(live))
        rows = table.rows(read(folder))
    raise Exit(_printed(rows, json=json))


def _printed(rows: Sequence[Row], *, json: bool) -> int:
    """Print the answer; return 0 when every row has a latency, else 1."""
    if json:
        print(jsonlib.dumps({"answer": answer_sentence(rows), "cases": rows}, indent=2))
    else:
        console = standard_console()
        if failed := failed_alike(rows):
            print_sentence(console, failed, "red")
            return 1
        print_sentence(console, what_ran(rows))
        console.print(AnswerTable(rows))
        if cold := cold_start_table(rows):
            console.print("cold start:", cold, sep="\n")
        for said in remarks(rows):
            print_sentence(console, said, None if said.startswith("note") else "red")
        print_sentence(console, answer_sentence(rows))
    return 0 if all(row["latency_ms"] is not None for row in rows) else 1
