"""Where the scheduler of a fleet is: an address, or a file that it wrote."""

from __future__ import annotations

import ipaddress
import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from profiler.errors import UserError

#: How often a file that is being written is looked at again, in seconds.
_NAP_S = 0.1


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(address: str) -> str:
    """Return the host of an address such as ``tcp://[::1]:8786``."""
    return address.partition("://")[2].rpartition(":")[0].strip("[]") or address


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where the scheduler is, and how to speak with it.

    Attributes:
        address: As ``tcp://host:port``; empty where the file tells.
        file: That the scheduler wrote; None for none.
        tls: Folder with certificates; None for plain TCP.
    """

    address: str = ""
    file: Path | None = None
    tls: Path | None = None

    @property
    def said(self) -> str:
        """In words."""
        return self.address or str(self.file)

    def found(self, seconds: float = 0.0) -> str:
        """Return the address.

        Args:
            seconds: How long a file that is being written is waited for.

        Raises:
            UserError: The file does not tell, or address and certificates do not fit.
        """
        address = self.address or self._in_file(seconds)
        scheme = _scheme(address)
        if not scheme:
            raise UserError(f"--scheduler {address!r}: expected an address such as tcp://10.0.0.1:8786 or tls://...")
        if scheme == "tls" and self.tls is None:
            raise UserError(f"--scheduler {address}: it speaks TLS; name the folder of certificates with --tls")
        if scheme == "tcp" and self.tls is not None:
            raise UserError(f"--tls {self.tls}: {address} does not speak TLS; expected an address tls://...")
        return address

    def _in_file(self, seconds: float) -> str:
        address, why = self._read()
        for _ in range(math.ceil(seconds / _NAP_S)):
            if address:
                break
            time.sleep(_NAP_S)
            address, why = self._read()
        if not address:
            raise UserError(f"--scheduler-file {self.file}: {why}; is its scheduler still there? Start it again")
        return address

    def _read(self) -> tuple[str, str]:
        """Return the address; or none, and what is wrong with a file that is being written, or never was.

        Raises:
            UserError: The file is none that a scheduler wrote.
        """
        assert self.file is not None
        try:
            text = self.file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise self._other(getattr(error, "strerror", None) or "it is no text") from error
        try:
            said = json.loads(text)
        except ValueError:
            return "", "it is only half written" if text.strip() else "it is empty"
        address = said.get("address") if isinstance(said, dict) else None
        if not isinstance(address, str) or not _scheme(address):
            raise self._other("it says no address such as tcp://10.0.0.1:8786")
        return address, ""

    def _other(self, why: str) -> UserError:
        return UserError(
            f"--scheduler-file {self.file}: {why}; expected the file that "
            f"`profiler scheduler --scheduler-file {self.file}` writes"
        )


def _scheme(address: str) -> str:
    """Return ``tcp`` or ``tls`` of an address; empty for what is none."""
    scheme = address.partition("://")[0] if "://" in address else ""
    return scheme if scheme in {"tcp", "tls"} and address.rpartition(":")[2].isdigit() else ""


@contextmanager
def told_in(file: Path | None, identity: object) -> Iterator[None]:
    """Keep a file that tells of a scheduler, whole at each moment; the engine would write it in parts.

    Raises:
        UserError: It cannot be written.
    """
    if file is None:
        yield
        return
    text = json.dumps(identity, indent=2)
    try:
        _replace(file, text)
    except OSError as error:
        raise UserError(
            f"--scheduler-file {file} cannot be written ({error.strerror}); choose another place"
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):
            if file.read_text(encoding="utf-8") == text:  # else it is of the next one
                file.unlink()


def _replace(file: Path, text: str) -> None:
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
