"""What each case cost in every run under a folder, and where its level changed.

Advisory, not a gate: the runs lie apart in time, and whatever changed on the machine in between looks like a change of
the code. A case is compared only with itself on machines of the same key; its times are told by the nominal time of the
latest run, so that a calibration made anew is no change, unless the reference is of another version.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from profiler.analysis.changepoints import change_points
from profiler.analysis.one_nominal import Nominal, nominal_of, over
from profiler.errors import UserError
from profiler.records import table
from profiler.records.columns import COLUMNS, Row, Value, interval_columns
from profiler.records.reading import NAME, Run, read


@dataclass(frozen=True, slots=True)
class Point:
    """One case in one run.

    Attributes:
        run: Folder of the run, relative to the folder of all.
        started: UTC time of its first visit, ISO 8601.
        value: The column looked at; None where the case has none.
        low: Lower end of its 95% interval, where the table has one.
        high: Upper end.
        status: As in the run's table.
        nominal: What the value is a multiple of, as it is told; None where it is of nothing.
    """

    run: str
    started: str
    value: float | None
    low: float | None
    high: float | None
    status: str
    nominal: Nominal | None = None


@dataclass(frozen=True, slots=True)
class History:
    """One case on one machine, over time.

    Attributes:
        host: Key of the machine.
        case: Key of the case, whatever its content.
        content: Digest of what was measured; empty where no run kept it.
        machine: Facts of the machine, in words.
        label: The case in one line.
        points: In the order of their times.
    """

    host: str
    case: str
    content: str
    machine: str
    label: str
    points: tuple[Point, ...]

    @property
    def measured(self) -> list[Point]:
        """The points that have a value."""
        return [point for point in self.points if point.value is not None]

    @property
    def changes(self) -> list[tuple[int, float, float]]:
        """Where the level of the measured points changed, see ``change_points``."""
        return change_points([point.value for point in self.measured if point.value is not None])


def histories(folder: Path, y: str = "latency_ms") -> tuple[list[History], list[str]]:
    """Read every run under a folder.

    Returns:
        Histories by machine, then in the order in which the cases appear; and what is to be said of the runs, such as
        that one cannot be read and is left out.

    Raises:
        UserError: There is no run, or no such column.
    """
    if y not in COLUMNS:
        raise UserError(f"no column {y!r} in a run's table; expected a number, as latency_ms or peak_memory_bytes.")
    found: dict[tuple[str, str], list[History]] = {}
    notices: list[str] = []
    for journal in sorted(folder.rglob(NAME)):
        try:
            run = read(journal)
        except UserError as error:
            notices.append(str(error))
            continue
        notices += run.notices
        name = str(journal.parent.relative_to(folder)) if journal.parent != folder else folder.resolve().name
        for one in _of_run(run, name, y):
            found.setdefault((one.host, one.case), []).append(one)
    if not found:
        expected = f"{folder} holds no run; expected folders with {NAME} in them, as `profiler run` leaves."
        raise UserError(" ".join([expected, *notices]))
    told = [one for parts in found.values() for one in _by_content(parts)]
    notices += [_changed(parts) for parts in found.values() if len(_by_content(parts)) > 1]
    return sorted(told, key=lambda history: history.host), notices


def _by_content(parts: Sequence[History]) -> list[History]:
    """Return one history for each content; points of runs that kept none belong to the only one there is."""
    contents = list(dict.fromkeys(part.content for part in parts if part.content)) or [""]
    if len(contents) == 1:
        return [replace(_joined(parts), content=contents[0])]
    several = list(dict.fromkeys(part.content for part in parts))
    groups = [_joined([part for part in parts if part.content == content]) for content in several]
    return [replace(one, label=f"{one.label} (content {one.content or 'unknown'})") for one in groups]


def _changed(parts: Sequence[History]) -> str:
    contents = list(dict.fromkeys(part.content or "unknown" for part in _in_time(parts)))
    return f"{parts[0].label}: the model has changed (content {', then '.join(contents)}): a history for each"


def _in_time(parts: Sequence[History]) -> list[History]:
    return sorted(parts, key=lambda part: part.points[0].started)


def _joined(parts: Sequence[History]) -> History:
    points = sorted((point for part in parts for point in part.points), key=lambda point: point.started)
    latest = next((point.nominal for point in reversed(points) if point.nominal is not None), None)
    return replace(parts[-1], points=tuple(_by(latest, point) for point in points))


def _by(latest: Nominal | None, point: Point) -> Point:
    """Return ``point`` as it would be by the calibration ``latest``."""
    by = over(latest, point.nominal)
    if by == 1.0:
        return point
    value, low, high = (None if number is None else number * by for number in (point.value, point.low, point.high))
    return replace(point, value=value, low=low, high=high, nominal=latest)


def _of_run(run: Run, name: str, y: str) -> list[History]:
    """A history of one point for each case that a run visited."""
    cases = {record.case.key: record.case for record in run.records}
    return [
        History(
            host=str(row["host"]),
            case=replace(cases[str(row["case"])], content="").key,
            content=str(row["content"] or ""),
            machine=", ".join(str(row[fact]) for fact in ("cpu", "os") if row[fact]),
            label=cases[str(row["case"])].label,
            points=(_point(name, row, y),),
        )
        for row in table.rows(run)
        if row["host"] is not None
    ]


def _point(run: str, row: Row, y: str) -> Point:
    low, high = (_number(row.get(column)) for column in interval_columns(y))
    return Point(run, str(row["started"]), _number(row[y]), low, high, str(row["status"]), nominal_of(row, y))


def _number(value: Value) -> float | None:
    """Return a number that has a logarithm, else None."""
    return float(value) if isinstance(value, int | float) and 0 < value < math.inf else None
