"""Models that a function of the user's makes: ``package.module:function`` and ``path/file.py:function``."""

from __future__ import annotations

import importlib
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.machinery import PathFinder, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from profiler.errors import UserError
from profiler.models import content, naming
from profiler.models.examples import IMAGE, normal
from profiler.models.loaded import Asked, Loaded
from profiler.models.shapes import parse_shapes
from profiler.models.torch_source import called, from_module, lacks
from profiler.models.torchvision_import import import_without_operators

#: Functions of a module that a sentence names.
_NAMED = 5
_EXPECTED = "expected a function that returns a torch module, or (module, example input)"


#: What the last file brought with it: its folder, where Python did not look before, and modules.
_folder: list[str] = []
_modules: set[str] = set()


def made_by(function: Any, asked: Asked) -> Loaded:
    """Return what a function makes; raises UserError with one sentence when that is no model.

    A shape whose name is a parameter of the function is passed to it: ``def bert(sequence=64)`` with ``sequence=128``.
    """
    given, names = _arguments(function, asked)

    def make() -> tuple[Any, object]:
        return module_of(called(lambda: function(**given), asked.model), asked.model)

    module, example = make()
    code = content.of_parts(content.of_code(), sorted(given.items()))
    return from_module(module, example, asked, code, names, again=lambda: make()[0])


@contextmanager
def users_modules_first() -> Iterator[None]:
    """Look for modules in the user's folder first while a model is made, as in a program of theirs; last afterwards.

    What another file brought gives way: modules beside two files may be called alike. No compiled forms are written: an
    edit within a second of the last would go unnoticed.
    """
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path[:] = ["", *(place for place in sys.path if place and place not in _folder)]
    for name in _modules:
        sys.modules.pop(name, None)
    _folder.clear()
    _modules.clear()
    before = set(sys.modules)
    try:
        with _defaults_kept():
            yield
    finally:
        sys.path[:] = [*(place for place in sys.path if place and place not in _folder), *_folder, ""]
        sys.dont_write_bytecode = written
        if _folder:
            _modules.update(name for name in set(sys.modules) - before if content.is_own(sys.modules[name]))


@contextmanager
def _defaults_kept() -> Iterator[None]:
    """Put torch's defaults back: what a model's author sets to build it is no choice of whoever measures it."""
    import torch

    dtype, device, gradients = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)  # torch is faster without one


def named(name: str) -> Any:
    """Import what a model's name means: a function, a class or another object, or a module that is a family itself."""
    import_without_operators()
    place, _, attribute = name.rpartition(":")
    path = naming.file_of(name)
    try:
        module = _file_module(Path(path)) if path else importlib.import_module(place)
        found = getattr(module, attribute, None)
    except (ImportError, FileNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and not f"{place}.".startswith(f"{error.name}."):
            raise lacks(name, error.name) from error
        raise UserError(
            f"model {name!r}: {error}; expected package.module:function, importable from the current folder, "
            "or path/file.py:function"
        ) from error
    except (Exception, SystemExit) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"model {name!r}: importing it fails with {type(error).__name__}: {said}; expected a module that can be "
            "imported without running a program"
        ) from error
    if found is not None or attribute in vars(module):
        return found
    if attribute == module.__name__.rpartition(".")[2] and {"scale", "build"} <= vars(module).keys():
        return module
    raise UserError(f"model {name!r}: {path or place} has no function {attribute!r}{_functions_of(module, attribute)}")


def _functions_of(module: ModuleType, like: str) -> str:
    """Say what a module has: what is most like a name, its own functions, and its own classes."""
    public = {name: each for name, each in vars(module).items() if callable(each) and not name.startswith("_")}
    near = get_close_matches(like, public, n=_NAMED)
    own = [name for name, each in public.items() if getattr(each, "__module__", "") == module.__name__]
    named = list(dict.fromkeys([*near, *sorted(own, key=lambda name: isinstance(public[name], type))]))
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return f"; it has {', '.join(named[:_NAMED])}{more}" if named else f"; {_EXPECTED}"


def _file_module(given: Path) -> ModuleType:
    """Import the file of ``path/file.py:function``; what lies beside it is found as by ``python path/file.py``."""
    path = given.resolve()
    name, folder = _module_name(path), str(path.parent)
    found = spec_from_file_location(name, path, loader=SourceFileLoader(name, str(path)))
    if found is None or found.loader is None:
        raise ImportError(f"{path} cannot be imported")
    if folder not in sys.path:
        _folder.append(folder)
    sys.path[:] = [folder, *(place for place in sys.path if place != folder)]
    module = sys.modules[name] = module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _module_name(path: Path) -> str:
    """Return what a file is called as a module: one of Python's or of an installed package keeps its own name."""
    name = path.stem.replace(".", "_")
    installed = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    known = getattr(sys.modules.get(name), "__file__", str(path))
    ours = name in sys.stdlib_module_names or name == __name__.partition(".")[0]
    taken = ours or known != str(path) or PathFinder.find_spec(name, installed) is not None
    return f"{name}_file" if taken else name


def _arguments(function: Any, asked: Asked) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the shapes that are arguments of the function, and what it takes; raises UserError where it needs more."""
    if not callable(function):
        raise UserError(f"model {asked.model!r} is {function!r:.60}; {_EXPECTED}")
    shapes = parse_shapes(asked.shape) if asked.shape else {}
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}, ()
    given = {name: shapes[name].sizes[0] for name in parameters if name in shapes and len(shapes[name].sizes) == 1}
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters.values() if p.default is p.empty and p.kind not in free]
    if missing := [name for name in needed if name not in given]:
        raise UserError(
            f"model {asked.model!r} needs the argument {', '.join(missing)}; expected a function that can be called "
            f"without any: give it a default, or a size as --shape {missing[0]}=64"
        )
    return given, tuple(parameters)


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
