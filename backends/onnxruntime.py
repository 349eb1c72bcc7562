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
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from profiler.backends import accelerator, cache, devices
from profiler.backends.base import BackendError, Fact, LayerTrace, Model, Placement
from profiler.backends.inputs import Inputs
from profiler.backends.onnx_graph import (
    FACTS,
    GRAPH,
    NAMES,
    OPSET,
    WEIGHTS,
    export,
    nodes_by_provider,
    without_listed_weights,
)
from profiler.backends.onnx_session import OrtSession, one_sentence, open_session, without_kernels

if TYPE_CHECKING:
    import torch


_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}

_SILENT = 4  # every error is also an exception
_WARM = 3  # forwards before those whose nodes are timed


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
    exports: ClassVar[bool] = True

    def unavailable(self, placement: Placement) -> str | None:
        """Return why ``placement`` cannot be served here, with the remedy, or None when it can."""
        return _not_installed(placement) or devices.malformed(placement) or _unsupported(placement)

    @contextmanager
    def load(self, model: Model, inputs: Inputs, placement: Placement) -> Iterator[OrtSession]:
        """Load ``model`` with ``inputs``; their floats take the precision of ``placement``.

        A model that was brought as ONNX runs as it is. Raises BackendError when it does not take ``inputs``,
        FallbackError when a node is not on the provider asked for.
        """
        with _stream(placement) as stream:
            with (
                self._prepared(model, inputs, placement) as prepared,
                one_sentence(f"onnxruntime cannot load {model.onnx or 'the exported model'}"),
            ):
                session = self._open(prepared.path, prepared.level, placement, stream)
            facts = self._facts(session, placement)
            facts |= nodes_by_provider(session, _PROVIDERS[placement.device_type])
            facts |= {"cached": prepared.cached, "cache_note": prepared.note}
            facts |= {"opset": OPSET if model.onnx is None else None} | prepared.exported
            with one_sentence(
                "onnxruntime cannot run the model with these inputs", "give others, see --shape and --input"
            ):
                opened = OrtSession(session, inputs, placement, facts, stream)
            del session  # or closing the session would free nothing
            with closing(opened):
                yield opened

    def arena_peak(self, model: Model, inputs: Inputs, placement: Placement) -> int | None:
        """Return the most bytes in use at once in the arena over one forward, from a profile of its nodes.

        Weights that are mapped from a file, as on the CPU, are not in the arena. None where the profile says nothing.
        """
        with self._prepared(model, inputs, placement) as prepared:
            return _most_in_use(self._profile(prepared, inputs, placement, 1))

    def layer_times(self, model: Model, inputs: Inputs, placement: Placement, calls: int) -> LayerTrace:
        """Return the times of the nodes over ``calls`` forwards, from a profile; BackendError on a GPU.

        There the profile holds the time of launching a node, and not that of running it.
        """
        import onnx

        from profiler.backends.onnx_layers import product_names, traced_layers

        if placement.device_type != "cpu":
            raise BackendError(
                f"onnxruntime tells no times of layers on {placement.device}: use --device cpu, or --backend eager"
            )
        with self._prepared(model, inputs, placement) as prepared:
            events = self._profile(prepared, inputs, placement, _WARM + calls)
            if model.onnx is None:
                names = json.loads(prepared.path.with_name(NAMES).read_text(encoding="utf-8"))
            else:
                names = product_names(onnx.load(model.onnx, load_external_data=False).graph, brought=True)
            return traced_layers(events, prepared.path, calls, brought=model.onnx is not None, products=names)

    def _profile(self, prepared: _Prepared, inputs: Inputs, placement: Placement, calls: int) -> list[dict[str, Any]]:
        """Return the events of a profile of ``calls`` forwards, in a session of its own."""
        with (
            tempfile.TemporaryDirectory(prefix="latency-profiler-") as folder,
            one_sentence("onnxruntime cannot profile the model"),
        ):
            options = self._options(placement, prepared.level)
            options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
            provider = _PROVIDERS[placement.device_type]
            session = open_session(prepared.path, options, provider, self._provider_options(placement))
            with closing(OrtSession(session, inputs, placement, {})) as opened:
                for _ in range(calls):
                    opened.run()
                    opened.sync()
                events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
                return events

    @contextmanager
    def _prepared(self, model: Model, inputs: Inputs, placement: Placement) -> Iterator[_Prepared]:
        """Give the file to open and how far it still has to be optimised."""
        on_cpu = placement.device_type == "cpu"
        if model.onnx is not None and not on_cpu:
            yield _Prepared(model.onnx, self.graph, cached=False, note=None)
            return

        def build(folder: Path) -> None:
            if model.onnx is not None:
                with tempfile.TemporaryDirectory(prefix="latency-profiler-") as scratch:
                    self._optimise(without_listed_weights(model.onnx, Path(scratch)), folder, placement)
            elif on_cpu:
                with cache.entry(None, None, lambda scratch: export(model, inputs, placement, scratch)) as exported:
                    self._optimise(exported.folder / GRAPH, folder, placement)
                    for name in (FACTS, NAMES):
                        shutil.copyfile(exported.folder / name, folder / name)
            else:
                export(model, inputs, placement, folder)

        with cache.entry(model.cache, self._key(model, inputs, placement), build) as entry:
            level = "none" if on_cpu else self.graph
            told = json.loads((entry.folder / FACTS).read_text(encoding="utf-8")) if model.onnx is None else {}
            yield _Prepared(entry.folder / GRAPH, level, entry.cached, entry.note, told)

    def _key(self, model: Model, inputs: Inputs, placement: Placement) -> str | None:
        if model.key is None:
            return None
        return cache.content_name(
            form="onnx",
            model=model.key,
            inputs=inputs.signature if model.onnx is None else None,
            placement=asdict(placement),
            options=asdict(self),
            exporter=(FACTS, NAMES, OPSET, metadata.version("torch")) if model.onnx is None else (),
            runtime=metadata.version(_distribution()),
            processor=_processor(),
        )

    def _optimise(self, source: Path, folder: Path, placement: Placement) -> None:
        options = self._options(placement, self.graph)
        options.optimized_model_filepath = str(folder / GRAPH)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", WEIGHTS)
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        with one_sentence(f"onnxruntime cannot load {source.name}"):
            open_session(source, options, _PROVIDERS["cpu"], {})

    def _open(self, path: Path, level: str, placement: Placement, stream: torch.Stream | None) -> Any:
        options = self._options(placement, level)
        return open_session(path, options, _PROVIDERS[placement.device_type], self._provider_options(placement, stream))

    def _options(self, placement: Placement, level: str) -> Any:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = placement.threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[level])
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
            "device_id": str(placement.device_index),
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


@dataclass(frozen=True, slots=True)
class _Prepared:
    path: Path
    level: str
    cached: bool
    note: str | None
    exported: dict[str, Fact] = field(default_factory=dict)


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
    if kind not in _PROVIDERS:
        return f"onnxruntime runs on {' and '.join(_PROVIDERS)}, not on {placement.device!r}: use one of them"
    if placement.precision == "bf16":
        return f"ONNX opset {OPSET} has no bf16 convolution: use precision fp32, or fp16 on a GPU"
    if without_kernels(placement.precision, placement):
        return (
            "onnxruntime has no fp16 kernels for x86 and would compute in fp32: use precision fp32, or for an ONNX file"
            " in fp16 a GPU (--device cuda)"
        )
    if kind == "cpu" and placement.memory_format != "contiguous":
        return "onnxruntime chooses its own layout on the CPU (blocks of channels): use memory_format contiguous"
    if _PROVIDERS[kind] not in ort.get_available_providers():
        return (
            f"{_distribution()} {ort.__version__} has no {_PROVIDERS[kind]}: pip uninstall"
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

    return accelerator.own_stream(torch.device(placement.device_type, placement.device_index))


def _most_in_use(events: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the largest ``mem_in_use_peak`` of a profile's events, in bytes; None where none has it."""
    told = [event["args"] for event in events if "mem_in_use_peak" in event.get("args", ())]
    return max((int(arguments["mem_in_use_peak"]) for arguments in told), default=None)


def _processor() -> str:
    """Return model and instruction sets of the processor: an optimised graph is laid out for them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ("model name", "flags", "CPU part", "Features")
    return "\n".join(line for line in lines if line.startswith(wanted)) or platform.machine()
