"""From a torch module to an ONNX file, and what a graph and a session say of it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.backends import pytorch
from profiler.backends.base import BackendError, Fact, FallbackError, Model, Placement

if TYPE_CHECKING:
    from torch import nn

    from profiler.backends.base import Array


OPSET = 20

GRAPH, WEIGHTS = "model.onnx", "weights.bin"

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


def export(model: Model, example: Array, placement: Placement, folder: Path) -> None:
    """Write the module of ``model`` as ONNX for exactly the shape of ``example``."""
    import torch

    if model.module is None:
        raise BackendError("the model has neither a module nor an ONNX file: give one of them")
    module: nn.Module = model.module().eval().to(dtype=pytorch.dtype(placement))
    x = torch.tensor(example, dtype=pytorch.dtype(placement))
    with torch.no_grad(), warnings.catch_warnings(), _exportable():
        for words in _EXPORTER_DEPRECATED:
            warnings.filterwarnings("ignore", message=words, category=DeprecationWarning)
        torch.onnx.export(
            module,
            (x,),
            str(folder / GRAPH),  # as str: only then are weights over 2 GB written beside it
            dynamo=False,
            opset_version=OPSET,
            input_names=["input"],
            output_names=["output"],
        )


@contextmanager
def _exportable() -> Iterator[None]:
    from torch.onnx import OnnxExporterError

    try:
        yield
    except OnnxExporterError as error:
        said = str(error).strip().splitlines()[0].rstrip(".")
        raise BackendError(
            f"torch cannot export the model to ONNX opset {OPSET} ({said}): use torchscript or eager"
        ) from error
