"""``profiler fleet``: a fleet's certificates, and a fleet started over ssh."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from profiler.cli.options import warn
from profiler.errors import UserError


def fleet_command(
    ssh: Annotated[
        Path | None, Option("--ssh", metavar="HOSTS.toml", help="Start the fleet of this file, and end it with Ctrl-C.")
    ] = None,
    make_certs: Annotated[
        Path | None,
        Option("--make-certs", metavar="DIR", help="Folder to make; every machine of the fleet needs a copy."),
    ] = None,
) -> None:
    """Start a fleet, or make certificates.

    Raises:
        UserError: A machine cannot be used, or certificates cannot be made or written.
    """
    if (ssh is None) == (make_certs is None):
        raise UserError("expected one of --ssh HOSTS.toml (start a fleet) and --make-certs DIR (make certificates)")
    if ssh is not None:
        from profiler.run.hosts import read_hosts
        from profiler.run.remote import keep_fleet

        keep_fleet(read_hosts(ssh), warn)
    if make_certs is not None:
        _certificates(make_certs)


def _certificates(folder: Path) -> None:
    from profiler.run.certificates import make_certificates

    made = make_certificates(folder)
    print(f"{', '.join(path.name for path in made)} in {folder}")
    print(f"copy the folder to each machine over a safe way, and give every command --tls {folder}")
    print("whoever has it can run programs on the fleet; make another to shut them out")
