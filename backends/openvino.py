"""OpenVINO on the CPU: one request, its inputs bound once.

Its own default for fp32 is what the processor is fastest in, which may be bf16: here the precision is always said, and
the nodes of the compiled model are asked what they compute in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from profiler.backends import cache, devices
from profiler.backends.base import BackendError, Bounds, Fact, FallbackError, LayerTrace, Model, Placement
from profiler.backends.inputs import Inputs
from profiler.backends.int8 import INT8_ALLOWED, weight_bits
from profiler.backends.openvino_int8 import int8_layers, nncf_missing
from profiler.backends.openvino_layers import Counters, counters_of, traced_nodes
from profiler.backends.openvino_model import FACTS, GRAPH, computing_layers, convert, nodes_by_precision, read, refusal
from profiler.backends.stages import stage

if TYPE_CHECKING:
    from profiler.backends.inputs import Array

_WARM = 3  # forwards before those whose nodes are timed

#: What OpenVINO calls a precision among a device's capabilities, and as a type.
_PRECISIONS = {"fp32": ("FP32", "f32"), "fp16": ("FP16", "f16"), "bf16": ("BF16", "bf16")}


class RequestSession:
    """A compiled model with one request, whose inputs are bound once."""

    def __init__(self, compiled: Any, inputs: Inputs, facts: Mapping[str, Fact]) -> None:
        import numpy as np
        import openvino

        self._facts = facts
        self._request: Any = compiled.create_infer_request()
        self._count = len(compiled.outputs)
        self._inputs: dict[str, Array] = {}
        for port in compiled.inputs:
            name = port.get_any_name()
            kind = port.get_element_type().to_dtype()
            self._inputs[name] = np.asarray(inputs.arrays[name], kind, order="C")
            self._request.set_tensor(port, openvino.Tensor(self._inputs[name], shared_memory=True))
        self._ran = False

    def run(self) -> None:
        """Run one forward; returns when it is done."""
        if self._request is None:
            raise BackendError("the session is closed: load the model again")
        with refusal("openvino cannot run the model with these inputs", "give others, see --shape and --input"):
            self._request.infer()
        self._ran = True

    def counted(self) -> Counters:
        """Run one forward of a model that was compiled with counters; return what these say."""
        self.run()
        return counters_of(self._request)

    def sync(self) -> None:
        """Nothing is left to wait for."""

    def outputs(self) -> tuple[Array, ...]:
        """Return copies of the outputs of the last run, floats as fp32."""
        import numpy as np

        if self._request is None or not self._ran:
            raise BackendError("there is no output: call run() in an open session first")
        found = [self._request.get_output_tensor(i).data for i in range(self._count)]
        return tuple(np.array(one, dtype=np.float32 if one.dtype.kind == "f" else one.dtype) for one in found)

    def inputs(self) -> Mapping[str, Array]:
        """Return the inputs as they are now, floats as fp32."""
        return {name: array.copy() for name, array in self._inputs.items()}

    def facts(self) -> Mapping[str, Fact]:
        """Return version, threads, streams and nodes by precision as read back."""
        return self._facts

    def close(self) -> None:
        """Let go of the model and its inputs."""
        self._request, self._inputs = None, {}


@dataclass(frozen=True, slots=True)
class OpenVino:
    """OpenVINO; the fields are options.

    Attributes:
        hint: What it is tuned for: ``latency`` of one request, or ``throughput`` of several at once.
        streams: Requests that it serves at once, among which its threads are divided; 0 leaves it to the hint. A
            forward is one request all the same.
        pin: Pin its threads to cores. Off, because the reference runs on the same cores between the samples.
        quantize: int8 by nncf, with ranges found on the given inputs (``static``).
        tolerance: How far outputs may be from eager's, relative to the largest; 0 is the precision's own, and for int8
            0.3.
    """

    hint: Literal["latency", "throughput"] = "latency"
    streams: Annotated[int, Bounds(0, 1024)] = 0
    pin: bool = False
    quantize: Literal["none", "static"] = "none"
    tolerance: Annotated[float, Bounds(0)] = 0.0

    name: ClassVar[str] = "openvino"
    exports: ClassVar[bool] = True

    def unavailable(self, placement: Placement) -> str | None:
        """Return why ``placement`` cannot be served here, with the remedy, or None when it can."""
        if find_spec("openvino") is None:
            return "openvino is not installed: pip install 'latency-profiler[openvino]'"
        reason = devices.malformed(placement)
        if reason is None and placement.device_type != "cpu":
            return f"openvino runs on the CPU here, not on {placement.device!r}: use --device cpu"
        if reason is None and self.quantize != "none":
            reason = nncf_missing() or (
                None
                if placement.precision == "fp32"
                else f"quantize={self.quantize} begins with fp32: use precision fp32"
            )
        return reason or devices.unavailable(placement.device) or _unsupported(placement)

    @property
    def allowed(self) -> float | None:
        """How far outputs may be from eager's; None for what the precision allows."""
        return self.tolerance or (INT8_ALLOWED if self.quantize != "none" else None)

    @contextmanager
    def load(self, model: Model, inputs: Inputs, placement: Placement) -> Iterator[RequestSession]:
        """Load ``model`` with ``inputs``, to compute in the precision of ``placement``.

        An ONNX file is read as it is. A torch module is converted once and kept, and so is what is quantised.
        """
        compiled, facts = self._compiled(model, inputs, placement)
        opened = RequestSession(compiled, inputs, facts | self._facts(compiled, placement))
        del compiled  # or closing the session would free nothing
        with closing(opened):
            yield opened

    def layer_times(self, model: Model, inputs: Inputs, placement: Placement, calls: int) -> LayerTrace:
        """Return the times of the nodes by OpenVINO's counters, in a request of its own."""
        compiled, _ = self._compiled(model, inputs, placement, {"PERF_COUNT": True})
        with closing(RequestSession(compiled, inputs, {})) as opened:
            forwards = [opened.counted() for _ in range(_WARM + calls)][_WARM:]
        return traced_nodes(compiled, forwards, brought=model.onnx is not None)

    def _compiled(
        self, model: Model, inputs: Inputs, placement: Placement, more: Mapping[str, Any] | None = None
    ) -> tuple[Any, dict[str, Fact]]:
        facts: dict[str, Fact]
        if model.onnx is not None and self.quantize == "none":
            graph, facts = read(model.onnx, inputs), {"cached": False, "cache_note": None}
        else:
            graph, facts = self._converted(model, inputs)
        properties = self._properties(placement) | dict(more or {})
        with stage("compile", facts), refusal("openvino cannot compile the model", "use onnxruntime or eager"):
            return _core().compile_model(graph, "CPU", properties), facts

    def _converted(self, model: Model, inputs: Inputs) -> tuple[Any, dict[str, Fact]]:
        build = partial(convert, model, inputs, int8=self.quantize != "none")
        with cache.entry(model.cache, self._key(model, inputs), build) as entry:
            graph = read(entry.folder / GRAPH, inputs)
            size = entry.size
            told = json.loads((entry.folder / FACTS).read_text(encoding="utf-8"))
        return graph, {"cached": entry.cached, "cache_note": entry.note, "model_bytes": size} | told

    def _int8_key(self) -> dict[str, str]:
        return {"quantize": self.quantize, "nncf": metadata.version("nncf"), "weights": f"{weight_bits()} bits"}

    def _key(self, model: Model, inputs: Inputs) -> str | None:
        if model.key is None:
            return None
        quantised = {} if self.quantize == "none" else self._int8_key()
        return cache.content_name(
            form=("openvino", FACTS),
            model=model.key,
            inputs=inputs.signature,
            torch=metadata.version("torch"),
            runtime=metadata.version("openvino"),
            **quantised,
        )

    def _properties(self, placement: Placement) -> dict[str, Any]:
        import openvino

        chosen = {
            "PERFORMANCE_HINT": self.hint.upper(),
            "INFERENCE_PRECISION_HINT": getattr(openvino.Type, _PRECISIONS[placement.precision][1]),
            "INFERENCE_NUM_THREADS": placement.threads,
            "ENABLE_CPU_PINNING": self.pin,
        }
        return chosen | ({"NUM_STREAMS": self.streams} if self.streams else {})

    def _facts(self, compiled: Any, placement: Placement) -> dict[str, Fact]:
        """Read back what the compiled model really uses; BackendError where that is not what was asked."""
        import openvino

        threads, streams = (int(compiled.get_property(name)) for name in ("INFERENCE_NUM_THREADS", "NUM_STREAMS"))
        if threads != placement.threads or self.streams not in (0, streams):
            raise BackendError(
                f"openvino runs {threads} threads in {streams} streams where {placement.threads} in "
                f"{self.streams or 'as many as it likes'} were asked: use fewer streams than threads, and no more "
                "threads than cores"
            )
        layers = computing_layers(compiled)
        nodes = nodes_by_precision(layers)
        _check_precision(nodes, placement)
        if self.quantize != "none":
            nodes |= int8_layers(layers)
        return {
            "openvino": openvino.__version__.partition("-")[0],
            "device": placement.device,
            "device_name": str(_core().get_property("CPU", "FULL_DEVICE_NAME")),
            "provider": " ".join(compiled.get_property("EXECUTION_DEVICES")),
            "threads": threads,
            "streams": streams,
            "hint": str(compiled.get_property("PERFORMANCE_HINT")).rpartition(".")[2].lower(),
            "pinned": bool(compiled.get_property("ENABLE_CPU_PINNING")),
            "requests": int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")),
        } | nodes


def _check_precision(nodes: Mapping[str, Fact], placement: Placement) -> None:
    """Raise FallbackError where nodes compute in less than fp32 that was asked, or none in the half that was."""
    asked = f"nodes_{_PRECISIONS[placement.precision][1]}"
    half = sorted(nodes.keys() & {"nodes_bf16", "nodes_f16"})
    if placement.precision == "fp32" and half:
        raise FallbackError(f"openvino computes {' and '.join(half)} where fp32 was asked: install another openvino")
    if placement.precision != "fp32" and asked not in nodes:
        raise FallbackError(
            f"openvino computes nothing in {placement.precision}, which was asked, but in fp32: use precision fp32"
        )


def _core() -> Any:
    import openvino

    return openvino.Core()


def _unsupported(placement: Placement) -> str | None:
    if placement.memory_format != "contiguous":
        return "openvino chooses its own layout: use memory_format contiguous"
    able = [str(one) for one in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")]
    if _PRECISIONS[placement.precision][0] not in able:
        return (
            f"openvino has no {placement.precision} kernels for this processor and would compute in fp32 (it has "
            f"{', '.join(able)}): use precision fp32"
        )
    return None
