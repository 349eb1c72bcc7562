"""A stored baseline: kept runs, in one file of lines that a reviewer can read."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

from profiler.errors import UserError
from profiler.gate.contrast import LEAST_VISITS, Visits, session_of, visits_of
from profiler.machine import host
from profiler.machine.cache import alone, cache_folder
from profiler.measure.calibration import identity, stored
from profiler.records.estimate import case_estimate
from profiler.records.files import write_file
from profiler.records.lines import RunSession, dump
from profiler.records.nominal import Calibration
from profiler.records.reading import Run, read
from profiler.records.sharing import sharing
from profiler.records.spread import Spread
from profiler.records.table import each_row
from profiler.records.types import Case, Measurement, Record
from profiler.run.going_on import narrowing

FILE = Path("results") / "baseline.jsonl"


def calibrations(stored: Run) -> dict[str, Calibration]:
    """Return the calibrations that a stored run kept, under their names."""
    return {name: made for session in stored.sessions for name, made in session.calibrations.items()}


def update(run: Path, file: Path = FILE, *, replace: bool = False) -> None:
    """Store a run's latencies as the baseline, in place of the same cases; ``profiler baseline update``.

    Cases that failed are left out, so that they replace none that were measured. Of the sessions, those stay that the
    visits belong to: they say which machine and versions these are of.

    Args:
        run: The run's folder or its journal.
        file: The baseline; it changes completely or not at all.
        replace: Drop a baseline of another machine instead of refusing.

    Raises:
        UserError: There is no latency in the run, the file holds something else or another machine's baseline, or it
            cannot be written.
    """
    fresh = read(run)
    if not _with_latency(fresh.records):
        raise UserError(f"{run} has no latency to store; expected a run with at least one measured case.")
    with _alone(file):
        _store(run, fresh, file, replace)


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Let one process at a time change a baseline; where locks cannot be kept, whoever comes."""
    name = hashlib.sha256(str(file.resolve()).encode(errors="replace")).hexdigest()[:16]
    with ExitStack() as stack:
        try:
            stack.enter_context(alone(cache_folder() / "locks" / name))
        except TimeoutError as error:
            raise UserError(
                f"{file} is being changed by another process; repeat the command when that has ended."
            ) from error
        except OSError:
            pass
        yield


def _store(run: Path, fresh: Run, file: Path, replace: bool) -> None:
    records, old = _with_latency(fresh.records), _earlier(file)
    for notice in (*fresh.notices, *old.notices):
        print(notice, file=sys.stderr)
    if old.records and {record.host for record in old.records} != {record.host for record in records}:
        if not replace:
            raise UserError(_other_machine(run, fresh, file, old))
        old = Run(file)
    # The same case of another content is replaced too: a baseline has one entry for what is asked.
    measured, before = ({replaced(record.case, content="") for record in some} for some in (records, old.records))
    kept = [record for record in old.records if replaced(record.case, content="") not in measured]
    _write(file, [*_sessions(old, kept), *_sessions(fresh, records)], [*kept, *records])
    print(f"{file}: {len(measured)} cases stored ({len(measured & before)} replaced), {len(before - measured)} kept")
    if weak := _weak(fresh):
        print(weak)


def _weak(fresh: Run) -> str:
    """Say how many of the cases of a run guard little, and what to do; empty where none does."""
    known = [(int(str(row["visits"])), row["status"] == "unstable") for row in each_row(fresh) if row["visits"]]
    few = sum(visits < LEAST_VISITS for visits, _ in known)
    unsure = sum(unstable and visits >= LEAST_VISITS for visits, unstable in known)
    said = [f"{few} of {len(known)} have fewer than {LEAST_VISITS} visits, too few to tell any change"] if few else []
    said += [f"{unsure} of {len(known)} are unstable, and tell large changes alone"] if unsure else []
    go_on = narrowing(fresh) or "the run's command with --resume and a longer --time"
    return f"{'; '.join(said)}: visit them more often and store that: {go_on}" if said else ""


def _with_latency(records: Iterable[Record]) -> list[Record]:
    """Latency visits of the cases that have a measurement among them, failed visits of those too."""
    timed = [record for record in records if record.measures == "latency"]
    good = {record.case for record in timed if isinstance(record.outcome, Measurement)}
    return [record for record in timed if record.case in good]


def _earlier(file: Path) -> Run:
    if not file.exists():
        return Run(file)
    found = read(file)
    if found.newer:
        raise UserError(found.newer)
    if found.notices and not (found.records or found.sessions):
        raise UserError(f"{file} exists and is no baseline; choose another file, or remove it.")
    return found


def _other_machine(run: Path, fresh: Run, file: Path, old: Run) -> str:
    here, there = (session_of(found, found.records[-1]) for found in (fresh, old))
    told = host.difference(here.host, there.host) if here and there else None
    return (
        f"{run} (here) and {file} (there) are not to be mixed: {told or 'not the same machine'}; "
        "choose another file, or drop what it holds with --replace."
    )


def _sessions(found: Run, records: Sequence[Record]) -> list[RunSession]:
    """Sessions that ``records`` belong to, with the calibrations behind them."""
    owners = [(record, session_of(found, record)) for record in records]
    return [
        _with_calibrations(session, [record for record, owner in owners if owner is session])
        for session in found.sessions
        if any(owner is session for _, owner in owners)
    ]


def _with_calibrations(session: RunSession, records: Iterable[Record]) -> RunSession:
    """Add the calibrations in the user's cache that these visits were really measured with."""
    kept = dict(session.calibrations)
    for record in records:
        name = identity(record.host, record.case.placement)
        made = stored(cache_folder(), name)
        if made and isinstance(record.outcome, Measurement) and record.outcome.nominal_ns == made.nominal_ns:
            kept.setdefault(name, made)
    return replaced(session, facts={**session.facts, "calibrations": kept})


def _write(file: Path, sessions: Iterable[RunSession], records: Iterable[Record]) -> None:
    """Write a journal; another process sees the old file or the new one, never half of it."""
    lines = [json.dumps({"kind": "session", **asdict(session)}, ensure_ascii=False) for session in sessions]
    lines += [f'{{"kind":"visit","record":{dump(record)}}}' for record in records]
    write_file(file, "\n".join(lines) + "\n")


def entries(stored: Run) -> list[dict[str, Any]]:
    """Return the measured cases of a stored run in its order, as plain types; times in ms."""
    common = sharing(stored)
    return [_entry(case, visits, common.of(case)) for case, visits in visits_of(stored).items() if visits.measured]


def _entry(case: Case, visits: Visits, common: Spread | None) -> dict[str, Any]:
    made = case_estimate(visits.measured, visits.pilot, common)
    machine = visits.session.host if visits.session else {}
    return {
        "case": case.key,
        "label": case.label,
        "latency_ms": made.latency_ns / 1e6,
        "latency_ci_low_ms": _in_ms(made.ci_low_ns),
        "latency_ci_high_ms": _in_ms(made.ci_high_ns),
        "visits": made.visits,
        "started": visits.started,
        "host": visits.host,
        "cpu": machine.get("cpu"),
        "gpu": machine.get("gpu"),
        "versions": dict(visits.session.versions) if visits.session else {},
    }


def _in_ms(ns: float | None) -> float | None:
    return None if ns is None else ns / 1e6
