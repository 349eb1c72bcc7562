"""Quantities as people write them: ``16GF``, ``12ms``, ``5%``, ``512MiB``; read and written.

A rounded number always has three significant digits, so that what is shown can be compared at a glance; exact
values belong in JSON and CSV.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal

from profiler.errors import UserError

_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-zµμ%]*)", re.IGNORECASE)

_THOUSANDS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_FLOPS = {prefix + unit: size for prefix, size in _THOUSANDS.items() for unit in ("", "f", "flop", "flops")}
_BYTES = {"": 1, "b": 1}
_BYTES |= {f"{prefix}b": size for prefix, size in _THOUSANDS.items() if prefix}
_BYTES |= {f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", start=1)}
_SECONDS = {
    "ns": "1e-9",
    "us": "1e-6",
    "µs": "1e-6",
    "μs": "1e-6",
    "ms": "1e-3",
    "s": "1",
    "min": "60",
    "h": "3600",
}
_JOULES = {"mj": "1e-3", "j": "1", "kj": "1e3"}
_SHARE = {"": "1", "%": "0.01"}


def parse_flops(text: str) -> int:
    """Read a number of flops: ``16GF``, ``400 MF``, ``4G``, ``4e9``. Case does not matter.

    Raises:
        UserError: The text is not a number of flops above 0.
    """
    value = round(_parse(text, _FLOPS, "a number of flops", "16GF, 400MF or 4e9"))
    if value < 1:
        raise UserError(f"{text!r} flops are too few: write a number above 0, such as 400MF.")
    return value


def parse_duration(text: str) -> float:
    """Read a duration, in seconds: ``50us``, ``12ms``, ``1.5s``, ``2min``, ``1h``. The unit is needed.

    Raises:
        UserError: The text is not a duration of 0 or more.
    """
    return float(_parse(text, _SECONDS, "a duration", "50us, 12ms or 1.5s"))


def parse_share(text: str) -> float:
    """Read a share of one: ``5%`` or ``0.05``.

    Raises:
        UserError: The text is not a share of 0 or more.
    """
    return float(_parse(text, _SHARE, "a share", "5% or 0.05"))


def parse_bytes(text: str) -> int:
    """Read a size in bytes: ``512MiB`` (powers of 1024), ``4GB`` (powers of 1000), ``4096``.

    Raises:
        UserError: The text is not a size of 0 or more.
    """
    return round(_parse(text, _BYTES, "a size", "512MiB, 4GB or 4096"))


def parse_energy(text: str) -> float:
    """Read an energy, in joules: ``2J``, ``350mJ``. The unit is needed.

    Raises:
        UserError: The text is not an energy of 0 or more.
    """
    return float(_parse(text, _JOULES, "an energy", "2J or 350mJ"))


def _parse(text: str, units: Mapping[str, int | str], what: str, examples: str) -> Decimal:
    # Decimal, so that 0.1% or 1.6GF are exact before the last rounding.
    match = _QUANTITY.fullmatch(text.strip())
    size = units.get(match[2].lower()) if match else None
    number = Decimal(match[1]) if match else Decimal(-1)
    # The last bound keeps 1e999999999 from becoming a whole number of that many digits.
    if size is None or number < 0 or number.adjusted() > 30:
        raise UserError(f"{text!r} is not {what}: write it like {examples}.")
    return number * Decimal(size)


def format_flops(flops: float) -> str:
    """Return ``3.97 GF`` for 3973301344."""
    return _format(flops, 1000, ("F", "kF", "MF", "GF", "TF"))


def format_count(count: float) -> str:
    """Return ``20.6 M`` for 20646656, and ``950`` for 950."""
    return _format(count, 1000, ("", "k", "M", "G", "T"))


def format_bytes(size: float) -> str:
    """Return ``512 MiB`` for 536870912."""
    return _format(size, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def format_duration(seconds: float) -> str:
    """Return ``12.3 ms`` for 0.01234; minutes from 5 minutes on, hours from 2 hours on."""
    for unit, size, least in (("h", 3600, 7200), ("min", 60, 300)):
        if least <= seconds < math.inf:
            return f"{three_digits(seconds / size)} {unit}"
    return _format(seconds * 1e9, 1000, ("ns", "us", "ms", "s"))


def format_ratio(ratio: float) -> str:
    """``1.37``; below a tenth the first two digits that are not 0: ``0.00063``."""
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def format_share(share: float, *, signed: bool = False) -> str:
    """Return ``1.2%`` for 0.012, or ``+1.2%`` where the sign matters."""
    percent, sign = 100 * share, "+" if signed else ""
    return f"{percent:{sign}.0f}%" if abs(percent) >= 10 else f"{percent:{sign}.2g}%"


def _format(value: float, base: int, units: tuple[str, ...]) -> str:
    """Write ``value`` with three significant digits, in the first unit in which it stays below ``base``."""
    if not math.isfinite(value):
        return str(value)
    unit, *larger = units
    whole = float(value).is_integer()
    for next_unit in larger:
        if max(abs(value), abs(float(f"{value:.3g}"))) < base:
            break
        value, unit, whole = value / base, next_unit, False
    return f"{value:.0f} {unit}".rstrip() if whole else f"{three_digits(value)} {unit}".rstrip()


def three_digits(value: float) -> str:
    """Return ``27.0`` for 27, ``0.0123`` for 0.012345, and all of a whole part: ``1234`` for 1234.5."""
    if not math.isfinite(value) or abs(value) >= 999.5:
        return f"{value:.0f}"
    rounded = float(f"{value:.3g}")
    decimals = 2 - math.floor(math.log10(abs(rounded))) if rounded else 0
    return f"{rounded:.{max(0, decimals)}f}"
