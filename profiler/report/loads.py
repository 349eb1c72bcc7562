"""A model under load in words: the table that a terminal and a page show, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from profiler.analysis.load import MOST_STREAMS, NEAR_BEST, Curve, Limit, UnderLoad, load_curves, most_kept
from profiler.records.load import LoadPoint, LoadRecord
from profiler.report.grid import Cell, Table
from profiler.units import format_duration, format_share

#: A load that keeps its session busier than this has a queue that grows for as long as one looks.
_SATURATED = 0.98


def load_table(told: Sequence[UnderLoad]) -> Table:
    """Return a row per load, those of a curve together; the knees stand out."""
    found = load_curves(told)
    named = len(found) > 1
    rows: list[list[Cell]] = []
    best = set()
    for curve in found:
        for one in (*curve.closed, *curve.opened):
            if one is curve.knee:
                best.add(len(rows))
            rows.append([*([curve.name] if named else []), *_cells(one)])
    texts = ("runtime", "load") if named else ("load",)
    numbers = ("threads", "per s [95%]", "p50", "p90", "p99 [95%]", "waiting", "busy")
    return Table(texts, numbers, rows, best=frozenset(best))


def _cells(one: UnderLoad) -> list[Cell]:
    record, point = one
    rate = f"{point.calls_per_s:.3g}" + _ends(point.calls_low_per_s, point.calls_high_per_s)
    return [
        str(record.load),
        _number(record.case.placement.threads, str(record.case.placement.threads)),
        _number(point.calls_per_s, rate),
        _time(point.p50_ms),
        _time(point.p90_ms),
        _time(point.p99_ms, *_tail(point)),
        _time(point.waiting_ms) if record.load.rate else "",
        _number(point.busy, f"{point.busy:.0%}"),
    ]


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
    return "" if low is None or high is None else f" [{low:.3g}, {high:.3g}]"


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
    at = f"{curve.name}: the knee is at {knee[0].load}, {knee[1].calls_per_s:.3g} calls per s"
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
