"""What names a model: the forms there are, told apart by the text alone."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from profiler.errors import UserError
from profiler.models import families

Form = Literal["zoo", "factory", "file factory", "onnx", "torchscript", "exported", "timm", "torchvision", "live"]

#: Packages of models: a name before the colon that is no module of the user's.
_PACKAGES: Mapping[str, Form] = {"timm": "timm", "torchvision": "torchvision", "live": "live"}
#: Files of models, by their ending in any case.
_ENDINGS: Mapping[str, Form] = {
    ".onnx": "onnx",
    ".pt": "torchscript",
    ".jit": "torchscript",
    ".ts": "torchscript",
    ".pt2": "exported",
}
#: What is expected where a name has none of the forms.
FORMS = (
    "a name that `profiler models` lists (regnety_400mf), package.module:function, path/file.py:function, "
    "an ONNX file (path/model.onnx), a TorchScript file (.pt, .jit, .ts), an exported program (.pt2), "
    "timm:NAME or torchvision:NAME"
)


def form(name: str) -> Form:
    """Return what form a model's name has; whether there is such a file or module is not looked at.

    Raises:
        UserError: It has none; the message lists them, and the networks that are called alike.
    """
    found = _form(name)
    if found is None:
        near = difflib.get_close_matches(name, families.names(), n=3, cutoff=0.5)
        closest = f"; closest: {', '.join(near)}" if near else ""
        raise UserError(f"unknown model {name!r}{closest}; expected {FORMS}")
    return found


def is_brought(name: str) -> bool:
    """Whether a model is the user's own and no network of the zoo."""
    return _form(name) != "zoo"


def may_be_family(name: str) -> bool:
    """Whether a model is code of the user's, which may be a family that rules scale."""
    return _form(name) in ("factory", "file factory")


def file_of(name: str) -> str | None:
    """Return the path of the file that a model is read from; None where its name is that of no file."""
    found = _form(name)
    if found == "file factory":
        return name.rpartition(":")[0]
    return name if found in _ENDINGS.values() else None


def split_names(text: str, is_file: Callable[[str], bool]) -> list[str]:
    """Return the names in a list with commas.

    A comma belongs to a path where a file is called so (as ``is_file`` tells), or where double quotes stand around the
    path, by the rules of CSV.
    """
    if '"' in text and not _in_file(text, is_file):
        return [name.strip() for name in next(csv.reader([text], skipinitialspace=True))]
    return list(_joined(text.split(","), is_file))


def _form(name: str) -> Form | None:
    package, colon, rest = name.partition(":")
    if colon and package in _PACKAGES:
        return _PACKAGES[package] if rest and not any(map(str.isspace, rest)) else None
    for ending, found in _ENDINGS.items():
        if name.lower().endswith(ending):
            return found
    module, _, function = name.rpartition(":")
    if function.isidentifier() and module.lower().endswith(".py"):
        return "file factory"
    if function.isidentifier() and all(map(str.isidentifier, module.split("."))):
        return "factory"
    return "zoo" if families.lookup(name) else None


def _joined(parts: list[str], is_file: Callable[[str], bool]) -> Iterator[str]:
    """Yield the parts of a list, those in one that together name a file."""
    start = 0
    while start < len(parts):
        ends = range(len(parts), start, -1)
        names = ((end, ",".join(parts[start:end]).strip()) for end in ends)
        start, name = next((end, name) for end, name in names if end == start + 1 or _in_file(name, is_file))
        yield name


def _in_file(name: str, is_file: Callable[[str], bool]) -> bool:
    path = file_of(name)
    return path is not None and is_file(path)
