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

import itertools
import json as jsonlib
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler import store, table
from profiler.errors import UserError
from profiler.units import format_share

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    Integers = np.ndarray[tuple[int, ...], np.dtype[np.intp]]

#: Level of the test for one more change point in a case's history.
LEVEL = 0.01
PERMUTATIONS = 999
#: Fewest runs on each side of a change: two odd runs are no new level. A change shows from about twelve runs on.
LEAST_RUNS = 3
#: Numbers held at once while permutations are looked at.
_HELD = 1 << 21


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """A run from which on a case costs something else.

    Attributes:
        index: Of the first run at the new level.
        change: Median of the new level over that of the one before, minus one: 0.1 is 10% more.
        p: Share of random orders of the runs that look as divided.
    """

    index: int
    change: float
    p: float


def change_points(values: Sequence[float], level: float = LEVEL, seed: int = 0) -> list[ChangePoint]:
    """Find changes of level in a series of positive numbers, in their order.

    The best division of any segment so far is accepted when at most ``level`` of the random orders within segments
    have a better one, and then the next one is looked for.

    Args:
        values: Shape (n,); compared by their logarithms, so that changes are relative.
        level: Probability of finding a change in a series that has none.
        seed: Of the random orders.
    """
    import numpy as np

    logs, random = np.log(values), np.random.default_rng(seed)
    cuts, found = [0, len(logs)], dict[int, float]()
    while True:
        segments = [(a, logs[a:b]) for a, b in itertools.pairwise(cuts) if b - a >= 2 * LEAST_RUNS]
        if not segments:
            break
        best, index = max((divided, start + at) for start, part in segments for divided, at in [_best(part)])
        null = np.max([_best_of_random_orders(part, random) for _, part in segments], axis=0)
        # Orders that divide the runs alike differ by rounding only.
        p = (1 + int(np.sum(null >= best * (1 - 1e-9)))) / (PERMUTATIONS + 1)
        if p > level:
            break
        found[index] = p
        cuts = sorted({*cuts, index})
    return [ChangePoint(at, _change(logs, cuts, at), found[at]) for at in sorted(found)]


def _change(logs: Floats, cuts: Sequence[int], at: int) -> float:
    import numpy as np

    place = cuts.index(at)
    before, after = logs[cuts[place - 1] : at], logs[at : cuts[place + 1]]
    return math.expm1(float(np.median(after) - np.median(before)))


def _best(segment: Floats) -> tuple[float, int]:
    """Return (scaled divergence, index of the change) of the best division of a segment of shape (n,)."""
    divergence = _divergence(_distances(segment))
    at = int(divergence.argmax())
    return float(divergence[at]), int(_divisions(len(segment))[0][at])


def _best_of_random_orders(segment: Floats, random: np.random.Generator) -> Floats:
    """Return the divergence of the best division in each of :data:`PERMUTATIONS` orders of a segment."""
    import numpy as np

    orders = random.permuted(np.tile(segment, (PERMUTATIONS, 1)), axis=1)
    parts = np.array_split(orders, math.ceil(orders.size * len(segment) / _HELD))
    best: Floats = np.concatenate([_divergence(_distances(part)).max(axis=-1) for part in parts])
    return best


def _distances(series: Floats) -> Floats:
    """Absolute differences within series of shape (..., n); shape (..., n, n)."""
    import numpy as np

    differences: Floats = np.abs(series[..., :, None] - series[..., None, :])
    return differences


def _divisions(n: int) -> tuple[Integers, Integers]:
    """All (tau, kappa): runs up to tau are compared with those from there up to kappa, later ones with none."""
    import numpy as np

    tau, kappa = np.triu_indices(n + 1, k=LEAST_RUNS)
    enough = tau >= LEAST_RUNS
    return tau[enough], kappa[enough]


def _divergence(distances: Floats) -> Floats:
    """Scaled energy distance of both parts for each division: Q of Matteson and James with alpha = 1.

    Args:
        distances: Shape (..., n, n), both orders of a pair.

    Returns:
        Shape (..., d) for the d divisions of n runs.
    """
    tau, kappa = _divisions(distances.shape[-1])
    rest = kappa - tau
    sums = distances.cumsum(axis=-1).cumsum(axis=-2)
    first, both, across = (sums[..., a - 1, b - 1] for a, b in ((tau, tau), (kappa, kappa), (tau, kappa)))
    between, second = across - first, both - 2 * across + first
    energy = 2 * between / (tau * rest) - first / (tau * (tau - 1)) - second / (rest * (rest - 1))
    scaled: Floats = energy * tau * rest / kappa
    return scaled


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
    if y not in table.COLUMNS:
        raise UserError(f"no column {y!r} in a run's table; expected a number, as latency_ms or peak_memory_bytes.")
    found: dict[tuple[str, str], list[History]] = {}
    for journal in sorted(folder.rglob(store.NAME)):
        for one in _of_run(folder, journal, y):
            found.setdefault((one.host, one.case), []).append(one)
    if not found:
        raise UserError(f"{folder} holds no run; expected folders with {store.NAME} in them, as `profiler run` leaves.")
    return sorted(map(_joined, found.values()), key=lambda history: history.host)


def _joined(parts: Sequence[History]) -> History:
    points = sorted((point for part in parts for point in part.points), key=lambda point: point.started)
    return replace(parts[-1], points=tuple(points))


def _of_run(folder: Path, journal: Path, y: str) -> Iterator[History]:
    """Yield a history of one point for each case that a run visited."""
    try:
        run = store.read(journal)
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


def _point(run: str, row: table.Row, y: str) -> Point:
    stem, _, unit = y.rpartition("_")
    low, high = (_number(row.get(f"{stem}_ci_{end}_{unit}")) for end in ("low", "high"))
    return Point(run, str(row["started"]), _number(row[y]), low, high, str(row["status"]))


def _number(value: table.Value) -> float | None:
    """Return a number that has a logarithm, else None."""
    return float(value) if isinstance(value, int | float) and 0 < value < math.inf else None


def run(folder: Path, json: bool = False, y: str | None = None) -> None:
    """Print the history of every case under a folder; ``profiler history``.

    Raises:
        UserError: There is no run, or no such column.
    """
    from rich.console import Console

    column = y or "latency_ms"
    found = histories(folder, column)
    if not any(history.measured for history in found):
        raise UserError(f"no run under {folder} has a number in {column!r}; name another column with --y.")
    if json:
        print(jsonlib.dumps({"column": column, "cases": [_as_dict(one) for one in found]}, indent=2, allow_nan=False))
        return
    console = Console()
    for _, group in itertools.groupby(found, key=lambda history: history.host):
        _print_machine(list(group), column, console)


def _as_dict(history: History) -> dict[str, Any]:
    measured = history.measured
    changes = [
        {**asdict(change), "run": measured[change.index].run, "started": measured[change.index].started}
        for change in history.changes
    ]
    return {**asdict(history), "changes": changes}


def _print_machine(found: Sequence[History], y: str, console: Console) -> None:
    from rich.markup import escape

    machine = escape(f"machine {found[0].host}: {found[0].machine}")
    console.print(machine, style="bold", highlight=False, soft_wrap=True)
    changed = [_print_case(history, y, console) for history in found]
    everywhere = set.intersection(*changed) if len(changed) > 1 else set()
    for run in sorted(everywhere):
        console.print(
            f"every case changed at {escape(run)}: look at the machine and its calibration first",
            highlight=False,
            soft_wrap=True,
        )


def _print_case(history: History, y: str, console: Console) -> set[str]:
    """Print one case and return the runs at which it changed."""
    from rich.markup import escape
    from rich.table import Table

    measured, changes = history.measured, history.changes
    notes = {measured[change.index].run: change for change in changes}
    shown = Table(title=escape(history.label), title_justify="left", title_style="", box=None, pad_edge=False)
    for name in ("when", "run", y, "95%", "change"):
        shown.add_column(name, overflow="fold", justify="right" if name in (y, "95%") else "left")
    for point in history.points:
        shown.add_row(*map(escape, _cells(point, notes.get(point.run))))
    console.print(shown)
    return set(notes)


def _cells(point: Point, change: ChangePoint | None) -> list[str]:
    value = point.status if point.value is None else f"{point.value:.4g}"
    ends = f"[{point.low:.4g}, {point.high:.4g}]" if point.low is not None and point.high is not None else ""
    told = f"{format_share(change.change, signed=True)} from here (p = {change.p:.2g})" if change else ""
    return [point.started, point.run, value, ends, told]
