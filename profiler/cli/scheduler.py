"""``profiler scheduler``: the meeting point of a fleet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from profiler.cli.options import Tls, UntilEof, warn
from profiler.run.serving import serve_scheduler


def scheduler_command(
    host: Annotated[str, Option("--host", metavar="IP", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, Option("--port", metavar="N", min=0, max=65535, help="0 takes a free one.")] = 8786,
    scheduler_file: Annotated[
        Path | None, Option("--scheduler-file", metavar="FILE", help="Write the address there, for workers and runs.")
    ] = None,
    tls: Tls = None,
    until_eof: UntilEof = False,
) -> None:
    """Run the scheduler.

    Raises:
        UserError: It cannot listen there, or certificates are missing.
    """
    serve_scheduler(host, port, scheduler_file, tls, warn, until_eof=until_eof)
