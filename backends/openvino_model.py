"""Models as OpenVINO has them: read from ONNX, or converted from a torch module by its own front end.

``openvino.convert_model`` is not called: it reports its use over the network unless the user has forbidden it, and
takes 4 s for a network that the front end beneath it converts in 0.4 s.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from profiler.backends import onnx_graph
from profiler.backends.base import BackendError, Fact, Model, Placement
from profiler.backends.inputs import Inputs, shape_text
from profiler.backends.openvino_int8 import quantised
from profiler.backends.pytorch import Placed
from profiler.backends.stages import stage
from profiler.backends.torch_trace import deprecation_silenced, traced, watching
from profiler.backends.torch_tree import evaluated, flat

if TYPE_CHECKING:
    import torch
    from torch import nn

    from profiler.backends.inputs import Array

GRAPH, FACTS = "model.xml", "facts.json"

#: Types of nodes that compute nothing in a forward.
_STILL = ("Const", "Input", "Output")


@contextmanager
def refusal(what: str, advice: str) -> Iterator[None]:
    """Turn OpenVINO's exceptions, which are RuntimeErrors of many lines, into the contract's one sentence."""
    try:
        yield
    except BackendError:
        raise
    except RuntimeError as error:
        raise BackendError(f"{what} ({own_words(error)}): {advice}") from error


def own_words(error: BaseException) -> str:
    """Return what an exception says, without where in OpenVINO's sources it was raised."""
    lines = [line.strip().rstrip(".:") for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("Exception from", "Check '", "While"))]
    return (said or lines or [type(error).__name__])[0][:200]


def convert(model: Model, inputs: Inputs, folder: Path, *, int8: bool = False) -> None:
    """Write ``model`` in OpenVINO's form for exactly the shapes of ``inputs``, in int8 if asked, and facts beside it.

    What OpenVINO cannot convert itself it reads from this program's ONNX export, and the facts say so.
    """
    import openvino

    facts: dict[str, Fact] = {}
    with stage("export", facts):
        graph = _converted(model, inputs, facts)
        if int8:
            graph = quantised(graph, inputs)
        openvino.save_model(graph, str(folder / GRAPH), compress_to_fp16=False)
    (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")


def _converted(model: Model, inputs: Inputs, facts: dict[str, Fact]) -> Any:
    if model.onnx is not None:
        return read(model.onnx, inputs)
    if model.module is None:
        raise BackendError("the model has neither a module nor an ONNX file: give one of them")
    module = flat(evaluated(model.module()), inputs)
    try:
        return _by_front_end(module, inputs, facts)
    except _RefusedError as refused:
        return _by_onnx(model, inputs, facts, str(refused))


class _RefusedError(Exception):
    """Why OpenVINO's own front end cannot convert a module."""


def _by_front_end(module: nn.Module, inputs: Inputs, facts: dict[str, Fact]) -> Any:
    import openvino
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    tensors = tuple(Placed(inputs, Placement()).by_name.values())
    try:
        with torch.no_grad(), deprecation_silenced(), watching(module, tensors) as fixed, deprecation_silenced():
            frozen = torch.jit.freeze(_traced(module, tensors))
            decoder = TorchScriptPythonDecoder(frozen, example_input=tensors)
        front_end = FrontEndManager().load_by_framework("pytorch")
        graph = front_end.convert(front_end.load(decoder))
        if len(graph.inputs) != len(tensors):
            raise _RefusedError("it leaves out inputs")
        for port, (name, array) in zip(graph.inputs, inputs.arrays.items(), strict=True):
            port.get_tensor().set_names({name})
            port.get_node().set_partial_shape(_shape(array))
            port.get_node().set_element_type(openvino.Type(array.dtype))
        graph.validate_nodes_and_infer_types()
        _check_supported(graph)
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise _RefusedError(own_words(error)) from error
    facts |= {"exporter": "OpenVINO", "trace_note": fixed.note or None}
    return graph


def _check_supported(graph: Any) -> None:
    """Raise _RefusedError where the CPU cannot run what the front end made."""
    import openvino

    names = openvino.Core().query_model(graph, "CPU")
    if unable := [op for op in graph.get_ops() if op.get_friendly_name() not in names]:
        raise _RefusedError(f"the CPU cannot run its {unable[0].get_type_name()}")


def _traced(module: nn.Module, tensors: tuple[torch.Tensor, ...]) -> Any:
    return traced(module, tensors).eval()


def _by_onnx(model: Model, inputs: Inputs, facts: dict[str, Fact], why: str) -> Any:
    import openvino

    with TemporaryDirectory(prefix="latency-profiler-") as scratch:
        onnx_graph.export(model, inputs, Placement(), Path(scratch))
        graph = openvino.Core().read_model(str(Path(scratch) / onnx_graph.GRAPH))
        facts |= json.loads((Path(scratch) / onnx_graph.FACTS).read_text(encoding="utf-8"))
        facts["export_note"] = (
            f"OpenVINO's own conversion refuses the model ({why}), so it reads this program's ONNX export"
        )
        return graph


def read(path: Path, inputs: Inputs) -> Any:
    """Read an ONNX file, or one of OpenVINO's, and give it the shapes of ``inputs``.

    Raises:
        BackendError: It cannot be read, or does not take them.
    """
    import openvino

    with refusal(f"openvino cannot read {path.name}", "check the file with onnx.checker"):
        graph = openvino.Core().read_model(str(path))
    arrays = inputs.arrays
    wanted = {port.get_any_name(): port for port in graph.inputs}
    if missing := [name for name in wanted if name not in arrays]:
        raise BackendError(
            f"the model takes {', '.join(wanted)}, and {', '.join(missing)} was not given: "
            f"what was given is {', '.join(arrays) or 'nothing'}"
        )
    for name, port in wanted.items():
        if not port.get_partial_shape().compatible(_shape(arrays[name])):
            raise BackendError(
                f"the input {name!r} has shape {port.get_partial_shape()} and {shape_text(arrays[name].shape)} was "
                "given: choose batch and shape to fit"
            )
    with refusal("openvino cannot give the model these shapes", "give others, see --shape and --input"):
        graph.reshape({name: _shape(arrays[name]) for name in wanted})
    return graph


def _shape(array: Array) -> Any:
    import openvino

    return openvino.PartialShape(list(array.shape))


def computing_layers(compiled: Any) -> list[tuple[str, str]]:
    """Return the kind of each layer that works in a forward, and the type that it computes in: f32, bf16, i8 ..."""
    told = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    found = [(text_of(info["layerType"]), text_of(info["runtimePrecision"])) for info in told]
    return [(kind, number) for kind, number in found if kind not in _STILL]


def nodes_by_precision(layers: Sequence[tuple[str, str]]) -> dict[str, Fact]:
    """Return ``nodes_<type>`` -> number of layers that compute in it, from ``computing_layers``."""
    kinds = Counter(number for _, number in layers)
    return {f"nodes_{kind}": count for kind, count in sorted(kinds.items())}


def text_of(value: Any) -> str:
    """Return what OpenVINO tells as text, which some versions wrap."""
    return str(getattr(value, "value", value))
