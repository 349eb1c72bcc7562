"""One session of ONNX Runtime: opened on one provider alone, its input and output bound once."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.backends import accelerator
from profiler.backends.base import BackendError, Fact, FallbackError, Placement

if TYPE_CHECKING:
    import torch

    from profiler.backends.base import Array

_NUMPY_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
}
_PRECISIONS = {"tensor(float)": "fp32", "tensor(float16)": "fp16"}


def open_session(path: Path, options: Any, provider: str, provider_options: Mapping[str, str]) -> Any:
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
def one_sentence(what: str) -> Iterator[None]:
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
        self._input = ort.OrtValue.ortvalue_from_numpy(taken, placement.device_type, placement.device_index)
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
        place = placement.device_type, placement.device_index
        values = [ort.OrtValue.ortvalue_from_shape_and_type(shape, kind, *place) for shape, kind in shaped]
        for output, value in zip(outputs, values, strict=True):
            self._binding.bind_ortvalue_output(output.name, value)
        return values

    def _shapes_of_a_run(self, placement: Placement) -> list[tuple[list[int], int]]:
        """Only a run tells the output shapes of a graph with dynamic dimensions."""
        for output in self._session.get_outputs():
            self._binding.bind_output(output.name, placement.device_type, placement.device_index)
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
            f" {_remedy(precision, placement)}"
        )
    if len(only.shape) != example.ndim or any(
        isinstance(size, int) and size != given for size, given in zip(only.shape, example.shape, strict=True)
    ):
        raise BackendError(
            f"the input {only.name!r} has shape {_shape(only.shape)} and {_shape(example.shape)} was given:"
            " choose batch and resolution to fit"
        )
    return np.ascontiguousarray(example, dtype=_NUMPY_TYPES[only.type])


def without_kernels(precision: str | None, placement: Placement) -> bool:
    """Whether onnxruntime would compute in fp32 what is in ``precision``, silently."""
    return placement.device_type == "cpu" and precision == "fp16" and platform.machine() in ("x86_64", "AMD64")


def _remedy(needed: str | None, placement: Placement) -> str:
    """What to do with a file whose input is in the precision ``needed``; None for no precision of ours."""
    if needed is None:
        return "use a model with float input"
    if without_kernels(needed, placement):
        return (
            f"use precision {needed} on a GPU (--device cuda), or a file in fp32: there are no {needed} kernels for x86"
        )
    return f"use precision {needed}"


def _fixed_shape(output: Any) -> Any | None:
    """Return shape and numpy type where the graph fixes both."""
    import numpy as np

    fixed = all(isinstance(size, int) for size in output.shape) and output.type in _NUMPY_TYPES
    return (output.shape, np.dtype(_NUMPY_TYPES[output.type]).type) if fixed else None


def _shape(sizes: Sequence[object]) -> str:
    return "x".join(str(size) for size in sizes)
