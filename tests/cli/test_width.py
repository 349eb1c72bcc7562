"""Tables of commands in a terminal of 80 columns: a row is a line, and nothing of it is cut."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from profiler.backends.base import Placement
from profiler.cli import workers
from profiler.cli.advise import advise_command
from profiler.cli.baseline import show
from profiler.cli.compare import compare_command
from profiler.cli.fit import fit_command
from profiler.cli.frontier import frontier_command
from profiler.cli.history import history_command
from profiler.cli.models import models_command
from profiler.cli.rank import rank_command
from profiler.gate.baseline import update
from profiler.measure.layers import Layer
from profiler.records.types import Case
from profiler.report.explanation import costs_table
from profiler.report.plain import Fitting
from profiler.run.errand import Introduction
from profiler.run.fleet import Member
from tests import ROOT
from tests.analysis.test_layers import explain, traced
from tests.gate.runs import CASE, measured, record, written

REFERENCE = ROOT / "results" / "reference"
QUICK, SWEEP = (REFERENCE / name / "cases.csv" for name in ("quick", "sweep"))
WIDE = Case("efficientnet_b0", "d1_w8_g8_r1", 2.5, "onnxruntime", Placement(threads=16), batch=128)


def kept(folder: Path) -> Path:
    """A folder with five runs of two networks."""
    for day in range(1, 6):
        cases = (CASE, WIDE)
        visits = [
            record(case, measured(100 * day + n / 7), n, started=f"2026-01-0{day}") for case in cases for n in range(5)
        ]
        written(folder / f"monday-after-the-change-{day}", *visits)
    return folder


def baseline(folder: Path) -> None:
    update(kept(folder) / "monday-after-the-change-1", folder / "baseline.jsonl", replace=False)
    show(folder / "baseline.jsonl")


def fleet(_: Path) -> None:
    versions = {"torch": "2.11.0+cu130", "onnxruntime": "1.32.0"}
    known = Introduction("xeon-large", "cuda:0", False, "n", "node-17.cluster", {}, "0123456789ab", versions)  # noqa: FBT003
    member = Member("tcp://127.0.0.1:1", known, visits=12345, calibrated="2026-01-02T03:04:05+00:00")
    Console().print(workers._table([member, replace(member, visits=1)]))


def copied(folder: Path) -> Path:
    """The quick run, as a table in another folder."""
    folder.mkdir()
    return Path(shutil.copy(QUICK, folder))


def layers(_: Path) -> None:
    names = [f"layer{n}.with.a.long.path" for n in range(20)]
    made = [traced(*(Layer(name, "convolution", 1e6 * (n + k)) for n, name in enumerate(names))) for k in (1, 9)]
    Console().print(costs_table(explain(*made, latency=123.4)))


COMMANDS: dict[str, Callable[[Path], None]] = {
    "advise": lambda _: advise_command("efficientnet_b0", QUICK, flops="600MF", backend="eager"),
    "advise regnet": lambda _: advise_command("regnety_4.0gf", SWEEP, flops="16GF", backend="onnxruntime"),
    "baseline show": baseline,
    "compare": lambda _: compare_command([SWEEP]),
    "compare runs": lambda folder: compare_command([copied(folder / name) for name in ("before", "after")]),
    "compare long names": lambda folder: compare_command(
        [copied(folder / name) for name in ("monday-before-the-change", "tuesday-after-the-change", "b")]
    ),
    "explain": layers,
    "fit": lambda _: fit_command(QUICK),
    "frontier": lambda _: frontier_command(SWEEP, latency="20ms", predict_accuracy=True),
    "history": lambda folder: history_command(kept(folder)),
    "models": lambda _: models_command(),
    "rank": lambda _: rank_command(SWEEP, flops="800MF", backend="onnxruntime"),
    "workers": fleet,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_row_is_a_line_of_80_columns(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Table | Fitting] = []
    printed = Console.print

    def watched(console: Console, *given: object, **how: object) -> None:
        seen.extend(one for one in given if isinstance(one, Table | Fitting))
        printed(console, *given, **how)  # type: ignore[arg-type]  # as it came

    monkeypatch.setattr(Console, "print", watched)
    COMMANDS[command](tmp_path)
    assert seen
    monkeypatch.undo()
    for table in seen:
        narrow, wide = (lines(table, width) for width in (80, 1000))
        assert len(narrow) == len(wide), "\n".join(narrow)
        assert [line.split() for line in narrow] == [line.split() for line in wide]


def lines(table: Table | Fitting, width: int) -> list[str]:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return capture.get().splitlines()
