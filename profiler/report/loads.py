"""A model under load in words: the table that a terminal and a page show, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from profiler.analysis.load import MOST_STREAMS, NEAR_BEST, Curve, Limit, UnderLoad, load_curves, most_kept
from profiler.records.load import LoadPoint, LoadRecord
from profiler.report.console import fitting_table, whole_table
from profiler.report.grid import Cell, Table
from profiler.report.plain import fits_in
from profiler.units import format_count, format_duration, format_share, three_digits

#: A load that keeps its session busier than this has a queue that grows for as long as one looks.
_SATURATED = 0.98
_WAITING = "waiting"
_NUMBERS = ("threads", "per s [95%]", "p50", "p90", "p99 [95%]", _WAITING, "busy")
#: What is left out, first one first, where a table would be wider than its terminal.
_SPARED = ("p90", "threads", "busy")


@dataclass(frozen=True, slots=True)
class LoadTables:
    """Loads as a terminal shows them: one table, or where that is too wide one for each curve, of columns that fit."""

    told: Sequence[UnderLoad]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield what rich prints."""
        whole = whole_table(load_table(self.told))
        curves = load_curves(self.told)
        if fits_in(whole, console, options):
            yield whole
            return
        for curve in curves:
            if len(curves) > 1:
                yield Text(curve.name, style="bold")
            loads = (*curve.closed, *curve.opened)
            table, *narrower = (load_table(loads, _SPARED[:spared]) for spared in range(len(_SPARED) + 1))
            yield fitting_table(table._replace(narrower=tuple(narrower)))


def load_table(told: Sequence[UnderLoad], without: Sequence[str] = ()) -> Table:
    """Return a row per load, those of a curve together; the knees stand out.

    Args:
        told: The loads.
        without: Headings of columns of numbers to leave out. Who has no rate has no column of waiting either.
    """
    found = load_curves(told)
    named = len(found) > 1
    opened = any(curve.opened for curve in found)
    kept = [name for name in _NUMBERS if name not in without and (opened or name != _WAITING)]
    rows: list[list[Cell]] = []
    best = set()
    for curve in found:
        for one in (*curve.closed, *curve.opened):
            if one is curve.knee:
                best.add(len(rows))
            cells = dict(zip(_NUMBERS, _cells(one), strict=True))
            rows.append([*([curve.name] if named else []), str(one[0].load), *(cells[name] for name in kept)])
    texts = ("runtime", "load") if named else ("load",)
    return Table(texts, kept, rows, best=frozenset(best))


def _cells(one: UnderLoad) -> list[Cell]:
    record, point = one
    return [
        _number(record.case.placement.threads, str(record.case.placement.threads)),
        _rate(point),
        _time(point.p50_ms),
        _time(point.p90_ms),
        _time(point.p99_ms, *_tail(point)),
        _time(point.waiting_ms) if record.load.rate else "",
        _number(point.busy, f"{point.busy:.0%}"),
    ]


def _rate(point: LoadPoint) -> Cell:
    said = format_count(point.calls_per_s)
    scale = {"k": 1e3, "M": 1e6}.get(said.rpartition(" ")[2], 1.0)
    ends = (end if end is None else end / scale for end in (point.calls_low_per_s, point.calls_high_per_s))
    return _number(point.calls_per_s, said + _ends(*ends))


def _number(value: float, text: str) -> Cell:
    return text, repr(value)


def _time(ms: float | None, low: float | None = None, high: float | None = None) -> Cell:
    if ms is None:
        return ""
    said = format_duration(ms / 1e3)
    scale = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}.get(said.rpartition(" ")[2], 1.0)
    ends = _ends(None if low is None else low / scale, None if high is None else high / scale)
    return _number(ms, said + ends)


def _tail(point: LoadPoint) -> tuple[float | None, float | None]:
    return point.p99_low_ms, point.p99_high_ms


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" [{three_digits(low)}, {three_digits(high)}]"


def load_sentences(
    records: Sequence[LoadRecord], told: Sequence[UnderLoad], limit: Limit | None, cores: int | None
) -> list[str]:
    """Return what follows from loads: the knee of each curve, who keeps ``limit``, what was strained, and why none."""
    said = [f"{record.load}: {record.failure.reason}" for record in records if record.failure]
    for curve in load_curves(told):
        said += [*_knee(curve), *(_kept(curve, limit) if limit else ()), *_strained(curve)]
    return list(dict.fromkeys([*said, *_shared(told, cores), *_streams(told)]))


def _knee(curve: Curve) -> Iterator[str]:
    knee = curve.knee
    if knee is None:
        return
    most = max(curve.closed, key=lambda one: one[1].calls_per_s)
    at = f"{curve.name}: the knee is at {knee[0].load}, {format_count(knee[1].calls_per_s)} calls per s"
    at += f" at {_said_ms(knee[1].p50_ms)} each"
    if most is knee:
        last = knee is curve.closed[-1]
        yield f"{at}, the most of all tried{'; more streams may bring more' if last else ''}."
        return
    more = most[1].calls_per_s / knee[1].calls_per_s - 1
    longer = (most[1].p50_ms or 0.0) / (knee[1].p50_ms or 1.0)
    yield f"{at}; {most[0].load} bring {format_share(more)} more and take {longer:.2g} times as long."


def _said_ms(ms: float | None) -> str:
    return format_duration((ms or 0.0) / 1e3)


def _kept(curve: Curve, limit: Limit) -> Iterator[str]:
    for loads, plural in ((curve.closed, "no number of streams"), (curve.opened, "no rate")):
        if not loads:
            continue
        kept = most_kept(loads, limit)
        if kept is None:
            yield f"{curve.name}: {plural} that was tried is known to keep {limit}{_doubt(loads, limit)}."
            continue
        verb = "keeps" if kept[0].load.streams == 1 else "keep"
        yield f"{curve.name}: {kept[0].load} {verb} {limit} ({_measured(kept[1], limit)}){_beyond(loads, kept, limit)}."


def _measured(point: LoadPoint, limit: Limit) -> str:
    value, low, high = (getattr(point, f"{limit.percentile}{end}_ms") for end in ("", "_low", "_high"))
    at = _time(value, low, high) if value is not None else ""
    if at:
        return at[0]
    return f"from {_said_ms(low)} on" if high is None else f"{_said_ms(low)} to {_said_ms(high)}"


def _doubt(loads: Sequence[UnderLoad], limit: Limit) -> str:
    """Say what of the first load is not known, where that is why nothing is."""
    if limit.held(loads[0][1]) is None:
        return f": {loads[0][0].load} had {_measured(loads[0][1], limit)}, a longer --time tells"
    return f": {loads[0][0].load} had {_measured(loads[0][1], limit)}"


def _beyond(loads: Sequence[UnderLoad], kept: UnderLoad, limit: Limit) -> str:
    """Say what the next load did, or that there was none."""
    after = [one for one in loads if loads.index(one) > loads.index(kept)]
    if not after:
        most = "the most that are tried unless --streams names more"
        return f"; {most if kept[0].load.streams == MOST_STREAMS else 'no more were tried'}"
    record, point = after[0]
    sure = limit.held(point) is False
    verb = "does" if record.load.streams == 1 else "do"
    return f"; {record.load} {f'{verb} not' if sure else 'may not'} ({_measured(point, limit)})"


def _strained(curve: Curve) -> Iterator[str]:
    for record, point in curve.opened:
        if point.busy > _SATURATED:
            yield (
                f"{curve.name}: {record.load} are more than it serves: the queue grows for as long as one looks, and "
                "latency with it."
            )


def _shared(told: Sequence[UnderLoad], cores: int | None) -> Iterator[str]:
    """Say where threads wait for each other's cores."""
    on_cpu = [(record.load, record.case.placement) for record, _ in told if record.case.placement.device == "cpu"]
    crowded = [load for load, place in on_cpu if cores and load.streams * place.threads > cores]
    if crowded:
        loads = ", ".join(dict.fromkeys(map(str, crowded)))
        yield f"{loads}: more threads than the {cores} cores, which they share."


def _streams(told: Sequence[UnderLoad]) -> Iterator[str]:
    """Say what a stream is, and what the knee is."""
    ways = dict.fromkeys(record.load.ways for record, _ in told if not record.load.rate)
    said = {
        "processes": "Each stream is a process with a session of its own",
        "threads": "All streams are threads of one process, each with a session of its own",
    }
    for way in ways:
        yield f"{said[way]}; the knee is the fewest streams with {NEAR_BEST:.0%} of the most calls per second."
