"""ONNX Runtime, on the CPU or on CUDA, never on both.

What is timed is always a session over preallocated input and output, bound once. The graph is exported with
opset 20 by torch's TorchScript exporter: on EfficientNet-B0 it takes 1 s and is silent, where the newer
exporter takes 8 s and prints, and both give graphs of equal output and speed. On the CPU the *optimised*
graph is what is kept and opened, its weights in a mapped file beside it: opening takes 7 to 25 ms where
optimising takes up to 2 s, it runs as fast, and no limit of 2 GB applies.
"""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from profiler.backends import accelerator, cache, devices
from profiler.backends.base import BackendError, Fact, FallbackError, Model, Placement
from profiler.backends.onnx_graph import GRAPH, OPSET, WEIGHTS, export, most_in_use, nodes_by_provider, processor

if TYPE_CHECKING:
    import torch

    from profiler.backends.base import Array


PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}

_SILENT = 4  # every error is also an exception
_NUMPY_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
}
_PRECISIONS = {"tensor(float)": "fp32", "tensor(float16)": "fp16"}


@dataclass(frozen=True, slots=True)
class OnnxRuntime:
    """ONNX Runtime; the fields are options.

    Attributes:
        graph: Graph optimisations: none, basic, extended (fusions) or all (layout too).
        spin: Let idle threads spin. Off, because a second pool runs between the samples in the same process,
            and two spinning pools double the latency of both.
        tf32: On CUDA, let fp32 convolutions and matrix products use TF32. Off: fp32 means fp32.
        cudnn_benchmark: On CUDA, let cuDNN try all algorithms instead of choosing by heuristic.
    """

    graph: Literal["all", "extended", "basic", "none"] = "all"
    spin: bool = False
    tf32: bool = False
    cudnn_benchmark: bool = False

    name: ClassVar[str] = "onnxruntime"

    def unavailable(self, placement: Placement) -> str | None:
        """Return why ``placement`` cannot be served here, with the remedy, or None when it can."""
        return _not_installed(placement) or devices.malformed(placement) or _unsupported(placement)

    @contextmanager
    def load(self, model: Model, example: Array, placement: Placement) -> Iterator[OrtSession]:
        """Load ``model`` for input like ``example`` (fp32, host, shape (batch, channels, height, width)).

        A model that was brought as ONNX runs as it is. Raises BackendError when it does not take ``example``,
        FallbackError when a node is not on the provider asked for.
        """
        with _stream(placement) as stream:
            with (
                self._prepared(model, example, placement) as prepared,
                _one_sentence(f"onnxruntime cannot load {model.onnx or 'the exported model'}"),
            ):
                session = self._open(prepared.path, prepared.level, placement, stream)
            facts = self._facts(session, placement)
            facts |= nodes_by_provider(session, PROVIDERS[placement.device_type])
            facts |= {"cached": prepared.cached, "cache_note": prepared.note}
            facts |= {"opset": OPSET if model.onnx is None else None}
            with _one_sentence("onnxruntime cannot bind input and output"):
                opened = OrtSession(session, example, placement, facts, stream)
            del session  # or closing the session would free nothing
            with closing(opened):
                yield opened

    def arena_peak(self, model: Model, example: Array, placement: Placement) -> int | None:
        """Return the most bytes in use at once in the arena over one forward, from a profile of its nodes.

        Weights that are mapped from a file, as on the CPU, are not in the arena. None where the profile says nothing.
        """
        with (
            tempfile.TemporaryDirectory(prefix="latency-profiler-") as folder,
            self._prepared(model, example, placement) as prepared,
            _one_sentence("onnxruntime cannot profile the model"),
        ):
            options = self._options(placement, prepared.level)
            options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
            provider = PROVIDERS[placement.device_type]
            session = _session(prepared.path, options, provider, self._provider_options(placement))
            with closing(OrtSession(session, example, placement, {})) as opened:
                opened.run()
                opened.sync()
                return most_in_use(json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")))

    @contextmanager
    def _prepared(self, model: Model, example: Array, placement: Placement) -> Iterator[_Prepared]:
        """Give the file to open and how far it still has to be optimised."""
        on_cpu = placement.device_type == "cpu"
        if model.onnx is not None and not on_cpu:
            yield _Prepared(model.onnx, self.graph, cached=False, note=None)
            return

        def build(folder: Path) -> None:
            if model.onnx is not None:
                self._optimise(model.onnx, folder, placement)
            elif on_cpu:
                with cache.entry(None, None, lambda scratch: export(model, example, placement, scratch)) as exported:
                    self._optimise(exported.folder / GRAPH, folder, placement)
            else:
                export(model, example, placement, folder)

        with cache.entry(model.cache, self._key(model, example, placement), build) as entry:
            level = "none" if on_cpu else self.graph
            yield _Prepared(entry.folder / GRAPH, level, entry.cached, entry.note)

    def _key(self, model: Model, example: Array, placement: Placement) -> str | None:
        if model.key is None:
            return None
        optimised = (
            (self.graph, metadata.version(_distribution()), processor()) if placement.device_type == "cpu" else ()
        )
        return cache.key(
            form="onnx",
            model=model.key,
            shape=example.shape if model.onnx is None else (),
            precision=placement.precision,
            exporter=(OPSET, metadata.version("torch")) if model.onnx is None else (),
            optimised=optimised,
        )

    def _optimise(self, source: Path, folder: Path, placement: Placement) -> None:
        options = self._options(placement, self.graph)
        options.optimized_model_filepath = str(folder / GRAPH)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", WEIGHTS)
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        with _one_sentence(f"onnxruntime cannot load {source.name}"):
            _session(source, options, PROVIDERS["cpu"], {})

    def _open(self, path: Path, level: str, placement: Placement, stream: torch.Stream | None) -> Any:
        options = self._options(placement, level)
        return _session(path, options, PROVIDERS[placement.device_type], self._provider_options(placement, stream))

    def _options(self, placement: Placement, level: str) -> Any:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = placement.threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, LEVELS[level])
        options.log_severity_level = _SILENT
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(self.spin)))
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if placement.device_type != "cpu":
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        return options

    def _provider_options(self, placement: Placement, stream: torch.Stream | None = None) -> dict[str, str]:
        """Return the provider's options by its own names; ``stream`` is where it shall work and copy."""
        if placement.device_type == "cpu":
            return {}
        address = getattr(stream, "cuda_stream", 0)
        shared = {"user_compute_stream": str(address), "do_copy_in_default_stream": "1"} if address else {}
        return shared | {
            "device_id": str(_index(placement)),
            "cudnn_conv_algo_search": "EXHAUSTIVE" if self.cudnn_benchmark else "HEURISTIC",
            "use_tf32": str(int(self.tf32)),
            "prefer_nhwc": str(int(placement.memory_format == "channels_last")),
        }

    def _facts(self, session: Any, placement: Placement) -> dict[str, Fact]:
        """Read back what the session really uses; BackendError where that is not what was asked."""
        import onnxruntime as ort

        options = session.get_session_options()
        if options.intra_op_num_threads != placement.threads or options.inter_op_num_threads != 1:
            raise BackendError(
                f"onnxruntime runs {options.intra_op_num_threads} intra-op and"
                f" {options.inter_op_num_threads} inter-op threads where {placement.threads} and 1 were"
                " asked: install another onnxruntime"
            )
        provider = session.get_providers()[0]
        told = session.get_provider_options()[provider]
        # An address differs from process to process; that a stream was given is told by has_user_compute_stream.
        effective = {f"provider_{key}": value for key, value in told.items() if key != "user_compute_stream"}
        return {
            "onnxruntime": ort.__version__,
            "distribution": _distribution(),
            "provider": provider,
            "device": placement.device,
            "threads": options.intra_op_num_threads,
            "inter_op_threads": options.inter_op_num_threads,
            "spin": options.get_session_config_entry("session.intra_op.allow_spinning") == "1",
            "graph": self.graph,
            "input_type": session.get_inputs()[0].type,
        } | effective


class OrtSession:
    """An ONNX Runtime session with its input and output bound.

    ``stream`` is torch's stream in which it was told to work; the provider's own word, among the ``facts``, says
    whether it does.
    """

    def __init__(
        self,
        session: Any,
        example: Array,
        placement: Placement,
        facts: Mapping[str, Fact],
        stream: torch.Stream | None = None,
    ) -> None:
        import onnxruntime as ort

        self._facts = facts
        self._stream = stream if facts.get("provider_has_user_compute_stream") == "1" else None
        self._session: Any = session
        self._options = ort.RunOptions()
        # Submitting and waiting are apart, as in torch: run() does not wait for a GPU, sync() does.
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._binding = session.io_binding()
        taken = _matching_input(session.get_inputs(), example, placement)
        self._input = ort.OrtValue.ortvalue_from_numpy(taken, placement.device_type, _index(placement))
        self._binding.bind_ortvalue_input(session.get_inputs()[0].name, self._input)
        self._outputs = self._bind_outputs(placement)
        self._binding.synchronize_inputs()  # the upload was not in the stream that reads it
        self._ran = False

    def _bind_outputs(self, placement: Placement) -> list[Any]:
        """Allocate every output once and bind it."""
        import onnxruntime as ort

        outputs = self._session.get_outputs()
        fixed = [_fixed_shape(output) for output in outputs]
        shaped = self._shapes_of_a_run(placement) if None in fixed else filter(None, fixed)
        place = placement.device_type, _index(placement)
        values = [ort.OrtValue.ortvalue_from_shape_and_type(shape, kind, *place) for shape, kind in shaped]
        for output, value in zip(outputs, values, strict=True):
            self._binding.bind_ortvalue_output(output.name, value)
        return values

    def _shapes_of_a_run(self, placement: Placement) -> list[tuple[list[int], int]]:
        """Only a run tells the output shapes of a graph with dynamic dimensions."""
        for output in self._session.get_outputs():
            self._binding.bind_output(output.name, placement.device_type, _index(placement))
        self._session.run_with_iobinding(self._binding)
        shaped = [(value.shape(), value.element_type()) for value in self._binding.get_outputs()]
        self._binding.clear_binding_outputs()
        return shaped

    def run(self) -> None:
        """Submit one forward pass."""
        if self._session is None:
            raise BackendError("the session is closed: load the model again")
        self._session.run_with_iobinding(self._binding, self._options)
        self._ran = True

    def sync(self) -> None:
        """Block until the device has finished."""
        if self._session is not None:
            self._binding.synchronize_outputs()

    def device_ns(self, calls: int) -> tuple[int, ...]:
        """Return the time of ``calls`` forwards by events in the stream shared with torch, in ns; empty without one."""
        if self._stream is None:
            return ()
        return accelerator.device_ns(self.run, self._stream.device, calls, stream=self._stream)

    def output(self) -> Array:
        """Return the first output of the last run as fp32 on the host, shape (batch, classes)."""
        import numpy as np

        if self._session is None or not self._ran:
            raise BackendError("there is no output: call run() in an open session first")
        self.sync()
        return np.array(self._outputs[0].numpy(), dtype=np.float32)

    def facts(self) -> Mapping[str, Fact]:
        """Return versions, provider, threads and nodes by provider as read back."""
        return self._facts

    def close(self) -> None:
        """Let go of session, input and outputs."""
        self._session = self._binding = self._input = None
        self._outputs = []


@dataclass(frozen=True, slots=True)
class _Prepared:
    path: Path
    level: str
    cached: bool
    note: str | None


def _not_installed(placement: Placement) -> str | None:
    both = [name for name in ("onnxruntime", "onnxruntime-gpu") if _installed(name)]
    if len(both) == 2:
        return (
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: pip uninstall"
            " both, then pip install 'latency-profiler[cpu]' or 'latency-profiler[gpu]'"
        )
    if find_spec("onnxruntime") is None:
        return f"onnxruntime is not installed: pip install 'latency-profiler[{_extra(placement)}]'"
    return None


def _unsupported(placement: Placement) -> str | None:
    import onnxruntime as ort

    kind = placement.device_type
    if kind not in PROVIDERS:
        return f"onnxruntime runs on {' and '.join(PROVIDERS)}, not on {placement.device!r}: use one of them"
    if placement.precision == "bf16":
        return f"ONNX opset {OPSET} has no bf16 convolution: use precision fp32, or fp16 on a GPU"
    if kind == "cpu" and placement.precision == "fp16" and platform.machine() in ("x86_64", "AMD64"):
        return "onnxruntime has no fp16 kernels for x86 and would compute in fp32: use precision fp32"
    if kind == "cpu" and placement.memory_format != "contiguous":
        return "onnxruntime chooses its own layout on the CPU (blocks of channels): use memory_format contiguous"
    if PROVIDERS[kind] not in ort.get_available_providers():
        return (
            f"{_distribution()} {ort.__version__} has no {PROVIDERS[kind]}: pip uninstall"
            f" {_distribution()}, then pip install 'latency-profiler[{_extra(placement)}]'"
        )
    return devices.unavailable(placement.device)


def _extra(placement: Placement) -> str:
    return "gpu" if placement.device_type == "cuda" else "cpu"


def _installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _distribution() -> str:
    return "onnxruntime-gpu" if _installed("onnxruntime-gpu") else "onnxruntime"


def _stream(placement: Placement) -> AbstractContextManager[torch.Stream | None]:
    """Make torch and the session use one stream, so that torch's events time the forward; none on the CPU."""
    if placement.device_type == "cpu":
        return nullcontext()
    import torch

    return accelerator.own_stream(torch.device(placement.device_type, _index(placement)))


def _index(placement: Placement) -> int:
    return int(placement.device.partition(":")[2] or 0)


def _session(path: Path, options: Any, provider: str, provider_options: Mapping[str, str]) -> Any:
    """Open ``path`` on ``provider`` alone; FallbackError where onnxruntime would quietly take another one."""
    import onnxruntime as ort

    if provider not in ort.get_available_providers():
        raise FallbackError(f"this onnxruntime has no {provider}: install the one for the device")
    session = ort.InferenceSession(
        str(path), options, providers=[(provider, dict(provider_options))], enable_fallback=0
    )
    if session.get_providers()[0] != provider:
        raise FallbackError(f"onnxruntime took {session.get_providers()[0]} instead of {provider}: check its libraries")
    return session


@contextmanager
def _one_sentence(what: str) -> Iterator[None]:
    """Turn onnxruntime's exceptions, which share no base class, into the contract's."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = tuple(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))
    try:
        yield
    except kinds as error:
        said = str(error).strip().splitlines()[0].rstrip(".")
        if "fallback to CPU EP has been explicitly disabled" in said:
            raise FallbackError(f"{what} on the device alone ({said}): use --device cpu") from error
        raise BackendError(f"{what} ({said}): check the file with onnx.checker") from error


def _matching_input(inputs: Sequence[Any], example: Array, placement: Placement) -> Array:
    """Return ``example`` in the type of the only input; BackendError where shape or type do not fit."""
    import numpy as np

    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise BackendError(f"the model has {len(inputs)} inputs ({names}): only models with one image input can run")
    only = inputs[0]
    precision = _PRECISIONS.get(only.type)
    if precision != placement.precision:
        raise BackendError(
            f"the input {only.name!r} is {only.type} and precision {placement.precision} was asked:"
            f" use {f'precision {precision}' if precision else 'a model with float input'}"
        )
    if len(only.shape) != example.ndim or any(
        isinstance(size, int) and size != given for size, given in zip(only.shape, example.shape, strict=True)
    ):
        raise BackendError(
            f"the input {only.name!r} has shape {_shape(only.shape)} and {_shape(example.shape)} was given:"
            " choose batch and resolution to fit"
        )
    return np.ascontiguousarray(example, dtype=_NUMPY_TYPES[only.type])


def _fixed_shape(output: Any) -> Any | None:
    """Return shape and numpy type where the graph fixes both."""
    import numpy as np

    fixed = all(isinstance(size, int) for size in output.shape) and output.type in _NUMPY_TYPES
    return (output.shape, np.dtype(_NUMPY_TYPES[output.type]).type) if fixed else None


def _shape(sizes: Sequence[object]) -> str:
    return "x".join(str(size) for size in sizes)
