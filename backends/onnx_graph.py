"""From a torch module to an ONNX file, and what a graph and a session say of it."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.backends import pytorch
from profiler.backends.base import BackendError, Fact, FallbackError, Model, Placement
from profiler.backends.inputs import Inputs
from profiler.backends.pytorch import Placed
from profiler.backends.stages import stage
from profiler.backends.torch_trace import first_line, scripted_within, traced, watching
from profiler.backends.torch_tree import evaluated, flat

if TYPE_CHECKING:
    import torch
    from torch import nn

OPSET = 20

#: The first version of the format whose weights are no inputs.
_FIRST_WITHOUT = 4

GRAPH, WEIGHTS, FACTS = "model.onnx", "weights.bin", "facts.json"
#: What products are called, see ``profiler.backends.onnx_layers.product_names``.
NAMES = "names.json"

# Said by torch.onnx.export(dynamo=False) and by functions that it calls; nothing else is silenced.
_EXPORTER_SAYS = (
    "You are using the legacy TorchScript-based ONNX export",
    "The feature will be removed. Please remove usage of this function",
    "no signature found for",
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
    """Write the module of ``model`` as ONNX for exactly the shapes of ``inputs``, and beside it facts of the export.

    torch has two exporters. The one that is based on torch.export gets what the one that is based on TorchScript
    refuses, and the facts say so.
    """
    import onnx
    import torch

    from profiler.backends.onnx_layers import product_names

    if model.module is None:
        raise BackendError("the model has neither a module nor an ONNX file: give one of them")
    module = flat(pytorch.cast(evaluated(model.module()), placement), inputs)
    placed = Placed(inputs, replace(placement, device="cpu", memory_format="contiguous"))
    given = tuple(placed.by_name.values()), list(placed.by_name)
    took: dict[str, Fact] = {}
    with torch.no_grad(), _unfused(), stage("export", took):
        try:
            facts = _by_tracing(module, *given, folder)
        except _RefusalError as refused:
            facts = _by_torch_export(module, *given, folder, refused)
    (folder / FACTS).write_text(json.dumps(facts | took), encoding="utf-8")
    names = product_names(onnx.load(folder / GRAPH, load_external_data=False).graph, brought=False)
    (folder / NAMES).write_text(json.dumps(names), encoding="utf-8")


def _by_tracing(
    module: nn.Module, tensors: tuple[torch.Tensor, ...], names: list[str], folder: Path
) -> dict[str, Fact]:
    import torch

    with warnings.catch_warnings(), watching(module, tensors) as fixed, _refusal():
        for words in _EXPORTER_SAYS:
            warnings.filterwarnings("ignore", message=words)
        torch.onnx.export(
            traced(module, tensors) if scripted_within(module) else module,
            tensors,
            str(folder / GRAPH),  # as str: only then are weights over 2 GB written beside it
            dynamo=False,
            opset_version=OPSET,
            input_names=names,
        )
    return {"exporter": "TorchScript", "trace_note": fixed.note or None}


def _by_torch_export(
    module: nn.Module, tensors: tuple[torch.Tensor, ...], names: list[str], folder: Path, refused: _RefusalError
) -> dict[str, Fact]:
    import torch

    try:
        with warnings.catch_warnings(), _refusal():
            warnings.simplefilter("ignore")  # it speaks to its own developers
            torch.onnx.export(
                module, tensors, str(folder / GRAPH), dynamo=True, opset_version=OPSET, input_names=names, verbose=False
            )
    except _RefusalError as also:
        install = "pip install onnxscript, or " if "onnxscript" in str(also) else ""
        raise BackendError(
            f"torch cannot export the model to ONNX opset {OPSET} (by TorchScript: {refused}; by torch.export: {also}):"
            f" {install}use torchscript or eager"
        ) from also
    note = f"exported by torch.export, since torch's exporter by TorchScript refuses the model ({refused})"
    return {"exporter": "torch.export", "export_note": note}


def without_listed_weights(source: Path, folder: Path) -> Path:
    """Return ``source``, or a copy in ``folder`` where it is of before IR 4, when files listed weights as inputs too.

    onnxruntime takes those for constants, but leaves them among the inputs of the optimised file once they are folded.
    """
    import onnx

    try:
        version = onnx.load(source, load_external_data=False).ir_version
    except Exception:  # noqa: BLE001 - no exception of onnx's own: onnxruntime says what is wrong with the file
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


class _RefusalError(Exception):
    """An exporter's own words, in one line."""


@contextmanager
def _refusal() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise _RefusalError(_first_cause(error)) from error


def _first_cause(error: BaseException) -> str:
    """Return the first line of what an exporter's error comes from; the error itself only says that there is one."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


@contextmanager
def _unfused() -> Iterator[None]:
    """Keep fused attention, for which ONNX has no operator, out of the trace."""
    import torch

    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
