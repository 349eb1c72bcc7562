"""What a run says at its end: a sentence for each backend and one table, in no more than 25 lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from profiler.analysis.speed import latency_of, speed_up
from profiler.records.columns import Row
from profiler.records.intervals import CONFIDENCE
from profiler.report.grid import Table
from profiler.units import format_bytes, format_ratio, three_digits

if TYPE_CHECKING:
    from profiler.analysis.fit import Fit

#: Rows of the table, and sentences; what would be more stands in the page.
_ROWS, _SENTENCES = 12, 4
#: Columns that tell settings apart, beside the backend.
SETTINGS = ("fleet_label", "shape", "batch", "threads", "device", "precision", "memory_format", "mode", "gap_ms")
#: Half width of an interval, relative, up to which a latency is called known.
_KNOWN = 0.10

#: The rows of one network at one setting, by backend.
_Side = Mapping[str, Row]


def network_of(row: Row) -> str:
    """Return the network of a row as people say it, without its shape."""
    scaled = f"{row['scaling']} x{row['factor']:.4g}" if row["scaling"] else ""
    return " ".join(filter(None, (str(row["model"]), scaled, str(row["step"] or ""))))


def latencies_table(rows: Sequence[Row]) -> Table | None:
    """A row for each network and setting, a column for each backend; None where that would be too many.

    A cell holds the latency in ms with its 95% interval, and how many times as fast as the first backend that is.
    """
    backends, varying = _backends(rows), [key for key in SETTINGS if len({row[key] for row in rows}) > 1]
    sides = {(network_of(side[0]), *(str(side[0][key] or "") for key in varying)): side for side in _sides(rows)}
    if len(sides) > _ROWS or len(backends) > len(SETTINGS):
        return None
    unit = "ms a step" if all(row["mode"] == "train" for row in rows) else "ms"
    heads = [head for name in backends for head in ((f"{name} ({unit})",) if name == backends[0] else (name, "x"))]
    by_backend = {lead: {str(row["backend"]): row for row in side} for lead, side in sides.items()}
    wide = Table(
        ("network",), (*varying, *heads), [(*lead, *_across(found, backends)) for lead, found in by_backend.items()]
    )
    return wide._replace(narrower=(wide.without("x"), _stacked(by_backend, varying, backends)))


def _stacked(by_backend: Mapping[tuple[str, ...], _Side], varying: Sequence[str], backends: Sequence[str]) -> Table:
    """The table with a row for each network, setting and backend: long, and no wider for more backends."""
    rows = []
    for lead, found in by_backend.items():
        for name in (name for name in backends if name in found):
            ratio = _ratio(found, name, backends[0]) if name != backends[0] else None
            rows.append((lead[0], name, *lead[1:], _milliseconds(found[name]), format_ratio(ratio) if ratio else ""))
    return Table(("network", "backend"), (*varying, "ms", "x"), rows)


def legend(rows: Iterable[Row]) -> str:
    """Return what the mark in a table of latencies means, by the first reason; empty where none has it."""
    marked = [row for row in rows if row["status"] != "ok" and latency_of(row) is not None]
    return f"? unstable, {len(marked)} of them: {marked[0]['reason']}" if marked else ""


def _backends(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(str(row["backend"]) for row in rows))


def _sides(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows that differ in their backend alone, together."""
    sides: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        sides.setdefault((network_of(row), *(row[key] for key in SETTINGS)), []).append(row)
    return list(sides.values())


def _across(found: _Side, backends: Sequence[str]) -> Iterator[str]:
    for name in backends:
        row = found.get(name)
        yield _milliseconds(row) if row else ""
        if name != backends[0]:
            ratio = _ratio(found, name, backends[0])
            yield "" if ratio is None else format_ratio(ratio)


def _ratio(found: _Side, name: str, base: str) -> float | None:
    row, other = found.get(name), found.get(base)
    faster = speed_up(row, other) if row and other else None
    return faster.value if faster else None


def _milliseconds(row: Row) -> str:
    found = latency_of(row)
    if found is None:
        return str(row["status"])
    ends = "" if found.interval is None else f" [{three_digits(found.interval[0])}, {three_digits(found.interval[1])}]"
    return f"{three_digits(found.value)}{'' if row['status'] == 'ok' else '?'}{ends}"


def predictors_table(fits: Sequence[Fit]) -> Table | None:
    """A row for each setting: the correlation of its latency with each complexity; None where nothing could be fitted.

    The error is that of the two-term model for a network left out.
    """
    from profiler.report.words import correlation

    pooled = [one for one in fits if one.family is None and one.lines][:_ROWS]
    if not pooled:
        return None
    rows = []
    for one in pooled:
        lines = [one.line(proxy) for proxy in ("acts", "flops", "params")]
        cells = ["" if x is None else correlation(x, 2) for x in lines]
        error = one.two_term.loo_mape if one.two_term else None
        rows.append((_apart(one, pooled), *cells, str(one.n), "" if error is None else f"{error:.0%}"))
    wide = Table(("r with",), ("activations", "flops", "parameters", "n", "error"), rows)
    return wide._replace(narrower=(wide.without("parameters"),))


def _apart(one: Fit, among: Sequence[Fit]) -> str:
    """The values of a group that not all have, as people say them; the backend always."""
    from profiler.analysis.frame import group_label

    same = [key for key in one.group if key != "backend" and len({each.group.get(key) for each in among}) == 1]
    return group_label({key: value for key, value in one.group.items() if key not in same})


def closing_sentences(rows: Sequence[Row], fits: Sequence[Fit], go_on: str = "") -> list[str]:
    """How fast each backend is beside the first, and what predicts its latency; then how many latencies are known.

    Args:
        rows: Of a run.
        fits: Of the same.
        go_on: Command that narrows intervals; "" where none does.
    """
    backends, sides = _backends(rows), [{str(row["backend"]): row for row in side} for side in _sides(rows)]
    said = []
    for name in backends:
        own = [one for one in fits if one.group.get("backend") == name]
        measured = [row for row in rows if row["backend"] == name]
        parts = [_faster(name, backends[0], sides), _predicted(own), _memory(measured)]
        if any(parts):
            said.append(f"{name}: {'; '.join(filter(None, parts))}.")
    return [*said[:_SENTENCES], *_unfit(fits), *_known(rows, go_on)]


def _memory(rows: Iterable[Row]) -> str:
    found = sorted(size for row in rows if isinstance(size := row["peak_memory_bytes"], int))
    sizes = list(dict.fromkeys(map(format_bytes, found[:1] + found[-1:])))
    return f"{' to '.join(sizes)} of memory at its peak" if sizes else ""


def _unfit(fits: Iterable[Fit]) -> list[str]:
    """Say why n is less than there are networks: a second visit may show that the first told little."""
    from profiler.analysis.rows import TOO_WIDE

    wide = sum(why.endswith(TOO_WIDE) for one in fits if one.family is None for _, why in one.left_out)
    what = "1 latency is" if wide == 1 else f"{wide} latencies are"
    return [f"{what} left out of r and n: the visits differ so much that the interval is {TOO_WIDE}."] if wide else []


def _faster(name: str, base: str, sides: Iterable[_Side]) -> str:
    ratios = [ratio for side in sides if name != base and (ratio := _ratio(side, name, base)) is not None]
    if not ratios:
        return ""
    low, high = format_ratio(min(ratios)), format_ratio(max(ratios))
    return f"{low if low == high else f'{low} to {high}'} times as fast as {base}"


def _predicted(fits: Sequence[Fit]) -> str:
    """The best proxy, and the next where it is not surely better; nothing where none is seen to predict at all.

    Of a backend that has one group alone: several would be several answers.
    """
    from profiler.analysis.frame import PROXIES

    pooled = [one for one in fits if one.family is None and one.lines]
    if len(pooled) != 1:
        return ""
    one, surely = pooled[0], pooled[0].winner_probability
    best, *rest = sorted(one.lines, key=lambda line: -abs(line.r))
    (low, high), name = best.r_interval, PROXIES[best.proxy].name
    if low <= 0 <= high:
        return ""
    said = f"r = {best.r:.2f} [{low:.2f}, {high:.2f}] over {one.n} networks"
    if surely is None or surely >= CONFIDENCE or not rest:
        return f"{name} predict latency best, {said}"
    other = PROXIES[rest[0].proxy].name
    return f"{name} predict latency best, {said}, in {surely:.0%} of resamples: not surely better than {other}"


def _known(rows: Sequence[Row], go_on: str) -> list[str]:
    found = [(row, one) for row in rows if (one := latency_of(row)) is not None]
    known = [
        one.interval is not None and row["status"] == "ok" and one.interval[1] <= (1 + _KNOWN) * one.value
        for row, one in found
    ]
    if not found or all(known):
        return []
    once = sum(row["visits"] == 1 for row, _ in found)
    single = f", {once} rest{'s' * (once == 1)} on a single visit" if once else ""
    narrows = f"go on with: {go_on}" if go_on else "more visits narrow the rest."
    return [f"{sum(known)} of {len(known)} latencies are known within {_KNOWN:.0%}{single}; {narrows}"]
