"""``profiler worker``: one device of this machine, lent to a fleet."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from profiler.cli.options import Scheduler, SchedulerFile, Tls, UntilEof, meeting_of, warn
from profiler.errors import UserError
from profiler.plan.values import check_device_name, check_label
from profiler.run.serving import serve_worker


def worker_command(
    label: Annotated[str, Option("--label", metavar="NAME", help="What plans call this kind of machine, as h100.")],
    scheduler: Scheduler = None,
    scheduler_file: SchedulerFile = None,
    device: Annotated[str, Option("--device", metavar="D", help="cpu, cuda:0, ...")] = "cpu",
    together: Annotated[
        bool, Option("--together", help="Measure while other workers of this host do; else one at a time.")
    ] = False,
    tls: Tls = None,
    until_eof: UntilEof = False,
) -> None:
    """Run a worker.

    Raises:
        UserError: An option is wrong, or Dask is not installed.
    """
    for flag, check, value in (("--label", check_label, label), ("--device", check_device_name, device)):
        try:
            check(value)
        except ValueError as error:
            raise UserError(f"{flag}: {error}") from error
    meeting = meeting_of(scheduler, scheduler_file, tls)
    serve_worker(meeting, label, device, together, warn, until_eof=until_eof)
