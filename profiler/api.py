"""What a Python program asks: how fast is this model here, which of these is fastest, and a whole plan."""

from __future__ import annotations

import html
import io
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from profiler.analysis.speed import fastest, latency_of
from profiler.errors import UserError
from profiler.machine import host
from profiler.machine.cache import cache_folder
from profiler.models.live import lent
from profiler.plan.cases import expand
from profiler.plan.plan import Plan
from profiler.plan.read import for_answer, load, override
from profiler.records import table
from profiler.records.columns import Row
from profiler.records.intervals import Interval
from profiler.records.reading import read
from profiler.report.answer import AnswerTable, answer_sentence, remarks
from profiler.run.calibrations import Calibrations
from profiler.run.child import Limits
from profiler.run.experiment import measure_into, opened_lab
from profiler.run.here import HereExecutor
from profiler.run.lab import Lab

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

#: The options of ``latency``, and the keys of a plan that they are.
_KEYS = {
    "batch": "batches",
    "threads": "threads",
    "device": "devices",
    "precision": "precisions",
    "memory_format": "memory_formats",
    "shape": "shapes",
    "input_file": "input_file",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """How fast one or several models are here; prints as a table, in a notebook too.

    Attributes:
        rows: One for each model, backend and setting, with the columns of ``profiler.records.columns``.
    """

    rows: tuple[Row, ...]

    @property
    def best(self) -> Row:
        """The fastest row; raises UserError with the reason where nothing could be measured."""
        found = fastest(self.rows)
        if found is None:
            raise UserError(f"nothing could be measured: {self.rows[0]['reason']}")
        return found.row

    @property
    def latency_ms(self) -> float:
        """Latency of one forward of the whole batch, of the fastest row, in ms."""
        found = latency_of(self.best)
        assert found is not None  # it was ranked by it
        return found.value

    @property
    def interval_ms(self) -> Interval | None:
        """Its 95% interval in ms; None from a single visit."""
        found = latency_of(self.best)
        return found.interval if found else None

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a data frame, without the columns that are empty in all of them."""
        import pandas as pd

        return pd.DataFrame(list(self.rows)).dropna(axis="columns", how="all")

    def __str__(self) -> str:
        """The table and the sentence below it, as ``profiler latency`` prints them."""
        console = Console(file=io.StringIO(), width=100)
        console.print(self)
        printed: str = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
        return printed.rstrip()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield what rich prints."""
        yield AnswerTable(self.rows)
        yield from map(Text, (*remarks(self.rows), answer_sentence(self.rows)))

    def _repr_html_(self) -> str:
        """The table as HTML, for notebooks."""
        made = AnswerTable(self.rows).whole()
        heads = "".join(f"<th>{html.escape(str(column.header))}</th>" for column in made.columns)
        cells = [[html.escape(str(cell).replace("\\[", "[")) for cell in column.cells] for column in made.columns]
        lines = ("".join(f"<td>{cell}</td>" for cell in line) for line in zip(*cells, strict=True))
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        said = html.escape(answer_sentence(self.rows))
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table><p>{said}</p>"


def latency(
    model: nn.Module | str,
    *inputs: Any,
    backend: str = "eager",
    time: str = "10s",
    isolate: bool = False,
    **options: Any,
) -> Answer:
    """Measure how fast a model is here.

    A module is measured in this process, with the inputs as they are; a name in fresh processes, as by
    ``profiler latency``.

    Args:
        model: A torch module, in any mode, or the name of a model.
        *inputs: What the module is called with; arguments by keyword are a dict at the end, after a tuple.
        backend: Runtimes between commas.
        time: How long to measure, as ``10s``.
        isolate: Measure a module in fresh processes too: it is exported with ``torch.export`` for that.
        **options: As the options of ``profiler latency``: ``batch``, ``threads``, ``device``, ``precision``,
            ``memory_format``, ``shape``, ``input_file``; ``batch`` and the last two for a name alone.

    Raises:
        UserError: The model cannot be had, or an option is wrong.
    """
    return compare([model], inputs, backend=backend, time=time, isolate=isolate, **options)


def compare(
    models: Mapping[str, nn.Module] | Iterable[nn.Module | str],
    inputs: Sequence[Any] = (),
    *,
    backend: str = "eager",
    time: str = "10s",
    isolate: bool = False,
    **options: Any,
) -> Answer:
    """Measure several models by turns, all with the same inputs; the arguments are those of ``latency``.

    Args:
        models: Modules and names, or modules by a name for the table.
        inputs: What each module is called with.
        backend: As for ``latency``.
        time: For all of them together.
        isolate: As for ``latency``.
        **options: As for ``latency``.
    """
    titles = list(models) if isinstance(models, Mapping) else []
    given = list(models.values()) if isinstance(models, Mapping) else list(models)
    if not given:
        raise UserError("no model was given: expected a torch module or the name of a model")
    with ExitStack() as stack:
        names = [one if isinstance(one, str) else _named(one, inputs, stack, isolate=isolate) for one in given]
        if isolate or all(isinstance(one, str) for one in given):
            rows = _rows(_plan(names, backend, time, options), here=False)
        elif any(isinstance(one, str) for one in given):
            raise UserError("names are measured in fresh processes and modules in this one: give isolate=True for both")
        else:
            rows = _rows(_plan(names, backend, time, options), here=True)
    called = dict(zip(names, titles, strict=False))
    return Answer(tuple({**row, "model": called.get(str(row["model"]), str(row["model"]))} for row in rows))


def run_plan(
    plan: str | Path | Plan, *, out: str | Path | None = None, resume: bool = False, **changes: Any
) -> pd.DataFrame:
    """Measure a plan as ``profiler run`` does, and return its table: a row for each case.

    Args:
        plan: Name of a built-in plan, path of a TOML file, or a plan.
        out: Folder that keeps the run; None keeps nothing.
        resume: Continue the run that ``out`` holds.
        **changes: Keys of the plan to replace, as ``time="1min"`` or ``models=["resnet50"]``.

    Raises:
        UserError: The plan is wrong, or the folder cannot be used.
    """
    given = plan if isinstance(plan, Plan) else load(plan)
    changed = override(given, **changes) if changes else given
    with _folder(out) as folder, opened_lab(changed) as lab:
        cases = expand(changed, host.usable_cores())
        go_on = f"profiler.run(..., out={str(out)!r}, resume=True)" if out is not None else ""
        measure_into(folder, changed, cases, lab, resume=resume, passes=changed.passes, go_on=go_on)
        return table.frame(read(folder))


def _plan(names: Sequence[str], backend: str, time: str, options: Mapping[str, Any]) -> Plan:
    if unknown := options.keys() - _KEYS.keys():
        raise UserError(f"unknown option {', '.join(sorted(unknown))}: expected some of {', '.join(_KEYS)}")
    flags = {_KEYS[name]: value for name, value in options.items()}
    return for_answer(models=list(names), backends=backend, time=time, **flags)


def _named(module: nn.Module, inputs: Sequence[Any], stack: ExitStack, *, isolate: bool) -> str:
    if not isolate:
        return stack.enter_context(lent(module, tuple(inputs)))
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="latency-profiler-")))
    return str(_exported(module, tuple(inputs), folder / f"{type(module).__name__}.pt2"))


def _exported(module: nn.Module, inputs: tuple[Any, ...], path: Path) -> Path:
    import torch

    from profiler.models.examples import arranged

    args, kwargs = arranged(inputs)
    try:
        torch.export.save(torch.export.export(module.eval(), args, kwargs), path)
    except Exception as error:
        said = str(error).strip().partition("\n")[0]
        raise UserError(
            f"torch.export cannot export {type(module).__name__} ({type(error).__name__}: {said}), which isolate=True "
            "needs: leave it out, or name a factory, as path/file.py:function"
        ) from error
    return path


def _rows(plan: Plan, *, here: bool) -> list[Row]:
    with _folder(None) as folder, _lab_here(plan) if here else opened_lab(plan, calibrate=False) as lab:
        cases = expand(plan, host.usable_cores())
        # The memory of a process is what all that it holds takes.
        measure_into(folder, plan, cases, lab, passes=() if here else ("memory",))
        return table.rows(read(folder))


@contextmanager
def _lab_here(plan: Plan) -> Iterator[Lab]:
    executor = HereExecutor()
    calibrations = Calibrations(executor, cache_folder(), lambda _: Limits(), measure=False)
    yield Lab(plan.budget, executor, lambda _: Limits(), calibrations, plan.feed)


@contextmanager
def _folder(out: str | Path | None) -> Iterator[Path]:
    if out is not None:
        yield Path(out)
        return
    with tempfile.TemporaryDirectory(prefix="latency-profiler-") as folder:
        yield Path(folder)
