"""The file of a fleet that is started over ssh: which machines measure, and where they meet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pydantic

from profiler.errors import UserError
from profiler.plan.messages import sentences
from profiler.plan.values import check_device_name, check_label
from profiler.records.outside import file_bytes, text_of, toml_table


def _word(text: str) -> str:
    """Return what a command takes as one word; raises ValueError for what it would take as an option, or nothing."""
    if not text or text.startswith("-") or not text.isprintable():
        raise ValueError(f"{text[:64]!r} is no name; expected one that does not begin with -, such as node-1")
    return text


_Word = Annotated[str, pydantic.AfterValidator(_word)]


class _Keys(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)


class WorkerAt(_Keys):
    """One device of one machine.

    Attributes:
        label: What plans call this kind of machine.
        ssh: The machine, as ``ssh`` takes it; empty for this one.
        device: That it measures on.
        together: Measure while other workers of the machine do.
        program: How the profiler is called there; empty for what the file says for all.
    """

    label: Annotated[str, pydantic.AfterValidator(check_label)]
    ssh: _Word = ""
    device: Annotated[str, pydantic.AfterValidator(check_device_name)] = "cpu"
    together: bool = False
    program: _Word = ""


class Hosts(_Keys):
    """A fleet to be started.

    Attributes:
        worker: Its workers.
        host: Address at which its scheduler listens: one that all of its machines reach.
        port: Of the scheduler.
        scheduler: Machine of the scheduler, as ``ssh`` takes it; empty for this one.
        program: How the profiler is called on other machines.
        tls: Folder with certificates, the same on each machine; empty for none.
    """

    worker: Annotated[list[WorkerAt], pydantic.Field(min_length=1)]
    host: _Word = "127.0.0.1"
    port: Annotated[int, pydantic.Field(ge=1, le=65535)] = 8786
    scheduler: _Word = ""
    program: _Word = "profiler"
    tls: _Word = ""

    @property
    def address(self) -> str:
        """Where the scheduler is reached."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.tls else 'tcp'}://{host}:{self.port}"


def read_hosts(path: Path) -> Hosts:
    """Read a file of hosts.

    Raises:
        UserError: It cannot be read, is no TOML, or some of its keys are wrong: one line for each.
    """
    try:
        keys = toml_table(text_of(file_bytes(path)))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"--ssh {path}: {reason}; expected a TOML file with [[worker]] tables of ssh and label"
        ) from error
    try:
        return Hosts.model_validate(keys)
    except pydantic.ValidationError as error:
        raise UserError("\n".join(sentences(error, lambda key: f"{path}: {key}", _known))) from error


def _known(loc: Sequence[int | str]) -> list[str]:
    return list((WorkerAt if len(loc) > 1 else Hosts).model_fields)
