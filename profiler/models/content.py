"""Digests of what a model is: whatever shapes its output or its time is in them.

Equal digests mean the same code, weights and input values; another byte of any of them gives another digest.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import sysconfig
import zipfile
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path, PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from profiler.backends.torch_trace import deprecation_silenced

if TYPE_CHECKING:
    from torch import Tensor, nn

    from profiler.backends.inputs import Inputs

#: Hexadecimal digits of a digest: two contents of one name never share 64 bits by chance.
_DIGITS = 16
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
#: Of a saved module: from which lines its code is, and by what it was saved.
_OF_NO_MEANING = (".debug_pkl", "serialization_id", "/version", "byteorder")


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
    """Return the digest of a module: its classes, what they hold, code where it holds some, and every number."""
    found = _Found()
    found.add(module, "")
    return found.digest


class _Found:
    """What a module holds, gathered into one digest."""

    def __init__(self) -> None:
        self._total = hashlib.blake2b()
        # By id, what was seen with its first name; kept alive, so that no other object gets its id.
        self._seen: dict[int, tuple[str, object]] = {}

    @property
    def digest(self) -> str:
        """Of all that was added."""
        return self._total.hexdigest()[:_DIGITS]

    def _say(self, *words: object) -> None:
        self._total.update("\0".join(map(str, (*words, ""))).encode())

    def add(self, value: object, name: str) -> None:
        """Add a value by what it holds; what was there under another name by that name."""
        import numpy as np
        import torch

        self._say(name, f"{type(value).__module__}.{type(value).__qualname__}")
        if isinstance(value, _PLAIN):
            self._say(repr(value))
        elif id(value) in self._seen and not isinstance(value, tuple):
            self._say("is", self._seen[id(value)][0])
        else:
            self._seen[id(value)] = (name, value)
            if isinstance(value, np.ndarray):
                self._say(value.dtype, value.shape, value.tobytes())
            elif isinstance(value, torch.Tensor):
                self._say(value.dtype, tuple(value.shape))
                self._total.update(_bytes(value))
            elif isinstance(value, torch.jit.ScriptModule):
                self._add_scripted(value)
            else:
                for key, part in _in_module(value) if isinstance(value, torch.nn.Module) else _in_object(value):
                    self.add(part, f"{name}.{key}")

    def _add_scripted(self, module: object) -> None:
        """Add a module as it would be saved: its attributes, and its weights once frozen, stand nowhere else."""
        import torch

        saved = io.BytesIO()
        with deprecation_silenced():
            torch.jit.save(module, saved)
        with suppress(RuntimeError):  # without a forward of its own
            self._say(getattr(module, "inlined_code", ""))
        with zipfile.ZipFile(saved) as archive:
            for entry in archive.namelist():
                if not entry.endswith(_OF_NO_MEANING):
                    self._say(entry.partition("/")[2])
                    data = archive.read(entry)
                    # Constants of a class are written in any order.
                    self._total.update(b"".join(sorted(data.splitlines())) if entry.endswith(".py") else data)


def _in_module(module: nn.Module) -> Iterator[tuple[object, object]]:
    """Yield what a module holds besides what every module has, code of its own included."""
    held = {**module._parameters, **module._buffers, **module._modules}  # noqa: SLF001 - the public ones skip repeats
    yield "code", getattr(module, "code", "")
    yield from held.items()
    own = ((key, value) for key, value in sorted(vars(module).items()) if key not in _in_every_module())
    yield from ((key, value) for key, value in own if not key.startswith("_torchdynamo_"))  # one is an address
    # What is packed, as the weights of a quantised layer are, stands in the state alone.
    state: dict[str, object] = {}
    module._save_to_state_dict(state, "", keep_vars=True)  # noqa: SLF001 - without the state of its parts
    yield from ((key, value) for key, value in state.items() if key not in held)


@cache
def _in_every_module() -> frozenset[str]:
    from torch import nn

    return frozenset(vars(nn.Module()))


def _in_object(value: Any) -> Iterable[tuple[object, object]]:
    """Return what a container, a function or an object of the user's holds."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, tuple | list):
        return enumerate(value)
    if isinstance(value, set | frozenset):
        return enumerate(sorted(map(repr, value)))
    return _in_other(value)


def _in_other(value: Any) -> Iterable[tuple[object, object]]:
    """Return what an object holds; of Python's and torch's own nothing.

    Those hold what differs from process to process, as a logger does.
    """
    if isinstance(value, partial):
        return [("function", value.func), ("args", value.args), ("keywords", value.keywords)]
    if isinstance(value, type | ModuleType | FunctionType | MethodType | BuiltinFunctionType):
        return [("name", value.__name__), ("defaults", getattr(value, "__defaults__", None))]
    if isinstance(value, PurePath):
        return [("path", str(value))]
    home = type(value).__module__.partition(".")[0]
    plain = isinstance(value, SimpleNamespace | Namespace) or home not in {"torch", *sys.stdlib_module_names}
    return sorted(getattr(value, "__dict__", {}).items()) if plain else []


def _bytes(tensor: Tensor) -> Any:
    import torch

    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    if plain.layout != torch.strided or plain.is_quantized:
        plain = plain.dequantize() if plain.is_quantized else plain.to_dense()
    return plain.contiguous().reshape(-1).view(torch.uint8).numpy().data


def of_code() -> str:
    """Return the digest of the user's own modules that are imported now: those outside of installed packages."""
    return of_files(own_files())


def own_files() -> list[Path]:
    """Return the files of the user's own modules that are imported now."""
    files = {Path(str(module.__file__)).resolve() for module in list(sys.modules.values()) if is_own(module)}
    return [path for path in sorted(files) if path.is_file()]


def is_own(module: ModuleType) -> bool:
    """Whether a module is from a file that a user edits."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or file.startswith(_installed()):
        return False
    path = Path(file).resolve()
    return not str(path).startswith(_installed()) and "site-packages" not in path.parts


@cache
def _installed() -> tuple[str, ...]:
    """Return where modules are that no user edits: Python's own, those of its environment, and this package."""
    ours = Path(__file__).parents[1]
    python = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib")]
    folders = [ours, ours / "backends", *python]
    return tuple(f"{path}{os.sep}" for folder in folders for path in (folder.absolute(), folder.resolve()))
