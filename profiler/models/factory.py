"""Models that a function of the user's makes: ``package.module:function`` and ``path/file.py:function``."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from profiler.errors import UserError
from profiler.models import content, naming
from profiler.models.examples import IMAGE, normal
from profiler.models.loaded import Asked, Loaded
from profiler.models.shapes import parse_shapes
from profiler.models.torch_source import called, from_module
from profiler.models.torchvision_import import import_without_operators

_EXPECTED = "expected a function that returns a torch module, or (module, example input)"


def made_by(function: Any, asked: Asked) -> Loaded:
    """Return what a function makes; raises UserError with one sentence when that is no model.

    A shape whose name is a parameter of the function is passed to it: ``def bert(sequence=64)`` with ``sequence=128``.
    """
    given = _arguments(function, asked)
    made = called(lambda: function(**given), asked.model)
    code = content.of_parts(content.of_code(), sorted(given.items()))
    module, example = module_of(made, asked.model)
    return from_module(module, example, asked, code, tuple(given))


@contextmanager
def users_modules_first() -> Iterator[None]:
    """Look for modules in the user's folder first while a model is made, as in a program of theirs; last afterwards.

    No compiled forms are written: an edit within a second of the last would go unnoticed.
    """
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path[:] = ["", *filter(None, sys.path)]
    try:
        yield
    finally:
        sys.path[:] = [*filter(None, sys.path), ""]
        sys.dont_write_bytecode = written


def named(name: str) -> Any:
    """Import what a model's name means: a function, a class or another object, or a module that is a family itself."""
    import_without_operators()
    place, _, attribute = name.rpartition(":")
    path = naming.file_of(name)
    try:
        module = _file_module(Path(path)) if path else importlib.import_module(place)
        itself = attribute == module.__name__.rpartition(".")[2] and {"scale", "build"} <= vars(module).keys()
        return module if itself and not hasattr(module, attribute) else getattr(module, attribute)
    except (ImportError, AttributeError, FileNotFoundError) as error:
        raise UserError(
            f"model {name!r}: {error}; expected package.module:function, importable from the current folder, "
            "or path/file.py:function"
        ) from error
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"model {name!r}: importing it fails with {type(error).__name__}: {said}") from error


def _file_module(given: Path) -> ModuleType:
    """Import the file of ``path/file.py:function``; what lies beside it is found as by ``python path/file.py``."""
    path = given.resolve()
    found = spec_from_file_location(path.stem, path, loader=SourceFileLoader(path.stem, str(path)))
    if found is None or found.loader is None:
        raise ImportError(f"{path} cannot be imported")
    sys.path[:0] = [str(path.parent)]
    module = sys.modules[path.stem] = module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _arguments(function: Any, asked: Asked) -> dict[str, int]:
    """Return the shapes that are arguments of the function; raises UserError where it needs others."""
    if not callable(function):
        raise UserError(f"model {asked.model!r} is {function!r:.60}; {_EXPECTED}")
    shapes = parse_shapes(asked.shape) if asked.shape else {}
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    given = {name: shapes[name].sizes[0] for name in parameters if name in shapes and len(shapes[name].sizes) == 1}
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters.values() if p.default is p.empty and p.kind not in free]
    if missing := [name for name in needed if name not in given]:
        raise UserError(
            f"model {asked.model!r} needs the argument {', '.join(missing)}; expected a function that can be called "
            f"without any: give it a default, or a size as --shape {missing[0]}=64"
        )
    return given


def module_of(made: Any, name: str) -> tuple[Any, object]:
    """Return module and example of what a function has returned."""
    import torch

    module, example = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if isinstance(module, torch.export.ExportedProgram):
        example = module.example_inputs if example is None else example
        module = module.module()
    if not isinstance(module, torch.nn.Module):
        raise UserError(f"model {name!r} returned {_said(made)}; {_EXPECTED}")
    return module, normal((1, *IMAGE)) if example is None else example


def _said(made: object) -> str:
    return "None" if made is None else f"a {type(made).__name__} ({made!r:.60})"
