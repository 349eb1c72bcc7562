"""``profiler load``: latency and throughput of a model under load."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Annotated

from rich.console import Console
from rich.table import Table
from typer import Exit, Option

from profiler.cli.options import InputFile, Json, Many, Model, Shape
from profiler.errors import UserError
from profiler.machine import host
from profiler.machine.cache import cache_folder
from profiler.plan.cases import expand
from profiler.plan.read import for_answer
from profiler.records.load import LoadPoint, keeping
from profiler.records.types import Case, Failure
from profiler.run.describing import described
from profiler.run.experiment import opened_lab
from profiler.run.lab import Lab
from profiler.run.loads import under_load
from profiler.run.preparing import prepare_exports
from profiler.units import parse_duration

#: A load that keeps its session busier than this has a queue that grows for as long as one looks.
_SATURATED = 0.98

_Point = tuple[Case, int, float | None, LoadPoint | Failure]


def load_command(
    model: Model,
    backend: Annotated[str, Option("--backend", metavar="B,B", help="Runtimes.")] = "onnxruntime",
    streams: Annotated[
        str | None, Option("--streams", metavar="N,N", help="Closed loops at once, a process each.")
    ] = None,
    rate: Annotated[str | None, Option("--rate", metavar="R,R", help="Requests per second at Poisson times.")] = None,
    threads: Annotated[
        int | None, Option("--threads", metavar="N", help="Threads of each stream [usable cores over streams].")
    ] = None,
    batch: Annotated[Many, Option("--batch", metavar="N", help="Examples per call [1].")] = None,
    device: Annotated[Many, Option("--device", metavar="D", help="cpu, cuda:0, ... [cpu].")] = None,
    precision: Annotated[Many, Option("--precision", metavar="P", help="fp32, fp16, bf16 [fp32].")] = None,
    shape: Shape = None,
    input_file: InputFile = None,
    time: Annotated[str, Option("--time", metavar="5s", help="How long each load lasts.")] = "5s",
    under: Annotated[str | None, Option("--under", metavar="50ms", help="Say how many streams keep p99 below.")] = None,
    seed: Annotated[int, Option("--seed", metavar="N", help="Of the times of arrival.")] = 0,
    json: Json = False,
) -> None:
    """Print latency and throughput of a model under load.

    Raises:
        UserError: The model cannot be had, or an option is wrong.
    """
    seconds, limit_ms = parse_duration(time), None if under is None else parse_duration(under) * 1e3
    loads: list[tuple[int, float | None]] = [
        (n, None) for n in _numbers("--streams", streams or ("" if rate else "1,2"))
    ]
    loads += [(1, float(r)) for r in _rates(rate)]
    if threads is not None and threads < 1:
        raise UserError(f"--threads is {threads}: expected 1 or more")
    flags = {"models": model, "backends": backend, "batches": batch, "devices": device}
    plan = for_answer(**flags, precisions=precision, shapes=shape, input_file=input_file, threads="1", time=time)
    with opened_lab(plan, calibrate=False) as lab:
        known = described(expand(plan, host.usable_cores()), lab.executor)
        for failure in known.failed.values():
            raise UserError(failure.reason)
        points = list(_points(known.cases, loads, threads, lab, seconds, seed))
    raise Exit(_printed(points, limit_ms, json=json))


def _numbers(flag: str, text: str) -> list[int]:
    found = [part.strip() for part in text.split(",") if part.strip()]
    for part in found:
        if not part.isdigit() or not 1 <= int(part) <= 256:
            raise UserError(f"{flag} is {part[:40]!r}: expected whole numbers from 1 to 256, as 1,2,4")
    return list(dict.fromkeys(map(int, found)))


def _rates(text: str | None) -> list[float]:
    rates = []
    for part in (text or "").split(",") if text else ():
        try:
            rates.append(float(part))
        except ValueError:
            rates.append(0.0)
        if not 0 < rates[-1] <= 1e5:
            raise UserError(
                f"--rate is {part[:40]!r}: expected requests per second, above 0 and up to 100000, as 20,50"
            )
    return rates


def _points(
    cases: tuple[Case, ...],
    loads: list[tuple[int, float | None]],
    threads: int | None,
    lab: Lab,
    seconds: float,
    seed: int,
) -> Iterator[_Point]:
    for case in cases:
        for streams, rate in loads:
            each = threads or max(1, host.usable_cores() // streams)
            placed = replace(case, placement=replace(case.placement, threads=each))
            if lab.another is not None:
                prepare_exports([placed], cache_folder(), lab.budget, lab.limits, lab.another, lambda *_: None)
            yield placed, streams, rate, under_load(placed, lab, seconds, streams=streams, rate=rate, seed=seed)


def _printed(points: list[_Point], limit_ms: float | None, *, json: bool) -> int:
    """Print the loads and what follows from them; return 0 when each has an answer, else 1."""
    said = list(_sentences(points, limit_ms))
    if json:
        rows = [
            {
                "model": case.network,
                "backend": case.backend,
                "threads": case.placement.threads,
                "streams": n,
                "rate": rate,
            }
            | ({"reason": one.reason} if isinstance(one, Failure) else asdict(one))
            for case, n, rate, one in points
        ]
        print(jsonlib.dumps({"answer": said, "loads": rows}, indent=2))
    else:
        console = Console()
        console.print(_table(points))
        for sentence in said:
            console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    return 0 if all(isinstance(one, LoadPoint) for *_, one in points) else 1


def _table(points: list[_Point]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("backend", "load", "threads", "p50 ms", "p90 ms", "p99 ms", "waiting", "per s", "busy"):
        table.add_column(name, justify="left" if name in ("backend", "load") else "right", overflow="fold")
    for case, streams, rate, one in points:
        load = f"{rate:g} per s" if rate else f"{streams} stream{'s' * (streams != 1)}"
        numbers: list[str] = []
        if isinstance(one, LoadPoint):
            times = (one.p50_ms, one.p90_ms, one.p99_ms, one.waiting_ms if rate else None, one.throughput_per_s)
            numbers = ["" if number is None else f"{number:.3g}" for number in times] + [f"{one.busy:.0%}"]
        table.add_row(case.backend, load, str(case.placement.threads), *numbers)
    return table


def _sentences(points: list[_Point], limit_ms: float | None) -> Iterator[str]:
    yield from dict.fromkeys(one.reason for *_, one in points if isinstance(one, Failure))
    for _, _, rate, one in points:
        if rate and isinstance(one, LoadPoint) and one.busy > _SATURATED:
            yield f"{rate:g} requests per second are more than it serves: the queue grows, and latency with the time"
    for backend in dict.fromkeys(case.backend for case, *_ in points):
        closed = [
            (n, one)
            for case, n, rate, one in points
            if case.backend == backend and not rate and isinstance(one, LoadPoint)
        ]
        if closed:
            most, best = max(closed, key=lambda pair: pair[1].throughput_per_s)
            yield f"{backend}: most per second with {most} stream{'s' * (most != 1)}, {best.throughput_per_s:.3g}."
        if closed and limit_ms is not None:
            kept = keeping(closed, limit_ms)
            yield (
                f"{backend}: {kept} stream{'s' * (kept != 1)} keep p99 under {limit_ms:g} ms."
                if kept
                else f"{backend}: no number of streams tried is known to keep p99 under {limit_ms:g} ms; "
                "an empty p99 needs a longer --time."
            )
