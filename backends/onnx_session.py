"""One session of ONNX Runtime: opened on one provider alone, its input and output bound once."""

from __future__ import annotations

import ctypes
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.backends import accelerator
from profiler.backends.base import BackendError, Fact, FallbackError, Placement
from profiler.backends.inputs import Inputs, shape_text
from profiler.backends.onnx_layout import as_given, as_taken

if TYPE_CHECKING:
    import torch

    from profiler.backends.inputs import Array

_NUMPY_TYPES = {"float": "float32", "double": "float64"}
_PRECISIONS = {"float": ("fp32", "tf32"), "float16": ("fp16",), "bfloat16": ("bf16",)}

#: Which graph of a session a run captures or replays: 0 is onnxruntime's own, and -1 none.
_CAPTURED, _NOT_CAPTURED = ("gpu_graph_id", "1"), ("gpu_graph_id", "-1")
_NO_GRAPH, _LEAVE = "onnxruntime cannot capture the model as a CUDA graph", "leave cuda_graph out"


def open_session(path: Path, options: Any, provider: str, provider_options: Mapping[str, str]) -> Any:
    """Open ``path`` on ``provider`` alone; FallbackError where onnxruntime would quietly take another one."""
    import onnxruntime as ort

    if provider not in ort.get_available_providers():
        raise FallbackError(f"this onnxruntime has no {provider}: install the one for the device")
    try:
        session = ort.InferenceSession(
            str(path), options, providers=[(provider, dict(provider_options))], enable_fallback=0
        )
    except Exception as error:
        if lost := library_lost(provider):
            raise FallbackError(
                f"onnxruntime's {provider} cannot be loaded ({lost}): install that library, in the version that this "
                "onnxruntime was built for"
            ) from error
        raise
    if session.get_providers()[0] != provider:
        raise FallbackError(f"onnxruntime took {session.get_providers()[0]} instead of {provider}: check its libraries")
    return session


def library_lost(provider: str) -> str | None:
    """Return which library that ``provider`` needs is not here; onnxruntime only logs it, and goes on with the CPU."""
    import onnxruntime as ort

    name = provider.removesuffix("ExecutionProvider").lower()
    file = Path(ort.__file__).parent / "capi" / f"libonnxruntime_providers_{name}.so"
    if not file.is_file():
        return None
    import torch  # noqa: F401 - it loads the libraries of CUDA that it was installed with

    try:
        ctypes.CDLL(str(file))
    except OSError as error:
        return str(error) if "cannot open shared object file" in str(error) else None
    return None


#: Around each node of a nested graph, and where in onnxruntime's sources an error was raised.
_NODE = re.compile(r".*while running (\w+) node\. Name:'([^']*)' Status Message: ")
_WHERE = re.compile(r"\S*onnxruntime_src\S+:\d+ .*?\) (?:const )?|\[ONNXRuntimeError\] : \d+ : \w+ : ")


def innermost(text: str) -> str:
    """Return what onnxruntime says of the innermost node, without where in its sources that was raised."""
    first = text.strip().splitlines()[0].rstrip(".")
    return _WHERE.sub("", _NODE.sub(r"\1 node \2: ", first))


@contextmanager
def one_sentence(what: str, advice: str = "check the file with onnx.checker") -> Iterator[None]:
    """Turn onnxruntime's exceptions, which share no base class, into the contract's."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = tuple(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))
    kinds: tuple[type[Exception], ...] = (*own, RuntimeError)
    try:
        yield
    except kinds as error:
        said = innermost(str(error))
        if "cannot use the" in said and "graph" in said.casefold():  # some node is elsewhere, or decides what runs next
            raise BackendError(f"{what} as a CUDA graph ({said}): leave cuda_graph out") from error
        if "fallback to CPU EP has been explicitly disabled" in said:
            raise FallbackError(f"{what} on the device alone ({said}): use --device cpu, with no provider") from error
        raise BackendError(f"{what} ({said}): {advice}") from error


class OrtSession:
    """An ONNX Runtime session with its input and output bound.

    ``stream`` is torch's stream in which it was told to work; the provider's own word, among the ``facts``, says
    whether it does. ``cold`` flushes the device's cache before each forward that its events time. With ``graph`` the
    session has been told to capture a CUDA graph, which ``capture`` then does.
    """

    def __init__(
        self,
        session: Any,
        inputs: Inputs,
        placement: Placement,
        facts: Mapping[str, Fact],
        stream: torch.Stream | None = None,
        *,
        cold: bool = False,
        graph: bool = False,
    ) -> None:
        import onnxruntime as ort

        self._facts = dict(facts)
        self._stream = stream if facts.get("provider_has_user_compute_stream") == "1" else None
        self._cold, self._graph = cold, graph
        self._session: Any = session
        self._options = ort.RunOptions()
        # Submitting and waiting are apart, as in torch: run() does not wait for a GPU, sync() does.
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        if graph:
            self._options.add_run_config_entry(*_CAPTURED)
        self._binding = session.io_binding()
        place = placement.device_type, placement.device_index
        wanted = session.get_inputs()
        taken = _matching(wanted, as_taken([value.name for value in wanted], inputs.arrays), placement)
        self._on_host = taken
        self._inputs = {name: ort.OrtValue.ortvalue_from_numpy(array, *place) for name, array in taken.items()}
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        self._names = [output.name for output in session.get_outputs()]
        self._outputs = self._bind_outputs(placement)
        self._binding.synchronize_inputs()  # the upload was not in the stream that reads it
        self._ran = False

    def _bind_outputs(self, placement: Placement) -> list[Any]:
        """Allocate every output once and bind it; only a run tells shapes that the file does not, or tells wrong."""
        import onnxruntime as ort

        place, once = (placement.device_type, placement.device_index), ort.RunOptions()
        if self._graph:  # a graph holds addresses, and the outputs of this run are not those of the later ones
            once.add_run_config_entry(*_NOT_CAPTURED)
        for name in self._names:
            self._binding.bind_output(name, *place)
        self._session.run_with_iobinding(self._binding, once)
        made = self._binding.get_outputs()
        if not all(value.is_tensor() for value in made):
            if self._graph:
                raise BackendError(
                    f"{_NO_GRAPH} (its outputs are not all tensors, and each run makes new ones): {_LEAVE}"
                )
            return list(made)  # sequences and maps cannot be allocated beforehand: each run makes its own
        values = [ort.OrtValue.ortvalue_from_shape_and_type(one.shape(), one.element_type(), *place) for one in made]
        self._binding.clear_binding_outputs()
        for name, value in zip(self._names, values, strict=True):
            self._binding.bind_ortvalue_output(name, value)
        return values

    def capture(self) -> None:
        """Capture the forward, where the session was told to; BackendError where that cannot be.

        Inputs and outputs are where they will stay, and a first run has allocated what a forward needs.
        """
        if self._graph:
            with one_sentence(_NO_GRAPH, _LEAVE):
                self._session.run_with_iobinding(self._binding, self._options)
                self.sync()

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
        device = self._stream.device
        before = accelerator.flusher(device).run if self._cold else None
        told = accelerator.device_times(self.run, device, calls, before, stream=self._stream)
        self._facts["device_queued"] = told.queued
        return told.ns

    def upload(self) -> None:
        """Copy the inputs from the host over those on the device."""
        for name, value in self._inputs.items():
            value.update_inplace(self._on_host[name])

    def download(self) -> None:
        """Copy the outputs of the last run that are tensors to the host."""
        for value in self._binding.get_outputs():
            if value.is_tensor():
                value.numpy()

    def outputs(self) -> tuple[Array, ...]:
        """Return the outputs of the last run that are tensors, on the host, floats as fp32."""
        if self._session is None or not self._ran:
            raise BackendError("there is no output: call run() in an open session first")
        self.sync()
        made = zip(self._names, self._binding.get_outputs(), strict=True)
        return tuple(as_given(name, _fetched(value)) for name, value in made if value.is_tensor())

    def facts(self) -> Mapping[str, Fact]:
        """Return versions, provider, threads and nodes by provider as read back."""
        return self._facts

    def close(self) -> None:
        """Let go of session, inputs and outputs."""
        self._session = self._binding = None
        self._inputs, self._outputs, self._on_host = {}, [], {}


def _fetched(value: Any) -> Array:
    import numpy as np

    array = value.numpy()
    return np.array(array, dtype=np.float32 if array.dtype.kind == "f" else array.dtype)


def _matching(wanted: Sequence[Any], given: Mapping[str, Array], placement: Placement) -> dict[str, Array]:
    """Return what was given in the types of the inputs; BackendError where one is missing or does not fit.

    An export leaves out an input that the model does not use.
    """
    import numpy as np

    if missing := [value.name for value in wanted if value.name not in given]:
        raise BackendError(
            f"the model takes {', '.join(value.name for value in wanted)}, and {', '.join(missing)} was not given: "
            f"what was given is {', '.join(given) or 'nothing'}"
        )
    for value in wanted:
        _check(value, given[value.name], placement)
    # np.ascontiguousarray would make an axis of none.
    return {value.name: np.asarray(given[value.name], _numpy_type(value.type), order="C") for value in wanted}


def _check(value: Any, array: Array, placement: Placement) -> None:
    element = _element(value.type)
    if array.dtype.kind == "c":
        raise BackendError(f"the input {value.name!r} is complex, and ONNX Runtime has no such numbers: use eager")
    needed = _PRECISIONS.get(element, ())
    fits = element == "double" or placement.precision in needed or _in_fp32(element, placement)
    if array.dtype.kind == "f" and not fits:
        raise BackendError(
            f"the input {value.name!r} is {value.type} and precision {placement.precision} was asked:"
            f" use {f'precision {needed[0]}' if needed else 'a model with float input'}"
        )
    # It says the same of a scalar and of a rank that is not known.
    if value.shape and (len(value.shape) != array.ndim or any(map(_unlike, value.shape, array.shape))):
        raise BackendError(
            f"the input {value.name!r} has shape {shape_text(tuple(value.shape))} and {shape_text(array.shape)} was "
            "given: choose batch and shape to fit"
        )


def _unlike(size: object, given: int) -> bool:
    return isinstance(size, int) and size != given


def _in_fp32(element: str, placement: Placement) -> bool:
    """Whether a file in half precision is computed in fp32, as was asked."""
    return element == "float16" and placement.precision == "fp32" and without_kernels("fp16", placement)


def half_note(wanted: Sequence[Any], placement: Placement) -> str | None:
    """Say that a file in half precision is not computed so; None where it is."""
    half = any(_in_fp32(_element(value.type), placement) for value in wanted)
    said = "the file is in fp16, and onnxruntime computes it in fp32 between casts: it has no fp16 kernels for x86"
    return said if half else None


def _element(kind: str) -> str:
    """Return ``float`` for ``tensor(float)``."""
    return kind.removeprefix("tensor(").removesuffix(")")


def without_kernels(precision: str | None, placement: Placement) -> bool:
    """Whether onnxruntime would compute in fp32 what is in ``precision``, silently."""
    return placement.device_type == "cpu" and precision == "fp16" and platform.machine() in ("x86_64", "AMD64")


def _numpy_type(kind: str) -> str:
    element = _element(kind)
    return _NUMPY_TYPES.get(element, element)


def most_in_use(events: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the largest ``mem_in_use_peak`` of a profile's events, in bytes; None where none has it."""
    told = [event["args"] for event in events if "mem_in_use_peak" in event.get("args", ())]
    return max((int(arguments["mem_in_use_peak"]) for arguments in told), default=None)
