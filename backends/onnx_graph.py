"""From a torch module to an ONNX file, and what a graph and a session say of it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from profiler.backends import pytorch
from profiler.backends.base import BackendError, Fact, FallbackError, Model, Placement
from profiler.backends.inputs import Inputs
from profiler.backends.pytorch import Placed
from profiler.backends.torch_trace import watching
from profiler.backends.torch_tree import evaluated, flat

OPSET = 20

#: The first version of the format whose weights are no inputs.
_FIRST_WITHOUT = 4

GRAPH, WEIGHTS, NOTE = "model.onnx", "weights.bin", "note.txt"

# Said by torch.onnx.export(dynamo=False) and by one function that it calls; nothing else is silenced.
_EXPORTER_DEPRECATED = (
    "You are using the legacy TorchScript-based ONNX export",
    "The feature will be removed. Please remove usage of this function",
)


def nodes_by_provider(session: Any, provider: str) -> dict[str, Fact]:
    """Return ``nodes_<provider>`` -> number of graph nodes there, and ``nodes_Cast``, the casts among them.

    Empty where this version of onnxruntime does not tell.

    Raises:
        FallbackError: A node runs on another provider than ``provider``.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    places = session.get_provider_graph_assignment_info()
    counts = Counter({provider: 0})
    for place in places:
        counts[place.ep_name] += len(place.get_nodes())
    if elsewhere := counts.total() - counts[provider]:
        spread = ", ".join(f"{count} on {name}" for name, count in counts.items())
        raise FallbackError(
            f"{elsewhere} of {counts.total()} nodes do not run on {provider} ({spread}): use another device"
        )
    casts = sum(node.op_type == "Cast" for place in places for node in place.get_nodes())
    return {f"nodes_{name}": count for name, count in counts.items()} | {"nodes_Cast": casts}


def export(model: Model, inputs: Inputs, placement: Placement, folder: Path) -> None:
    """Write the module of ``model`` as ONNX for exactly the shapes of ``inputs``, and beside it what that fixes."""
    import torch

    if model.module is None:
        raise BackendError("the model has neither a module nor an ONNX file: give one of them")
    module = flat(evaluated(model.module()).to(dtype=pytorch.dtype(placement)), inputs)
    placed = Placed(inputs, replace(placement, device="cpu", memory_format="contiguous"))
    tensors = tuple(placed.by_name.values())
    with torch.no_grad(), warnings.catch_warnings(), watching(module, tensors) as fixed, _exportable():
        for words in _EXPORTER_DEPRECATED:
            warnings.filterwarnings("ignore", message=words, category=DeprecationWarning)
        torch.onnx.export(
            module,
            tensors,
            str(folder / GRAPH),  # as str: only then are weights over 2 GB written beside it
            dynamo=False,
            opset_version=OPSET,
            input_names=list(placed.by_name),
        )
    (folder / NOTE).write_text(fixed.note, encoding="utf-8")


def without_listed_weights(source: Path, folder: Path) -> Path:
    """Return ``source``, or a copy in ``folder`` where it is of before IR 4, when files listed weights as inputs too.

    onnxruntime takes those for constants, but leaves them among the inputs of the optimised file once they are folded.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        version = onnx.load(source, load_external_data=False).ir_version
    except (OSError, DecodeError):  # onnxruntime says what is wrong with it
        return source
    if version >= _FIRST_WITHOUT:
        return source
    model = onnx.load(source)
    weights = {weight.name for weight in model.graph.initializer}
    taken = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(taken)
    model.ir_version = _FIRST_WITHOUT
    copy = folder / source.name
    onnx.save(model, copy)
    return copy


@contextmanager
def _exportable() -> Iterator[None]:
    """Keep fused attention, for which ONNX has no operator, out of the trace; a refusal becomes one sentence."""
    import torch
    from torch.onnx import OnnxExporterError

    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    except OnnxExporterError as error:
        said = str(error).strip().splitlines()[0].rstrip(".")
        raise BackendError(
            f"torch cannot export the model to ONNX opset {OPSET} ({said}): use torchscript or eager"
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
