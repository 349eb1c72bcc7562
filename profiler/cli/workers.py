"""``profiler workers``: who is in a fleet."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict

from rich.console import Console

from profiler.cli.options import Json, Scheduler, SchedulerFile, Tls, meeting_of
from profiler.errors import UserError
from profiler.report.console import plain_table
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
    table = plain_table("label", "device", "on", "host", "torch", "onnxruntime", "calibrated", "visits", "now")
    for each in members:
        table.add_row(*_row(each))
    Console().print(table)
    for each in members:
        if each.refused:
            print(f"{each.said} would not be asked: {each.refused}")


def _row(each: Member) -> tuple[str, ...]:
    known = each.known
    runtime = known.versions.get("onnxruntime") or known.versions.get("onnxruntime-gpu") or ""
    what = (known.label, known.device, known.hostname, known.key, known.versions.get("torch", ""), runtime)
    return (*what, each.calibrated, str(each.visits), each.now)
