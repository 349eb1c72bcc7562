"""``profiler workers``: who is in a fleet."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from dataclasses import asdict

from rich.markup import escape
from rich.table import Table

from profiler.cli.options import Json, Scheduler, SchedulerFile, Tls, meeting_of
from profiler.errors import UserError
from profiler.report.plain import minute, plain_table, standard_console
from profiler.run.fleet import Member, SchedulerLostError, joined


def workers_command(
    scheduler: Scheduler = None, scheduler_file: SchedulerFile = None, tls: Tls = None, json: Json = False
) -> None:
    """List the workers.

    Raises:
        UserError: The scheduler does not answer.
    """
    meeting = meeting_of(scheduler, scheduler_file, tls)
    with joined(meeting) as fleet:
        try:
            members = sorted(fleet.members(), key=lambda each: each.said)
        except SchedulerLostError as lost:
            raise UserError(f"the scheduler at {meeting.said} does not answer ({lost}); start it again") from lost
    if json:
        print(jsonlib.dumps([asdict(each) for each in members], indent=2))
        return
    if not members:
        print("no worker is there; start one with: profiler worker --label NAME --scheduler ...")
        return
    standard_console().print(_table(members))
    for versions in dict.fromkeys(map(_versions, members)):
        labels = dict.fromkeys(each.known.label for each in members if _versions(each) == versions)
        print(f"{', '.join(labels)}: {versions}")
    for each in members:
        if each.now:
            print(f"{each.said} measures {each.now}")
        if each.refused:
            print(f"{each.said} would not be asked: {each.refused}")


def _table(members: Sequence[Member]) -> Table:
    table = plain_table("label")
    for name in ("device", "on", "machine", "calibrated (UTC)", "visits"):
        table.add_column(name, overflow="fold", justify="right" if name == "visits" else "left")
    table.padding = (0, 1, 0, 0)
    for each in members:
        known = each.known
        cells = (known.label, known.device, known.hostname, known.key, minute(each.calibrated), str(each.visits))
        table.add_row(*map(escape, cells))
    return table


def _versions(each: Member) -> str:
    named = ((name, each.known.versions.get(name)) for name in ("torch", "onnxruntime", "onnxruntime-gpu"))
    return ", ".join(f"{name} {version}" for name, version in named if version) or "no runtime"
