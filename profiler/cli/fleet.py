"""``profiler fleet``: what a fleet needs before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from profiler.run.certificates import make_certificates


def fleet_command(
    make_certs: Annotated[
        Path, Option("--make-certs", metavar="DIR", help="Folder to make; every machine of the fleet needs a copy.")
    ],
) -> None:
    """Make certificates.

    Raises:
        UserError: They cannot be made or written.
    """
    made = make_certificates(make_certs)
    print(f"{', '.join(path.name for path in made)} in {make_certs}")
    print(f"copy the folder to each machine over a safe way, and give every command --tls {make_certs}")
    print("whoever has it can run programs on the fleet; make another to shut them out")
