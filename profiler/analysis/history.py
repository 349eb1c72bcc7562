"""``profiler history``: what each case cost in every run under a folder, and where its level changed.

Advisory, not a gate: the runs lie apart in time, and whatever changed on the machine in between, a calibration made
anew too, looks like a change of the code. A case is compared only with itself on machines of the same key.

Changes of level are found by E-divisive: D. Matteson and N. James, "A nonparametric approach for multiple change
point analysis of multivariate data", Journal of the American Statistical Association 109 (2014). It asks nothing of the
noise but that runs of one level may be exchanged, and its permutation test holds its level however short the history
is. It is written out here because the libraries do not fit: apache-otava 0.8 pins numpy 2.2 and scipy below 1.17 and
brings clients for BigQuery, PostgreSQL and Slack; ruptures has no test, so that the number of changes must be guessed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from profiler.analysis.changepoints import ChangePoint, change_points
from profiler.errors import UserError
from profiler.records import table
from profiler.records.columns import COLUMNS, Row, Value
from profiler.records.reading import NAME, read


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
    """

    run: str
    started: str
    value: float | None
    low: float | None
    high: float | None
    status: str


@dataclass(frozen=True, slots=True)
class History:
    """One case on one machine, over time.

    Attributes:
        host: Key of the machine.
        case: Key of the case.
        machine: Facts of the machine, in words.
        label: The case in one line.
        points: In the order of their times.
    """

    host: str
    case: str
    machine: str
    label: str
    points: tuple[Point, ...]

    @property
    def measured(self) -> list[Point]:
        """The points that have a value."""
        return [point for point in self.points if point.value is not None]

    @property
    def changes(self) -> list[ChangePoint]:
        """Where the level of the measured points changed."""
        return change_points([point.value for point in self.measured if point.value is not None])


def histories(folder: Path, y: str = "latency_ms") -> list[History]:
    """Read every run under a folder; histories by machine, then in the order in which the cases appear.

    Raises:
        UserError: There is no run, or no such column.
    """
    if y not in COLUMNS:
        raise UserError(f"no column {y!r} in a run's table; expected a number, as latency_ms or peak_memory_bytes.")
    found: dict[tuple[str, str], list[History]] = {}
    for journal in sorted(folder.rglob(NAME)):
        for one in _of_run(folder, journal, y):
            found.setdefault((one.host, one.case), []).append(one)
    if not found:
        raise UserError(f"{folder} holds no run; expected folders with {NAME} in them, as `profiler run` leaves.")
    return sorted(map(_joined, found.values()), key=lambda history: history.host)


def _joined(parts: Sequence[History]) -> History:
    points = sorted((point for part in parts for point in part.points), key=lambda point: point.started)
    return replace(parts[-1], points=tuple(points))


def _of_run(folder: Path, journal: Path, y: str) -> Iterator[History]:
    """Yield a history of one point for each case that a run visited."""
    try:
        run = read(journal)
    except UserError as error:
        print(error, file=sys.stderr)
        return
    for notice in run.notices:
        print(notice, file=sys.stderr)
    labels = {record.case.key: record.case.label for record in run.records}
    name = str(journal.parent.relative_to(folder)) if journal.parent != folder else folder.resolve().name
    for row in table.rows(run):
        if row["host"] is not None:
            words = ", ".join(str(row[fact]) for fact in ("cpu", "os") if row[fact])
            key = str(row["case"])
            yield History(str(row["host"]), key, words, labels[key], (_point(name, row, y),))


def _point(run: str, row: Row, y: str) -> Point:
    stem, _, unit = y.rpartition("_")
    low, high = (_number(row.get(f"{stem}_ci_{end}_{unit}")) for end in ("low", "high"))
    return Point(run, str(row["started"]), _number(row[y]), low, high, str(row["status"]))


def _number(value: Value) -> float | None:
    """Return a number that has a logarithm, else None."""
    return float(value) if isinstance(value, int | float) and 0 < value < math.inf else None
