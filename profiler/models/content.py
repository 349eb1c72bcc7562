"""Digests of what a model is: whatever shapes its output or its time is in them.

Equal digests mean the same code, weights and input values; another byte of any of them gives another digest.
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from profiler.backends.inputs import Inputs

#: Hexadecimal digits of a digest: two contents of one name never share 64 bits by chance.
_DIGITS = 16
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def of_parts(*parts: object) -> str:
    """Return the digest of texts and bytes, and of whatever else by its ``repr``."""
    total = hashlib.blake2b()
    for part in parts:
        data = part if isinstance(part, bytes) else (part if isinstance(part, str) else repr(part)).encode()
        total.update(f"{len(data)}:".encode() + data)
    return total.hexdigest()[:_DIGITS]


def of_files(paths: Iterable[Path]) -> str:
    """Return the digest of the bytes of files, in their order."""
    return of_parts(*(_digest(path) for path in paths))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def of_inputs(inputs: Inputs) -> str:
    """Return the digest of names, types, shapes and values."""
    return of_parts(inputs.signature, *(array.tobytes() for array in inputs.arrays.values()))


def of_module(module: nn.Module) -> str:
    """Return the digest of a module: its classes, plain attributes, code where it holds some, and every number."""
    total = hashlib.blake2b()
    for name, part in module.named_modules():
        kind = type(part)
        total.update(f"\n{name}\0{kind.__module__}.{kind.__qualname__}\0{list(_plain(part))}".encode())
        total.update(_code(part).encode())
    for name, value in _state(module):
        total.update(f"\n{name}\0".encode())
        _add(total, value)
    return total.hexdigest()[:_DIGITS]


def _plain(part: nn.Module) -> Iterator[tuple[str, object]]:
    """Yield the attributes that are numbers, text, or tuples, lists, sets and dicts of such."""
    for name, value in sorted(vars(part).items()):
        if not name.startswith("_") and name != "training" and _is_plain(value):
            yield name, value


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, _PLAIN) for key in value) and all(map(_is_plain, value.values()))
    return all(map(_is_plain, value)) if isinstance(value, tuple | list) else isinstance(value, _PLAIN)


def _code(part: nn.Module) -> str:
    try:
        return str(getattr(part, "code", ""))
    except RuntimeError:  # a scripted module without a forward of its own
        return ""


def _state(module: nn.Module) -> Iterator[tuple[str, object]]:
    import torch

    seen: set[str] = set()
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        seen.add(name)
        yield name, value
    if isinstance(module, torch.nn.Module):
        # What is packed, as the weights of a quantised layer are, is no parameter and stands in the state alone.
        yield from ((name, value) for name, value in module.state_dict().items() if name not in seen)


def _add(total: Any, value: object) -> None:
    import torch

    if isinstance(value, torch.Tensor):
        total.update(f"{value.dtype}{tuple(value.shape)}".encode())
        total.update(_bytes(value))
    elif isinstance(value, tuple | list):
        for part in value:
            _add(total, part)
    else:
        total.update(repr(value).encode())


def _bytes(tensor: Tensor) -> Any:
    import torch

    plain = tensor.detach().cpu()
    if plain.layout != torch.strided or plain.is_quantized:
        plain = plain.dequantize() if plain.is_quantized else plain.to_dense()
    return plain.contiguous().reshape(-1).view(torch.uint8).numpy().data


def of_code() -> str:
    """Return the digest of the user's own modules that are imported now: those outside of installed packages."""
    installed = _installed()
    named = {
        file for module in list(sys.modules.values()) if isinstance(file := getattr(module, "__file__", None), str)
    }
    own = {Path(file).resolve() for file in named if file.endswith(".py") and not file.startswith(installed)}
    files = [path for path in sorted(own) if not str(path).startswith(installed) and "site-packages" not in path.parts]
    return of_files(path for path in files if path.is_file())


def _installed() -> tuple[str, ...]:
    """Return where modules are that no user edits: Python's own, those of its environment, and this package."""
    ours = Path(__file__).parents[1]
    python = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib")]
    folders = [ours, ours / "backends", *python]
    return tuple(f"{path}{os.sep}" for folder in folders for path in (folder.absolute(), folder.resolve()))
