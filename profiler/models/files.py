"""Models in files of torch: TorchScript (``.pt .jit .ts``) and exported programs (``.pt2``)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from profiler.backends.inputs import Inputs
from profiler.backends.torch_trace import deprecation_silenced
from profiler.errors import UserError
from profiler.models import content
from profiler.models.examples import drawn, read_values
from profiler.models.loaded import Asked, Loaded
from profiler.models.shapes import parse_shapes
from profiler.models.torch_source import argument_names, from_module


def load_torchscript(asked: Asked) -> Loaded:
    """Return the module of a TorchScript file; its inputs are those of ``shape`` or ``values``: the file names none."""
    import torch

    module = _opened(asked, lambda path: torch.jit.load(path, map_location="cpu"))  # type: ignore[no-untyped-call]
    inputs, kinds = _inputs(argument_names(module), asked)
    loaded = from_module(module, inputs, _without_shapes(asked), content.of_files([Path(asked.model)]))
    return replace(loaded, drawn=kinds)


def load_exported(asked: Asked) -> Loaded:
    """Return the module of an exported program, with the inputs it was exported with."""
    import torch

    program = _opened(asked, torch.export.load)
    example = program.example_inputs
    if not example:
        raise UserError(f"model {asked.model!r} keeps no example inputs; export it again with torch.export.save")
    names = tuple(program.graph_signature.user_inputs)[: len(example[0])]
    given = (example[0], example[1] or {})
    from profiler.models.examples import of_example

    return from_module(program.module(), of_example(given, names), asked, content.of_files([Path(asked.model)]))


def _opened(asked: Asked, read: Any) -> Any:
    path = Path(asked.model)
    if not path.is_file():
        raise UserError(f"model {asked.model!r}: no such file; expected a path to a file of torch.jit or torch.export")
    try:
        with deprecation_silenced():
            return read(str(path))
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"model {asked.model!r} cannot be read ({said}); expected a file that torch.jit.save (.pt, .jit, .ts) or "
            "torch.export.save (.pt2) wrote: a file of weights alone is no model"
        ) from error


def _inputs(names: tuple[str, ...], asked: Asked) -> tuple[Inputs, dict[str, str]]:
    values = read_values(asked.input_file) if asked.input_file else {}
    shapes = parse_shapes(asked.shape) if asked.shape else {}
    if missing := [name for name in names if name not in values and name not in shapes]:
        raise UserError(
            f"model {asked.model!r} does not say what its inputs {', '.join(names)} are; give {', '.join(missing)} as "
            f"--shape {missing[0]}=1x3x224x224 (integers as {missing[0]}=1x128:int64) or with --input FILE.npz"
        )
    ranges: dict[str, str] = {}
    for name, shape in shapes.items():
        if name not in names:
            raise UserError(f"model {asked.model!r} has no input {name}; expected one of {', '.join(names)}")
        values[name], ranges[name] = drawn(shape.sizes, shape.kind or "float32")
    ordered = Inputs(tuple(values[name] for name in names), names=names)
    return ordered, {name: text for name, text in ranges.items() if text}


def _without_shapes(asked: Asked) -> Asked:
    return Asked(asked.model, batch=asked.batch, cache=asked.cache)
