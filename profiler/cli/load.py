"""``profiler load``: latency and throughput of a model under load."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from typer import Exit, Option

from profiler import __version__
from profiler.analysis.load import Limit, UnderLoad, limit_of, next_streams
from profiler.cli.completing import backend_names
from profiler.cli.options import InputFile, Json, Many, Model, Shape
from profiler.errors import UserError
from profiler.machine import host
from profiler.machine.cache import cache_folder
from profiler.plan.cases import expand
from profiler.plan.plan import Plan
from profiler.plan.read import for_answer
from profiler.plan.values import LONGEST_GAP
from profiler.records.columns import Row
from profiler.records.load import LOAD_COLUMNS, Load, LoadRecord, Ways, load_point, load_row
from profiler.records.load_file import append_load, read_loads, start_loads, write_load_table
from profiler.records.types import Case, now
from profiler.report.loads import LoadTables, load_sentences
from profiler.report.plain import print_sentence, standard_console
from profiler.run.describing import described
from profiler.run.experiment import opened_lab
from profiler.run.lab import Lab
from profiler.run.loads import under_load
from profiler.run.preparing import prepare_exports
from profiler.units import format_duration, parse_duration


@dataclass(slots=True)
class _Loads:
    """The loads of one command: made one after another, each kept before the next.

    Attributes:
        folder: Where they are kept.
        threads: Of each stream; None divides the cores.
        records: Those that were made.
        told: What came of those that have calls.
    """

    folder: Path
    threads: int | None
    records: list[LoadRecord] = field(default_factory=list)
    told: list[UnderLoad] = field(default_factory=list)

    def put(self, case: Case, load: Load, lab: Lab) -> UnderLoad | None:
        """Put ``case`` under ``load``, keep what comes of it, and return it where there is something."""
        each = self.threads or max(1, host.usable_cores() // load.streams)
        placed = replace(case, placement=replace(case.placement, threads=each))
        print(f"{case.network} · {case.backend}: {load}, for {format_duration(load.seconds)}", file=sys.stderr)
        if lab.another is not None:
            prepare_exports([placed], cache_folder(), lab.budget, lab.limits, lab.another, lambda *_: None)
        record = under_load(placed, lab, load)
        append_load(self.folder, record)
        self.records.append(record)
        point = load_point(record.streams)
        if point is not None:
            self.told.append((record, point))
        write_load_table(self.folder, self.rows())
        return None if point is None else self.told[-1]

    def rows(self) -> Iterator[Row]:
        """The loads as rows of a table."""
        found = {id(record): point for record, point in self.told}
        for record in self.records:
            yield load_row(record, found.get(id(record)))


def load_command(
    model: Model,
    backend: Annotated[
        str, Option("--backend", metavar="B,B", help="Runtimes.", autocompletion=backend_names)
    ] = "onnxruntime",
    streams: Annotated[str | None, Option("--streams", metavar="N,N", help="Closed loops at once [1,2].")] = None,
    rate: Annotated[str | None, Option("--rate", metavar="R,R", help="Requests per second at Poisson times.")] = None,
    keep: Annotated[
        str | None,
        Option("--keep", metavar="p99=50ms", help="Say how many streams keep it; without --streams, find the most."),
    ] = None,
    ways: Annotated[str, Option("--as", metavar="HOW", help="Streams are processes or threads.")] = "processes",
    threads: Annotated[
        int | None, Option("--threads", metavar="N", help="Threads of each stream [usable cores over streams].")
    ] = None,
    gap: Annotated[
        str | None, Option("--gap", metavar="0s,10ms", help="A stream idles so long before each call [0s].")
    ] = None,
    batch: Annotated[Many, Option("--batch", metavar="N", help="Examples per call [1].")] = None,
    device: Annotated[Many, Option("--device", metavar="D", help="cpu, cuda:0, ... [cpu].")] = None,
    precision: Annotated[Many, Option("--precision", metavar="P", help="fp32, tf32, fp16, bf16 [fp32].")] = None,
    shape: Shape = None,
    input_file: InputFile = None,
    time: Annotated[str, Option("--time", metavar="5s", help="How long each load lasts.")] = "5s",
    seed: Annotated[int, Option("--seed", metavar="N", help="Of the times of arrival.")] = 0,
    out: Annotated[Path | None, Option("--out", metavar="DIR", help="Folder of the loads [results/load-DATE].")] = None,
    report: Annotated[bool, Option("--report", help="Write report.html too, with the curve.")] = False,
    json: Json = False,
) -> None:
    """Print latency and throughput of a model under load.

    Raises:
        UserError: The model cannot be had, or an option is wrong.
    """
    limit = None if keep is None else limit_of(keep)
    if threads is not None and threads < 1:
        raise UserError(f"--threads is {threads}: expected 1 or more")
    base = Load(ways=_ways(ways), seconds=parse_duration(time), seed=seed)
    gaps, counts, rates = _gaps(gap), _numbers("--streams", streams), _rates(rate)
    if gap is not None and rates and not counts:
        raise UserError("--gap is between the calls of closed loops: name some with --streams, or leave it out")
    counts = counts if counts or rates or limit else [1, 2]
    wanted = [replace(base, streams=n, gap_s=each) for each in gaps for n in counts]
    wanted += [replace(base, rate=each) for each in rates]
    flags = {"models": model, "backends": backend, "batches": batch, "devices": device, "precisions": precision}
    plan = for_answer(**flags, shapes=shape, input_file=input_file, threads="1", time=time)
    loads = _Loads(out or Path("results") / f"load-{datetime.now(UTC):%Y%m%d-%H%M%S}", threads)
    with opened_lab(plan, calibrate=False) as lab:
        cases = _cases(plan, lab)
        start_loads(loads.folder, _facts(keep))
        for case in cases:
            for load in wanted:
                loads.put(case, load, lab)
            for each in gaps if limit and not wanted else ():
                _search(loads, case, replace(base, gap_s=each), lab, limit)
    _print(loads, limit, json=json)
    if report:
        _write_page(loads.folder)
    raise Exit(0 if len(loads.told) == len(loads.records) else 1)


def _write_page(folder: Path) -> None:
    from profiler.report.load_page import write_load_page  # pandas takes a second

    write_load_page(read_loads(folder), folder / "report.html")


def _search(loads: _Loads, case: Case, base: Load, lab: Lab, limit: Limit | None) -> None:
    """Put ``case`` under more streams, and then fewer, until the most that keep ``limit`` are known."""
    tried: dict[int, bool] = {}
    while (streams := next_streams(tried)) is not None:
        found = loads.put(case, replace(base, streams=streams), lab)
        tried[streams] = bool(found and limit and limit.held(found[1]))


def _cases(plan: Plan, lab: Lab) -> Sequence[Case]:
    known = described(expand(plan, host.usable_cores()), lab.executor)
    for failure in known.failed.values():
        raise UserError(failure.reason)
    return known.cases


def _facts(keep: str | None) -> dict[str, object]:
    return {
        "host": {"key": host.key(), **host.facts()},
        "versions": {"latency-profiler": __version__, **host.versions()},
        "argv": sys.argv[1:],
        "started": now(),
        "keep": keep or "",
    }


def _parts(text: str | None) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))


def _ways(text: str) -> Ways:
    if text not in ("processes", "threads"):
        raise UserError(f"--as is {text[:40]!r}: expected processes or threads")
    return "processes" if text == "processes" else "threads"


def _numbers(flag: str, text: str | None) -> list[int]:
    found = _parts(text)
    for part in found if text is None or found else [""]:
        if not (part.isascii() and part.isdigit()) or not 1 <= int(part) <= 256:
            raise UserError(f"{flag} is {part[:40]!r}: expected whole numbers from 1 to 256, as 1,2,4")
    return list(dict.fromkeys(map(int, found)))


def _rates(text: str | None) -> list[float]:
    rates = []
    for part in _parts(text):
        try:
            rates.append(float(part))
        except ValueError:
            rates.append(0.0)
        if not 0 < rates[-1] <= 1e5:
            raise UserError(
                f"--rate is {part[:40]!r}: expected requests per second, above 0 and up to 100000, as 20,50"
            )
    return rates


def _gaps(text: str | None) -> list[float]:
    found = [(part, 0.0 if part == "0" else parse_duration(part)) for part in _parts(text)]
    for part, seconds in found:
        if seconds > LONGEST_GAP:
            raise UserError(f"--gap is {part!r}: expected at most {LONGEST_GAP:g} s, as 0s,10ms")
    return [seconds for _, seconds in found] or [0.0]


def _print(loads: _Loads, limit: Limit | None, *, json: bool) -> None:
    """Print the loads, what follows from them, and where they are kept."""
    said = load_sentences(loads.records, loads.told, limit, host.usable_cores())
    if json:
        rows = [{name: row[name] for name in LOAD_COLUMNS} for row in loads.rows()]
        print(jsonlib.dumps({"answer": said, "folder": str(loads.folder), "loads": rows}, indent=2))
        return
    console = standard_console()
    if loads.told:
        console.print(LoadTables(loads.told))
    kept = f"Nothing was measured; the reasons are kept in {loads.folder}"
    if loads.told:
        kept = f"Every call is kept in {loads.folder}; the curve: profiler report {loads.folder}"
    for sentence in (*said, kept):
        print_sentence(console, sentence)
