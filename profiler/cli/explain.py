"""``profiler explain``: which layers take the time, and how far they are from what the machine can do."""

from __future__ import annotations

import json as jsonlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from profiler.analysis.faster import Suggestion, Tried, suggestions, tried
from profiler.analysis.layers import LAYER_COLUMNS, Explanation, explained
from profiler.analysis.speed import latency_of
from profiler.cli.completing import backend_names, model_names
from profiler.cli.options import InputFile, Json, Many, Shape
from profiler.errors import UserError
from profiler.machine import host
from profiler.models.naming import form
from profiler.plan.cases import expand
from profiler.plan.plan import Plan
from profiler.plan.read import for_answer
from profiler.records import table
from profiler.records.columns import Row, write_csv
from profiler.records.outside import is_folder
from profiler.records.reading import read
from profiler.records.types import Case
from profiler.report.explanation import (
    advice_sentence,
    costs_table,
    fitting,
    groups_sentences,
    headline_sentence,
    layer_facts,
    lines_of,
    peaks_sentence,
    tracing_sentence,
    tried_sentence,
)
from profiler.report.plain import standard_console
from profiler.run.experiment import measure_into, opened_lab
from profiler.run.explaining import traces_of
from profiler.run.lab import Lab

#: Options of a trial, and the keys of a plan that they are.
_KEYS = {"backend": "backends", "batch": "batches", "threads": "threads", "memory_format": "memory_formats"}

_Model = Annotated[
    str,
    Argument(
        metavar="MODEL",
        help="A name, package.module:function, a file; or a run, for all that it measured.",
        autocompletion=model_names,
    ),
]
_Backend = Annotated[
    Many,
    Option("--backend", metavar="B", help="Runtime [eager; onnxruntime for its files].", autocompletion=backend_names),
]


def explain_command(
    model: _Model,
    backend: _Backend = None,
    batch: Annotated[Many, Option("--batch", metavar="N", help="Examples per forward [1].")] = None,
    device: Annotated[Many, Option("--device", metavar="D", help="cpu, cuda:0, ... [cpu].")] = None,
    threads: Annotated[Many, Option("--threads", metavar="N", help="Threads [every usable core].")] = None,
    precision: Annotated[Many, Option("--precision", metavar="P", help="fp32, tf32, fp16 or bf16 [fp32].")] = None,
    shape: Shape = None,
    input_file: InputFile = None,
    time: Annotated[str, Option("--time", metavar="10s", help="How long to measure the latency.")] = "10s",
    csv: Annotated[Path | None, Option("--csv", metavar="FILE", help="Write all layers.")] = None,
    html: Annotated[Path | None, Option("--html", metavar="FILE", help="Write a page.")] = None,
    verify: Annotated[bool, Option("--verify", help="Try what would make it faster, as long each.")] = False,
    costs: Annotated[
        Path | None, Option("--costs", metavar="FILE", help="Add what layers cost to a JSON file.")
    ] = None,
    json: Json = False,
) -> None:
    """Print which layers take the time of a forward.

    Of a run, a line for each network that it measured.

    Raises:
        UserError: The model cannot be had or measured, an option is wrong, or the backend does not tell its layers.
    """
    if is_folder(Path(model)) or model.endswith(".jsonl"):
        others: dict[str, object] = {
            "device": device,
            "batch": batch,
            "threads": threads,
            "precision": precision,
            "shape": shape,
            "input": input_file,
        }
        others |= {"csv": csv, "html": html, "verify": verify, "json": json}
        _run(Path(model), backend, costs, [name for name, value in others.items() if value])
        return
    runtime = backend or ("onnxruntime" if form(model) == "onnx" else "eager")
    flags: dict[str, object] = {"models": model, "backends": runtime, "batches": batch, "threads": threads}
    flags |= {"devices": device, "precisions": precision, "shapes": shape, "input_file": input_file, "time": time}
    keep = _keeper(costs)
    one = _explanation(for_answer(**flags))
    advices = suggestions(one, host.usable_cores())
    trials = list(_trials(one, advices, flags)) if verify else []
    if json:
        print(jsonlib.dumps(layer_facts(one, advices, trials), indent=2, allow_nan=False))
    else:
        _print(one, advices, trials)
    keep(one)
    if csv is not None:
        write_csv((layer.row() for layer in one.layers), csv, LAYER_COLUMNS)
    if html is not None:
        from profiler.report.layers_page import write_layers_page

        write_layers_page(one, advices, trials, html)


def _run(source: Path, backend: str | None, costs: Path | None, others: Sequence[str]) -> None:
    from profiler.cli.explain_run import explain_run  # pandas takes half a second

    if others:
        told = ", ".join(f"--{name}" for name in others)
        raise UserError(f"{source} is a run, whose cases say how they ran; leave out {told}, or give a model")
    explain_run(source, backend, costs)


def _keeper(costs: Path | None) -> Callable[[Explanation], object]:
    """Return what keeps an explanation in a file of costs; raises UserError where the file is another one."""
    if costs is None:
        return lambda _: None
    from profiler.cli.explain_run import keep_costs, known_costs  # pandas takes half a second

    return partial(keep_costs, known_costs(costs), costs)


def _trials(one: Explanation, advices: Sequence[Suggestion], flags: dict[str, object]) -> Iterator[Tried]:
    """Measure each way that is advised and can be tried, as the case was measured."""
    done: list[dict[str, str]] = []
    for trial in (each.trial for each in advices):
        if trial and trial not in done:
            done.append(trial)
            print(f"trying {' '.join(f'{name} {value}' for name, value in trial.items())}", file=sys.stderr)
            with _measured(for_answer(**flags | {_KEYS[name]: value for name, value in trial.items()})) as (row, _, _):
                yield tried(trial, one.row, row)


@contextmanager
def _measured(plan: Plan) -> Iterator[tuple[Row, Case, Lab]]:
    """Give the row of the one case of ``plan``, the case, and what its visits shared."""
    cases = expand(plan, host.usable_cores())
    if len(cases) != 1:
        raise UserError(f"{len(cases)} cases are asked for: explain one, with one value for each option")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="latency-profiler-")))
        lab = stack.enter_context(opened_lab(plan, calibrate=False))
        measure_into(folder, plan, cases, lab)
        found = read(folder)
        [row] = table.rows(found)
        yield row, found.records[-1].case, lab


def _explanation(plan: Plan) -> Explanation:
    with _measured(plan) as (row, case, lab):
        latency = latency_of(row)
        if latency is None:
            raise UserError(str(row["reason"]))
        print("tracing its layers", file=sys.stderr)
        traces = traces_of(case, latency.value, lab)
    return explained(row, latency, traces.processes, traces.peaks, traces.no_peaks)


def _print(one: Explanation, advices: Sequence[Suggestion], trials: Sequence[Tried]) -> None:
    console = standard_console()
    costs, texts = costs_table(one), (*groups_sentences(one), tracing_sentence(one), peaks_sentence(one))
    above = sum(lines_of(text, console.width) for text in (headline_sentence(one), *texts))
    console.print(headline_sentence(one), highlight=False, markup=False)
    console.print(costs)
    said = [*map(advice_sentence, advices)]
    advice = said if trials else fitting(above + costs.row_count + 2, said, console.width)  # what was tried is told
    for text in (*texts, *advice, *map(tried_sentence, trials)):
        console.print(text, highlight=False, markup=False)
