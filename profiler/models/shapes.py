"""Shapes of inputs as people write them: ``images=1x3x640x640,ids=1x128:int64`` or ``height=640,width=640``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from profiler.errors import UserError

#: No dimension of a tensor is longer.
_LONGEST = 1 << 31
_TYPES = ("float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
_VALUE = re.compile(r"(\d+(?:x\d+)*)(?::(\w+))?")
EXAMPLES = "expected NAME=AxBxC for an input or NAME=N for a dimension, as images=1x3x640x640 or height=640,width=640"


@dataclass(frozen=True, slots=True)
class Sizes:
    """One value of a name.

    Attributes:
        sizes: The dimensions of an input, or the one value of a dimension.
        kind: Type of the elements; empty where the model says it.
    """

    sizes: tuple[int, ...]
    kind: str = ""


def parse_shapes(text: str) -> dict[str, Sizes]:
    """Return the values of ``text`` by name; raises UserError with one sentence when it says no shapes."""
    found: dict[str, Sizes] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = item.rpartition("=")
        if not equals or not name.strip() or name.strip() in found:
            raise UserError(f"shape {text!r}: {item!r} is no shape, or its name is given twice; {EXAMPLES}")
        found[name.strip()] = _value(text, value.strip())
    if not found:
        raise UserError(f"shape {text!r} names nothing; {EXAMPLES}")
    return found


def _value(text: str, value: str) -> Sizes:
    match = _VALUE.fullmatch(value)
    if match is None:
        raise UserError(f"shape {text!r}: {value!r} is no shape; {EXAMPLES}")
    sizes = tuple(int(size) for size in match[1].split("x"))
    if not all(0 < size < _LONGEST for size in sizes):
        raise UserError(f"shape {text!r}: {value!r} has a dimension of 0 or above {_LONGEST}; {EXAMPLES}")
    if match[2] and match[2] not in _TYPES:
        raise UserError(f"shape {text!r}: there is no type {match[2]!r}; expected one of {', '.join(_TYPES)}")
    return Sizes(sizes, match[2] or "")


def canonical(text: str) -> str:
    """Return ``text`` as it is written everywhere: no blanks, one order of names."""
    shapes = sorted(parse_shapes(text).items())
    return ",".join(f"{name}={'x'.join(map(str, s.sizes))}{f':{s.kind}' if s.kind else ''}" for name, s in shapes)


def each(texts: Iterable[str]) -> list[str]:
    """Return the shapes of ``texts``, one per case: ``height=320/640,width=320/640`` is two of them.

    Raises:
        UserError: Names of one text have unlike numbers of values.
    """
    return list(dict.fromkeys(itertools.chain.from_iterable(map(_several, texts))))


def _several(text: str) -> list[str]:
    columns = []
    for item in text.split(","):
        name, equals, values = item.rpartition("=")
        columns.append([f"{name}{equals}{value}" for value in values.split("/")])
    counts = {len(column) for column in columns} - {1}
    if len(counts) > 1:
        raise UserError(
            f"shape {text!r} gives {' and '.join(map(str, sorted(counts)))} values; expected as many of each name"
        )
    most = max(map(len, columns))
    padded = [column * most if len(column) == 1 else column for column in columns]
    return [canonical(",".join(row)) for row in zip(*padded, strict=True)]
