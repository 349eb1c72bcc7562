"""What a check of the host or of a device found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: Name of the check.
        status: Unverifiable means that this machine cannot tell, and fails nothing.
        said: One sentence with the figures, and the next step where it failed.
    """

    check: str
    status: Literal["pass", "fail", "unverifiable"]
    said: str


def judged(check: str, good: bool, said: str, remedy: str) -> Finding:
    """Return that ``check`` passed with what it ``said``, or that it failed, with the ``remedy`` too."""
    return Finding(check, "pass", said) if good else Finding(check, "fail", f"{said}; {remedy}")
