"""A run on a fleet: which machines there are, what its journal says of them, and what is shown meanwhile."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from profiler.errors import UserError
from profiler.plan.cases import Site
from profiler.plan.plan import Plan
from profiler.records.types import Case, Failure, Record
from profiler.run.fleet import Fleet, Member, SchedulerLostError, sites_of
from profiler.run.placing import asked_sites
from profiler.run.schedule import Progress

#: How often what is shown changes, in seconds: on a terminal, and in a log.
_SHOWN_S, _LOGGED_S = 1.0, 30.0
#: Visits under way that are named at a time, of a label or in a line.
_NAMED = 2


def found_sites(fleet: Fleet, plan: Plan, patience_s: float) -> tuple[dict[str, Site], list[Member]]:
    """Return what is measured under each label of a plan; a plan that names none is measured on all that are there.

    Args:
        fleet: Whose workers.
        plan: Its devices are labels.
        patience_s: How long is waited for a label to come.

    Raises:
        UserError: A label has no worker, or only workers that are refused, or machines of one label are unlike.
    """
    named = list(
        dict.fromkeys(d for sweep in plan.sweeps for d in sweep.devices if "devices" in sweep.model_fields_set)
    )
    end = time.monotonic() + patience_s
    while True:
        members = _members(fleet, end)
        sites = sites_of([member for member in members if not named or member.known.label in named])
        if (sites and not set(named) - set(sites)) or time.monotonic() >= end:
            break
        time.sleep(min(1.0, patience_s))
    refused = [f"{m.said} is not asked: {m.refused}" for m in members if m.refused]
    try:
        return asked_sites(sites, named or list(sites) or ["NAME"], {m.known.label for m in members}), members
    except UserError as error:
        raise UserError("\n".join([str(error), *refused])) from error


def _members(fleet: Fleet, end: float) -> list[Member]:
    """Return who is there; a scheduler that is gone may come back until ``end``."""
    while True:
        try:
            return fleet.members()
        except SchedulerLostError as lost:
            if time.monotonic() >= end:
                said = f"the scheduler at {fleet.meeting.said} does not answer ({lost}); start it again"
                raise UserError(said) from lost
        time.sleep(0.2)
        with suppress(UserError):
            fleet.connect(1.0)


def site_facts(sites: Mapping[str, Site], members: Sequence[Member]) -> dict[str, Any]:
    """Return what the journal of a run says of its machines; the ``host`` that it resumes on is all of them."""
    keys = {label: site.host for label, site in sites.items()}
    hosts = {m.known.key: {"key": m.known.key, **m.known.host} for m in members if m.known.key in keys.values()}
    name = " ".join(f"{label}={key}" for label, key in sorted(keys.items()))
    return {"host": {"key": name, **keys}, "hosts": hosts}


class FleetDisplay:
    """A line for each label on a terminal; elsewhere a line for all from time to time. What is lost is said at once."""

    def __init__(self, console: Console, labels: Sequence[str]) -> None:
        self._console, self._labels = console, labels
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._members: Sequence[Member] = ()
        self._busy: Mapping[str, str] = {}
        self._progress: Progress | None = None
        self._made: Counter[str] = Counter()
        self._cases: Counter[str] = Counter()
        self._failed = 0
        self._shown = time.monotonic()

    def __enter__(self) -> FleetDisplay:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._live:
            self._live.stop()

    def preparing(self, done: int, total: int) -> None:
        """Nothing is prepared here: the workers do."""

    def before(self, case: Case, number: int, progress: Progress) -> None:  # noqa: ARG002 - of the protocol
        """Hear of a visit that begins."""
        if progress is not self._progress:
            self._cases = Counter(each.fleet_label for each in progress.cases)
            for each in progress.cases if self._live else ():
                progress.finished(each)
        self._progress = progress

    def after(self, record: Record) -> None:
        """Show a failure at once, with its reason."""
        self._made[record.case.fleet_label] += 1
        if isinstance(record.outcome, Failure):
            failed = record.outcome
            self._failed += 1
            said = f"{failed.status}: {record.case.label}: {failed.reason}"
            self._console.print(Text(said, style="red"), soft_wrap=True)

    def event(self, sentence: str) -> None:
        """Show what was lost or came back."""
        self._console.print(Text(sentence, style="yellow"), soft_wrap=True)

    def fleet(self, members: Sequence[Member], busy: Mapping[str, str]) -> None:
        """Show who is there and what is done, not too often."""
        self._members, self._busy = members, busy
        if time.monotonic() - self._shown < (_SHOWN_S if self._live else _LOGGED_S):
            return
        self._shown = time.monotonic()
        if self._live:
            self._live.update(self._table(), refresh=True)
        else:
            made = ", ".join(f"{label} {self._made[label]}" for label in self._labels)
            there = f"{len(members)} worker{'s' * (len(members) != 1)}"
            doing = list(self._busy.values())
            now = f"; now {'; '.join(doing[:_NAMED])}{' and others' * (len(doing) > _NAMED)}" if doing else ""
            self._console.print(f"visits: {made}; {there}{now}", highlight=False, markup=False, soft_wrap=True)

    def _table(self) -> Table:
        table = Table("label", "workers", "visits", "cases done", "now", box=None, expand=True)
        for label in self._labels:
            own = [member for member in self._members if member.known.label == label]
            done = self._progress.done[label] if self._progress else 0
            now = [self._busy[member.address] for member in own if member.address in self._busy]
            row = (
                label,
                str(len(own)),
                str(self._made[label]),
                f"{done} of {self._cases[label]}",
                "; ".join(now[:_NAMED]),
            )
            table.add_row(*(Text(cell, overflow="ellipsis", no_wrap=True) for cell in row))
        return table
