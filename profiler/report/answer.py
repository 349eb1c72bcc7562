"""The answer to "how fast is it here?": one table and one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table

from profiler.analysis.quantity import Quantity
from profiler.analysis.speed import fastest, latency_of, speed_up
from profiler.records.columns import Row, Value
from profiler.report.plain import Fitting, plain_table
from profiler.units import format_bytes, format_count, format_duration, format_ratio, three_digits

#: The backend that the others are compared with, where it is among them.
_BASE = "eager"
#: Characters of its name that fit the head of a column.
_NAMED = 10
_LATENCY = "latency [95%]"
#: What is left out, first one first, where a table would be wider than its terminal.
_SPARED = ("p90", "per s", "memory")
#: The columns that say what was computed, and those that say where.
_WORK, _PLACES = ("batch", "shape", "gap_ms"), ("threads", "device", "precision", "memory_format", "mode")


@dataclass(frozen=True, slots=True)
class AnswerTable:
    """A row for each setting, and no more columns than fit where it is printed."""

    rows: Sequence[Row]

    def whole(self, without: Sequence[str] = ()) -> Table:
        """Return the table with all columns but some."""
        return _answer_table(self.rows, without)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield what rich prints."""
        tables = [self.whole(_SPARED[:spared]) for spared in range(len(_SPARED) + 1)]
        yield from Fitting(tables).__rich_console__(console, options)


def _answer_table(rows: Sequence[Row], without: Sequence[str]) -> Table:
    lead = _told_apart_by(rows)
    base = _BASE if any(row["backend"] == _BASE for row in rows) else str(rows[0]["backend"])
    if "backend" not in lead and "model" in lead:
        base = str(rows[0]["model"])
    head = f"x {base if len(base) <= _NAMED else 'first'}"
    heads = [name for name in (_LATENCY, *_SPARED, head) if name not in without]
    table = plain_table(*lead, *heads)
    table.padding = (0, 1, 0, 0)  # or so many columns would not fit a terminal's width
    for row in rows:
        beside = next((each for each in rows if _alike(each, row, base)), None)
        cells = _cells(row)
        if beside is not None and beside is not row:
            times = _times(speed_up(row, beside))
            cells[head] = times and times + _doubt(row, beside)
        table.add_row(*map(escape, (*(str(row[key] or "") for key in lead), *(cells.get(name, "") for name in heads))))
    return table


def cold_start_table(rows: Sequence[Row]) -> Table | None:
    """Return what comes before steady forwards, for each setting that has a latency; None where nothing is known.

    An export and what is compiled are made once and kept: their seconds are of that time.
    """
    shown = [row for row in rows if latency_of(row) is not None]
    told = {name: [cell(row) for row in shown] for name, cell in _COLD.items()}
    told = {name: cells for name, cells in told.items() if any(cells)}
    if not told:
        return None
    lead = _told_apart_by(rows)
    table = plain_table(*lead, *told)
    for row, *cells in zip(shown, *told.values(), strict=True):
        table.add_row(*map(escape, (*(str(row[key] or "") for key in lead), *cells)))
    return table


def _seconds(name: str, unit: float = 1.0) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        value = row.get(name)
        return format_duration(value * unit) if isinstance(value, float) else ""

    return cell


def _size(row: Row) -> str:
    found = row.get("model_bytes")
    return format_bytes(found) if isinstance(found, int) else ""


def _steady(row: Row) -> str:
    found = row.get("steady_after")
    return "" if found is None else f"{found} call{'s' if found != 1 else ''}"


#: The columns of the table of cold starts.
_COLD: Mapping[str, Callable[[Row], str]] = {
    "export": _seconds("export_s"),
    "compile": _seconds("compile_s"),
    "on disk": _size,
    "load": _seconds("load_s"),
    "first": _seconds("first_ms", 1e-3),
    "steady after": _steady,
}


def _differing(rows: Sequence[Row]) -> list[str]:
    """The columns that tell rows apart, in the order in which they are shown."""
    return [key for key in ("model", "backend", *_WORK, *_PLACES) if len({row[key] for row in rows}) > 1]


def _alike(one: Row, other: Row, base: str) -> bool:
    """Whether two rows differ in nothing but what ``base`` is a value of."""
    by = next((key for key in ("backend", "model") if one[key] == base), "")
    same = all(one[key] == other[key] for key in ("model", "backend", *_WORK, *_PLACES) if key != by)
    return bool(by) and same


def _doubt(*rows: Row) -> str:
    return "" if all(row["status"] == "ok" for row in rows) else "?"


def _cells(row: Row) -> dict[str, str]:
    found = latency_of(row)
    if found is None:
        return {_LATENCY: str(row["status"])}
    p90, rate, memory = (row.get(name) for name in ("p90_ms", "throughput_per_s", "peak_memory_bytes"))
    return {
        _LATENCY: milliseconds(found, row.get("visits")) + _doubt(row),
        "p90": format_duration(p90 / 1e3) if isinstance(p90, float) else "",
        "per s": format_count(rate) if isinstance(rate, float) else "",
        "memory": format_bytes(memory) if isinstance(memory, int) else "",
    }


def milliseconds(found: Quantity, visits: object = None) -> str:
    """Return ``12.3 ms [12.1, 12.6]``; where there is no interval, whether that is for want of visits."""
    said = format_duration(found.value / 1e3)
    if found.interval is None:
        return f"{said} [{'one visit' if visits == 1 else 'no interval'}]"
    scale = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}.get(said.rpartition(" ")[2], 1.0)
    low, high = (three_digits(end / scale) for end in found.interval)
    return f"{said} [{low}, {high}]"


def _times(found: Quantity | None) -> str:
    if found is None:
        return ""
    value, *ends = map(format_ratio, (found.value, *(found.interval or ())))
    return f"{value} [{', '.join(ends)}]" if ends else value


def remarks(rows: Sequence[Row]) -> list[str]:
    """Return why rows have no latency, or one that may be wrong, and what is to be known of others; each once.

    It begins with the mark that the table gives a row, or ``note``.
    """
    told = _told_apart_by(rows)
    found: dict[tuple[str, object], list[str]] = {}
    for row in rows:
        if row["reason"]:
            measured = "note" if row["status"] == "ok" else "?"
            mark = str(row["status"]) if latency_of(row) is None else measured
            found.setdefault((mark, row["reason"]), []).append(_name(row, told))
    return [f"{mark} {', '.join(names)}: {reason}" for (mark, reason), names in found.items()]


def what_ran(rows: Sequence[Row]) -> str:
    """Return what the model takes, and on how many threads it ran where that is the same for all."""
    said = f"{rows[0]['model']} takes {rows[0]['inputs'] or 'unknown inputs'}"
    threads = {row["threads"] for row in rows if row["device"] == "cpu"}
    return f"{said}; {_threads(*threads)}" if len(threads) == 1 else said


def _threads(number: Value) -> str:
    return f"{number} thread{'s' if number != 1 else ''}"


def failed_alike(rows: Sequence[Row]) -> str:
    """Return the sentence that says all where nothing was measured for one reason; empty where there is more to say."""
    alike = len({row["reason"] for row in rows}) == 1 and all(latency_of(row) is None for row in rows)
    return f"Nothing could be measured: {rows[0]['reason']}." if alike else ""


def answer_sentence(rows: Sequence[Row]) -> str:
    """Return which setting is fastest, and how surely; why there is none where all failed."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in _WORK), []).append(row)
    told = [key for key in _told_apart_by(rows) if key not in _WORK] or ["backend"]
    several = [key for key in _WORK if len({row[key] for row in rows}) > 1]
    return "\n".join(_said(group, told, several) for group in groups.values())


def _told_apart_by(rows: Sequence[Row]) -> list[str]:
    return _differing(rows) or ["backend"]


def _name(row: Row, told: Sequence[str]) -> str:
    words = {"threads": _threads, "batch": "batch {}".format, "gap_ms": "{} ms apart".format}
    return " · ".join(words.get(key, str)(row[key]) for key in told if row[key])


def _work(row: Row, several: Sequence[str]) -> str:
    """What was computed, by what tells it from the others: ``At batch 8, size=64``."""
    gap = f"{row['gap_ms']:g} ms apart" if row["gap_ms"] else "back to back"
    words = {"batch": f"batch {row['batch']}", "shape": str(row["shape"] or "its own shape"), "gap_ms": gap}
    said = ", ".join(words[key] for key in several)
    return said.capitalize() if [*several] == ["gap_ms"] else f"At {said}"


def _said(rows: Sequence[Row], told: Sequence[str], several: Sequence[str]) -> str:
    best = fastest(rows)
    where = f"{_work(rows[0], several)}: " if several else ""
    fast, none = ("fastest", "nothing") if several else ("Fastest", "Nothing")

    if best is None:
        return f"{where}{none} could be measured: {rows[0]['reason']}."
    found = latency_of(best.row)
    assert found is not None  # it was ranked by it
    name, said = _name(best.row, told), milliseconds(found, best.row.get("visits"))
    if best.second is None or best.lead is None:
        return f"{where}{name} takes {said}."
    other = _name(best.second, told)
    if best.sure:
        return f"{where}{fast} is {name}, {said}: {_times(best.lead)} times as fast as {other}."
    if best.lead.interval is None:
        return (
            f"{where}{fast} was {name}, {said}, before {other}; how surely, one visit does not tell: give more --time."
        )
    return f"{where}{name}, {said}, and {other} cannot be told apart ({_times(best.lead)} times): more --time may tell."
