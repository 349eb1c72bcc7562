"""ONNX Runtime, on the CPU or on CUDA, never on both.

What is timed is always a session over preallocated input and output, bound once. The graph is exported with
opset 20 by torch's TorchScript exporter: on EfficientNet-B0 it takes 1 s and is silent, where the newer
exporter takes 8 s and prints, and both give graphs of equal output and speed. On the CPU the *optimised*
graph is what is kept and opened, its weights in a mapped file beside it: opening takes 7 to 25 ms where
optimising takes up to 2 s, it runs as fast, and no limit of 2 GB applies.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from profiler.backends import cache, devices, onnx_cuda, onnx_providers
from profiler.backends.base import BackendError, Bounds, Fact, LayerTrace, Model, Placement
from profiler.backends.inputs import Inputs
from profiler.backends.int8 import INT8_ALLOWED, weight_bits
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
from profiler.backends.onnx_installed import PROVIDERS, distribution, not_installed, unsupported
from profiler.backends.onnx_layout import with_channels_last
from profiler.backends.onnx_providers import ProviderName
from profiler.backends.onnx_quantize import Quantized, int8_nodes, quantize
from profiler.backends.onnx_session import (
    OrtSession,
    half_note,
    most_in_use,
    one_sentence,
    open_session,
)
from profiler.backends.stages import stage

if TYPE_CHECKING:
    import torch


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
        provider: The execution provider; ``default`` is that of the device. No node may run on another.
        execution: Nodes one after another, or those that do not depend on each other at once, on as many threads again.
        quantize: int8: ``dynamic``, or ``static`` with ranges found on the given inputs.
        tolerance: How far outputs may be from eager's, relative to the largest; 0 is the precision's own, and for int8
            0.3.
        mem_pattern: Plan the memory of a forward ahead, as shapes never change.
        arena: Keep freed memory of the CPU for the next forward.
        spin: Let idle threads spin. Off, because a second pool runs between the samples in the same process,
            and two spinning pools double the latency of both.
        tf32: On CUDA, let fp32 convolutions and matrix products use TF32, as precision tf32 does. Off: fp32 means fp32.
        cudnn_benchmark: On CUDA, let cuDNN try all algorithms instead of choosing by heuristic.
        cuda_graph: On CUDA, capture the forward once and replay it: what a network costs without launches.
        cold: Flush the device's L2 cache before each forward that the device itself times, as ``eager:cold=1`` does.
    """

    graph: Literal["all", "extended", "basic", "none"] = "all"
    provider: ProviderName = "default"
    execution: Literal["sequential", "parallel"] = "sequential"
    spin: bool = False
    quantize: Quantized = "none"
    tolerance: Annotated[float, Bounds(0)] = 0.0
    mem_pattern: bool = True
    arena: bool = True
    tf32: bool = False
    cudnn_benchmark: bool = False
    cuda_graph: bool = False
    cold: bool = False

    name: ClassVar[str] = "onnxruntime"
    exports: ClassVar[bool] = True

    def unavailable(self, placement: Placement) -> str | None:
        """Return why ``placement`` cannot be served here, with the remedy, or None when it can."""
        reason = not_installed(placement) or devices.malformed(placement)
        if reason is None and self.provider != "default":
            reason = onnx_providers.provider_missing(self.provider, placement)
        how = {"cuda_graph": self.cuda_graph, "cold": self.cold, "tf32": self.tf32}
        reason = reason or onnx_cuda.without_meaning(placement, self.provider, **how)
        if reason is None and self.quantize != "none" and not self._optimised(placement):
            reason = f"quantize={self.quantize} is for the CPU's own provider: use --device cpu, with no provider"
        return reason or unsupported(placement)

    @property
    def allowed(self) -> float | None:
        """How far outputs may be from eager's; None for what the precision allows."""
        return self.tolerance or (INT8_ALLOWED if self.quantize != "none" else None)

    def _optimised(self, placement: Placement) -> bool:
        """Whether the optimised graph is what is kept."""
        return placement.device_type == "cpu" and self.provider == "default"

    @contextmanager
    def load(self, model: Model, inputs: Inputs, placement: Placement) -> Iterator[OrtSession]:
        """Load ``model`` with ``inputs``; their floats take the precision of ``placement``.

        A model that was brought as ONNX runs as it is. Raises BackendError when it does not take ``inputs``,
        FallbackError when a node is not on the provider asked for.
        """
        with onnx_cuda.shared_stream(placement) as stream:
            with (
                self._prepared(model, inputs, placement) as prepared,
                one_sentence(f"onnxruntime cannot load {model.onnx or 'the exported model'}"),
            ):
                session = self._open(prepared.path, prepared.level, placement, stream)
            facts = self._facts(session, placement)
            facts |= nodes_by_provider(session, self._provider(placement))
            facts |= {"cached": prepared.cached, "cache_note": prepared.note}
            facts |= {"kernel_note": half_note(session.get_inputs(), placement)}
            facts |= {"opset": OPSET if model.onnx is None else None} | prepared.exported
            with one_sentence(
                "onnxruntime cannot run the model with these inputs", "give others, see --shape and --input"
            ):
                opened = OrtSession(session, inputs, placement, facts, stream, cold=self.cold, graph=self.cuda_graph)
            del session  # or closing the session would free nothing
            with closing(opened):
                opened.capture()
                yield opened

    def arena_peak(self, model: Model, inputs: Inputs, placement: Placement) -> int | None:
        """Return the most bytes in use at once in the arena over one forward, from a profile of its nodes.

        Weights that are mapped from a file, as on the CPU, are not in the arena. None where the profile says nothing.
        """
        with self._prepared(model, inputs, placement) as prepared:
            return most_in_use(self._profile(prepared, inputs, placement, 1))

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
            told = self._provider_options(placement)
            told.pop(onnx_cuda.GRAPH, None)  # a replayed graph has no nodes
            session = open_session(prepared.path, options, self._provider(placement), told)
            with closing(OrtSession(session, inputs, placement, {})) as opened:
                for _ in range(calls):
                    opened.run()
                    opened.sync()
                events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
                return events

    @contextmanager
    def _prepared(self, model: Model, inputs: Inputs, placement: Placement) -> Iterator[_Prepared]:
        """Give the file to open and how far it still has to be optimised."""
        on_cpu, last = self._optimised(placement), placement.memory_format == "channels_last"
        if model.onnx is not None and not (on_cpu or last):
            yield _Prepared(model.onnx, self.graph, cached=False, note=None)
            return

        def build(folder: Path) -> None:
            if model.onnx is not None and last:
                with_channels_last(model.onnx, folder)
                _note(folder, {})
            elif model.onnx is not None:
                with tempfile.TemporaryDirectory(prefix="latency-profiler-") as scratch:
                    whole = without_listed_weights(model.onnx, Path(scratch))
                    self._optimise(self._quantised(whole, Path(scratch), inputs), folder, placement)
            elif on_cpu or last:
                with cache.entry(None, None, lambda scratch: export(model, inputs, placement, scratch)) as exported:
                    if last:
                        with_channels_last(exported.folder / GRAPH, folder)
                    else:
                        graph = self._quantised(exported.folder / GRAPH, exported.folder, inputs)
                        self._optimise(graph, folder, placement)
                    _note(folder, json.loads((exported.folder / FACTS).read_text(encoding="utf-8")))
                    shutil.copyfile(exported.folder / NAMES, folder / NAMES)
            else:
                export(model, inputs, placement, folder)

        with cache.entry(model.cache, self._key(model, inputs, placement), build) as entry:
            level = "none" if on_cpu else self.graph
            told = json.loads((entry.folder / FACTS).read_text(encoding="utf-8")) | {"model_bytes": entry.size}
            yield _Prepared(entry.folder / GRAPH, level, entry.cached, entry.note, told)

    def _key(self, model: Model, inputs: Inputs, placement: Placement) -> str | None:
        if model.key is None:
            return None
        return cache.content_name(
            form="onnx",
            model=model.key,
            inputs=inputs.signature if model.onnx is None or self.quantize == "static" else None,
            **({"weights": f"{weight_bits()} bits"} if self.quantize != "none" else {}),
            placement=asdict(placement),
            options=asdict(self),
            exporter=(FACTS, NAMES, OPSET, metadata.version("torch")) if model.onnx is None else (FACTS,),
            runtime=metadata.version(distribution()),
            processor=cache.processor(),
        )

    def _quantised(self, source: Path, scratch: Path, inputs: Inputs) -> Path:
        if self.quantize == "none":
            return source
        target = scratch / "int8.onnx"
        quantize(source, target, self.quantize, inputs.arrays)
        return target

    def _optimise(self, source: Path, folder: Path, placement: Placement) -> None:
        options = self._options(placement, self.graph)
        options.optimized_model_filepath = str(folder / GRAPH)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", WEIGHTS)
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        took: dict[str, Fact] = {}
        with stage("compile", took), one_sentence(f"onnxruntime cannot load {source.name}"):
            open_session(source, options, PROVIDERS["cpu"], {})
        _note(folder, took | int8_nodes(folder / GRAPH))

    def _open(self, path: Path, level: str, placement: Placement, stream: torch.Stream | None) -> Any:
        options = self._options(placement, level)
        return open_session(path, options, self._provider(placement), self._provider_options(placement, stream))

    def _provider(self, placement: Placement) -> str:
        return PROVIDERS[placement.device_type] if self.provider == "default" else onnx_providers.called(self.provider)

    def _inter_op(self, placement: Placement) -> int:
        return placement.threads if self.execution == "parallel" else 1

    def _options(self, placement: Placement, level: str) -> Any:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = placement.threads
        options.inter_op_num_threads = self._inter_op(placement)
        options.execution_mode = getattr(ort.ExecutionMode, f"ORT_{self.execution.upper()}")
        options.enable_mem_pattern, options.enable_cpu_mem_arena = self.mem_pattern, self.arena
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[level])
        options.log_severity_level = _SILENT
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(self.spin)))
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if placement.device_type != "cpu" or self.provider != "default":
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        return options

    def _provider_options(self, placement: Placement, stream: torch.Stream | None = None) -> dict[str, str]:
        """Return the provider's options by its own names; ``stream`` is where it shall work and copy."""
        shared = {} if placement.device_type == "cpu" else onnx_cuda.stream_options(stream)
        if self.provider != "default":
            return shared | onnx_providers.options_of(self.provider, placement)
        if placement.device_type == "cpu":
            return {}
        copies = {"do_copy_in_default_stream": "1"} if shared else {}
        how = {"cudnn_benchmark": self.cudnn_benchmark, "cuda_graph": self.cuda_graph}
        return shared | copies | onnx_cuda.cuda_options(placement, tf32=self._in_tf32(placement), **how)

    def _in_tf32(self, placement: Placement) -> bool:
        return self.tf32 or placement.precision == "tf32"

    def _facts(self, session: Any, placement: Placement) -> dict[str, Fact]:
        """Read back what the session really uses; BackendError where that is not what was asked."""
        import onnxruntime as ort

        options, inter_op = session.get_session_options(), self._inter_op(placement)
        if options.intra_op_num_threads != placement.threads or options.inter_op_num_threads != inter_op:
            raise BackendError(
                f"onnxruntime runs {options.intra_op_num_threads} intra-op and"
                f" {options.inter_op_num_threads} inter-op threads where {placement.threads} and {inter_op} were"
                " asked: install another onnxruntime"
            )
        provider = session.get_providers()[0]
        told = session.get_provider_options()[provider]
        # An address differs from process to process; that a stream was given is told by has_user_compute_stream.
        effective = {f"provider_{key}": value for key, value in told.items() if key != "user_compute_stream"}
        return {
            "onnxruntime": ort.__version__,
            "distribution": distribution(),
            "provider": provider,
            "device": placement.device,
            "threads": options.intra_op_num_threads,
            "inter_op_threads": options.inter_op_num_threads,
            "spin": options.get_session_config_entry("session.intra_op.allow_spinning") == "1",
            "graph": self.graph,
            "execution": "parallel" if options.execution_mode == ort.ExecutionMode.ORT_PARALLEL else "sequential",
            "mem_pattern": options.enable_mem_pattern,
            "arena": options.enable_cpu_mem_arena,
            "input_type": next((value.type for value in session.get_inputs()), None),
        } | (effective | self._device_facts(placement))

    def _device_facts(self, placement: Placement) -> dict[str, Fact]:
        how = {"cuda_graph": self.cuda_graph, "cold": self.cold}
        return onnx_cuda.device_facts(placement, tf32=self._in_tf32(placement), **how)


@dataclass(frozen=True, slots=True)
class _Prepared:
    path: Path
    level: str
    cached: bool
    note: str | None
    exported: dict[str, Fact] = field(default_factory=dict)


def _note(folder: Path, facts: Mapping[str, Fact]) -> None:
    """Add ``facts`` to those that are kept with a form."""
    file = folder / FACTS
    earlier = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.write_text(json.dumps(earlier | dict(facts)), encoding="utf-8")
