"""``profiler explain RUN``: the layers of every network of a run, one line each, and their costs as a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from profiler.analysis.layer_costs import Costed, costed
from profiler.analysis.layer_file import brought_together, kept_row, read_costs, write_costs
from profiler.analysis.layers import Explanation, explained
from profiler.analysis.speed import latency_of
from profiler.errors import UserError
from profiler.machine import host
from profiler.records import table
from profiler.records.columns import Row
from profiler.records.reading import read
from profiler.records.types import Case
from profiler.report.plain import standard_console
from profiler.run.explaining import traced_by
from profiler.run.processes import LocalExecutor
from profiler.units import format_duration

#: Operators that a line names.
_NAMED = 3


def explain_run(source: Path, backend: str | None, costs: Path | None) -> None:
    """Trace the layers of what a run measured here; a case that cannot be traced is said and passed over.

    Args:
        source: A run folder or its journal.
        backend: Only cases of these, between commas; None for all.
        costs: File that gets the costs of layers, beside what it has already.

    Raises:
        UserError: Nothing of it was measured here, or nothing could be traced, or the file is none of costs.
    """
    chosen = list(_measured_here(source, backend))
    if not chosen:
        raise UserError(
            f"{source} has no latency{f' on {backend}' if backend else ''} that was measured on this machine: explain it where it was measured"
        )
    known, console, executor = known_costs(costs), standard_console(), LocalExecutor()
    done = 0
    try:
        for case, row in chosen:
            one = _explained(case, row, executor)
            if one is not None:
                done += 1
                console.print(_line(case, one), highlight=False, markup=False, soft_wrap=True)
                if costs is not None:
                    known = keep_costs(known, costs, one)
    finally:
        executor.close()
    if not done:
        raise UserError(f"no case of {source} tells its layers, see above")


def keep_costs(known: Sequence[Costed], path: Path, one: Explanation) -> list[Costed]:
    """Write what is known and an explained network to a file of costs; return both."""
    both = brought_together(known, [costed(one, kept_row(one.row))])
    write_costs(both, path)
    return both


def known_costs(path: Path | None) -> list[Costed]:
    """Return what a file of costs holds already; nothing where there is none."""
    return read_costs(path) if path is not None and path.exists() else []


def _measured_here(source: Path, backend: str | None) -> Iterator[tuple[Case, Row]]:
    run = read(source)
    cases = {record.case.key: record.case for record in run.records}
    wanted = None if backend is None else {one.strip() for one in backend.split(",")}
    for row in table.rows(run):
        case = cases.get(str(row["case"]))
        here = case is not None and row["host"] == host.key() and case.mode == "infer"
        if case is not None and here and latency_of(row) is not None and (wanted is None or case.backend in wanted):
            yield case, row


def _explained(case: Case, row: Row, executor: LocalExecutor) -> Explanation | None:
    latency = latency_of(row)
    assert latency is not None, "rows without one were left out"
    try:
        return explained(row, latency, traced_by(case, latency.value, executor, processes=1), None)
    except UserError as error:
        print(error, file=sys.stderr)
        return None


def _line(case: Case, one: Explanation) -> str:
    most = (f"{each.name} {each.share:.0%}" for each in one.by_operator()[:_NAMED])
    return f"{case.label}: {format_duration(one.latency.value / 1e3)}, {len(one.layers)} layers: {', '.join(most)}"
