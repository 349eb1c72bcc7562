"""The sources of models: zoo, factory or ONNX file, as a backend receives it, with its input and exact complexity.

A model is a name from ``profiler.models``, a function of the user's that returns a torch module, or an ONNX file.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from profiler import models
from profiler.backends.base import Model
from profiler.errors import UserError
from profiler.models import naming
from profiler.models.complexity import Complexity
from profiler.records.types import Case

if TYPE_CHECKING:
    from profiler.backends.base import Array


#: Input of a brought module that names none, for one image: channels, height, width.
_DEFAULT_IMAGE = (3, 224, 224)


@dataclass(frozen=True, slots=True)
class Network:
    """What a visit loads.

    Attributes:
        model: As the backend receives it.
        example: Seeded random input, fp32, shape (batch, channels, height, width).
        complexity: For one image; None where it cannot be counted (an ONNX file).
        resolution: Height of the input in pixels; None where the input is no image.
    """

    model: Model
    example: Array
    complexity: Complexity | None
    resolution: int | None


def load_network(case: Case, cache: Path | None) -> Network:
    """Return the network of ``case``; raises UserError with one sentence when it cannot be had."""
    sources = {"zoo": _zoo, "factory": _factory, "file factory": _factory, "onnx": _onnx_file}
    found = naming.form(case.model)
    if found not in sources:
        raise UserError(f"model {case.model!r}: models of the form {found} cannot be loaded; expected another form")
    return sources[found](case, cache)


def _example(shape: tuple[int, ...]) -> Array:
    """Return the same standard normal values for the same shape, on every machine and for every backend."""
    import numpy as np

    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _zoo(case: Case, cache: Path | None) -> Network:
    arch = models.resolve(case.model, case.scaling, case.factor)
    # Weights follow from the architecture and the code that builds it, so those two are the content.
    code = b"".join(file.read_bytes() for file in sorted(Path(models.__file__).parent.glob("*.py")))
    key = hashlib.sha256(repr((arch, version("torch"))).encode() + code).hexdigest()[:16]
    model = Model(key, lambda: models.build(arch), cache=cache)
    size = arch.resolution
    return Network(model, _example((case.batch, 3, size, size)), models.complexity(arch), size)


def _factory(case: Case, cache: Path | None) -> Network:
    import torch

    # The same code draws the same weights in every process, and for both sides of a comparison in one.
    torch.manual_seed(0)
    made = _call(case.model)
    module, shape = (made[0], tuple(made[1].shape)[1:]) if isinstance(made, tuple) else (made, _DEFAULT_IMAGE)
    module.eval()
    one = torch.from_numpy(_example((1, *shape)))
    # The content of a module is not known before it is built: nothing of it is cached.
    model = Model(None, lambda: module, cache=cache)
    counted = models.count(module, one)
    return Network(model, _example((case.batch, *shape)), counted, shape[1] if len(shape) == 3 else None)


def _call(spec: str) -> Any:  # a module, or a pair of module and example input
    name, _, attribute = spec.rpartition(":")
    # The user's modules come first while their model is made, as in a program of theirs, and last afterwards: what is
    # imported late for the backend is not looked for among them.
    sys.path[:] = ["", *filter(None, sys.path)]
    try:
        try:
            module = _file_module(spec) if naming.file_of(spec) else importlib.import_module(name)
            function = getattr(module, attribute)
        except (ImportError, AttributeError, FileNotFoundError) as error:
            raise UserError(
                f"model {spec!r}: {error}; expected package.module:function, importable from the current folder, "
                "or path/file.py:function"
            ) from error
        return function()
    finally:
        sys.path[:] = [*filter(None, sys.path), ""]


def _file_module(spec: str) -> ModuleType:
    """Import the file of ``path/file.py:function``; what lies beside it is found as by ``python path/file.py``."""
    path = Path(naming.file_of(spec) or "").resolve()
    found = spec_from_file_location(path.stem, path, loader=SourceFileLoader(path.stem, str(path)))
    if found is None or found.loader is None:
        raise ImportError(f"{path} cannot be imported")
    sys.path[:0] = [str(path.parent)]
    module = sys.modules[path.stem] = module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _onnx_file(case: Case, cache: Path | None) -> Network:
    import onnx

    path = Path(case.model)
    try:
        graph = onnx.load(path, load_external_data=False).graph
        key = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except FileNotFoundError as error:
        raise UserError(f"model {case.model!r}: no such file; expected a path to an ONNX model") from error
    except Exception as error:
        raise UserError(f"model {case.model!r} is not a readable ONNX model: {error}") from error
    weights = {weight.name for weight in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise UserError(f"model {case.model!r} has {len(inputs)} inputs; expected exactly one image tensor")
    sizes = [dim.dim_value or None for dim in inputs[0].type.tensor_type.shape.dim]
    fallback = (case.batch, *_DEFAULT_IMAGE)
    shape = (case.batch, *(size or fallback[i] for i, size in enumerate(sizes) if i > 0))
    model = Model(key, None, onnx=path, cache=cache)
    return Network(model, _example(shape), None, shape[2] if len(shape) == 4 else None)
