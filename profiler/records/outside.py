"""What comes from outside: files that are files, TOML that is small and shallow, values to name in a sentence."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pydantic

#: Tables and lists inside of each other; a plan has three, a journal six.
_DEEPEST = 32
#: Bytes of TOML. A plan has hundreds, and the parser takes seconds for a megabyte.
_MOST_TOML = 256 * 1024
#: Characters of a text in TOML; the longest path has as many.
_LONGEST = 4096
#: Characters of a value that a sentence shows.
_SHOWN = 60
#: What stands between the signs of TOML: a key of very many parts takes the parser hours.
_BETWEEN = re.compile(r"[=,{}\[\]\n]")

_Kind = TypeVar("_Kind")


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading.

    Raises:
        OSError: It cannot be read; or it is a pipe or a device, which might never end and is not waited for.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.ESPIPE, "a pipe or a device; save what comes out of it as a file first", str(path))
        yield file


def file_bytes(path: Path) -> bytes:
    """Return what a file holds; raises OSError as ``open_file``."""
    with open_file(path) as file:
        return file.read()


def is_folder(path: Path) -> bool:
    """Whether ``path`` is a folder; not where nobody may look, or a name is too long to be one."""
    try:
        return path.is_dir()
    except OSError:
        return False


def json_of(data: bytes) -> object:
    """Parse JSON.

    Raises:
        ValueError: It is none, or nested deeper than anything that is written here.
    """
    try:
        found = json.loads(data.decode())
    except RecursionError as error:
        raise ValueError(f"nested deeper than {_DEEPEST}") from error
    if _deeper(found, _DEEPEST):
        raise ValueError(f"nested deeper than {_DEEPEST}")
    return found


def text_of(data: bytes) -> str:
    """Return UTF-8 text, without the mark that some editors put before it.

    Raises:
        ValueError: It is no such text; the message says what it seems to be.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError("UTF-16 text; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wrong = f"byte {error.start} is 0x{data[error.start]:02x}"
        raise ValueError(f"not UTF-8 text: {wrong}; save it as UTF-8") from error


def toml_table(text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ValueError: It is none, or larger or deeper than any plan is; the message is one line.
    """
    if len(text) > _MOST_TOML:
        raise ValueError(f"{len(text)} characters are more than a file of this kind has: at most {_MOST_TOML} are read")
    if any(part.count(".") > _DEEPEST for part in _BETWEEN.split(text)):
        raise ValueError(f"a key has more than {_DEEPEST} parts between dots")
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not valid TOML: {error}") from error
    except RecursionError as error:
        raise ValueError(f"lists or tables are nested deeper than {_DEEPEST}") from error
    except ValueError as error:  # Python reads no number of more than 4300 digits
        raise ValueError("a number has too many digits") from error
    if _deeper(found, _DEEPEST):
        raise ValueError(f"lists or tables are nested deeper than {_DEEPEST}")
    longest = max(map(len, _texts(found)), default=0)
    if longest > _LONGEST:
        raise ValueError(f"a text has {longest} characters; at most {_LONGEST} are read")
    return found


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from (key, *_texts(one))
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _deeper(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inside = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(one, levels - 1) for one in inside)


def checked(kind: type[_Kind], value: object) -> _Kind:
    """Return plain types as a ``kind``, whose fields say what they may be.

    Raises:
        ValueError: They are none.
    """
    return pydantic.TypeAdapter(kind).validate_json(json.dumps(value), strict=True)


def shown(value: object) -> str:
    """Return a value as a sentence names it: what is long is cut."""
    try:
        text = repr(value[:_SHOWN] if isinstance(value, str) else value)
    except ValueError:  # Python writes no number of more than 4300 digits
        return "a number of thousands of digits"
    cut = len(text) > _SHOWN + 2 or (isinstance(value, str) and len(value) > _SHOWN)
    return f"{text[:_SHOWN]}... ({len(value) if isinstance(value, str) else len(text)} characters)" if cut else text


def problem(error: pydantic.ValidationError) -> str:
    """Return the first thing that is wrong: where, the value, and what was expected."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))[:_SHOWN]
    value = "" if first["type"] in ("missing", "json_invalid") else f" {shown(first['input'])}:"
    return f"{where}:{value} {first['msg']}".removeprefix(": ")
