"""The whole contract between the profiler and a runtime.

A backend knows how to load one model for one placement and to run it. It never reads a clock, never
writes a result and never does something other than what was asked: what it cannot do it says, in one
sentence with a remedy, through ``Backend.unavailable``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from profiler.backends.inputs import Inputs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from profiler.backends.inputs import Array

Precision = Literal["fp32", "tf32", "fp16", "bf16"]
MemoryFormat = Literal["contiguous", "channels_last"]
Fact = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """The least and the most that an option may be, as in ``Annotated[float, Bounds(0)]`` on a field of a backend."""

    least: float = -math.inf
    most: float = math.inf

    def __str__(self) -> str:
        """The bounds as people say them."""
        return f"from {self.least:g}" + (f" to {self.most:g}" if self.most < math.inf else "")


class BackendError(Exception):
    """A backend could not do what it said it could; the message is one sentence for the user."""


class FallbackError(BackendError):
    """Part of the model ran somewhere else than asked (for example on the CPU instead of CUDA)."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how a model runs.

    Attributes:
        device: ``cpu``, ``cuda``, ``cuda:N``, ``xpu`` or ``mps``.
        precision: Type of weights, activations and input. ``tf32`` is fp32 as runtimes compute it on NVIDIA GPUs where
            nobody forbids it: torch rounds what convolutions multiply to TF32, ONNX Runtime what products multiply too.
        threads: Intra-op threads on the host; at least 1. Inter-op parallelism is always 1.
        memory_format: Layout of the input and the weights, where the backend has the choice.
    """

    device: str = "cpu"
    precision: Precision = "fp32"
    threads: int = 1
    memory_format: MemoryFormat = "contiguous"

    @property
    def device_type(self) -> str:
        """The device without its index: ``cuda:1`` is of type ``cuda``."""
        return self.device.partition(":")[0]

    @property
    def device_index(self) -> int:
        """The index of the device: 1 for ``cuda:1``, 0 where it has none."""
        return int(self.device.partition(":")[2] or 0)


@dataclass(frozen=True, slots=True)
class Model:
    """A network as a backend receives it.

    Attributes:
        key: Digest of its content: code, weights, and the values of its inputs; equal keys mean equal outputs, so
            compiled and exported forms may be cached under it. None when it is not known: then nothing is cached.
        module: Returns the torch module in evaluation mode on the CPU, always with the same weights and each time
            another copy, which the caller may change. Call it only when needed: it may take a second.
        onnx: The ONNX file, for a model that was brought as one; only ONNX runtimes can load it.
        cache: Folder for exported and compiled forms, or None to keep nothing.
    """

    key: str | None
    module: Callable[[], nn.Module] | None
    onnx: Path | None = None
    cache: Path | None = None


@runtime_checkable
class Session(Protocol):
    """A loaded model with its inputs already resident on the device."""

    def run(self) -> None:
        """Submit one forward pass. May return before the device has finished."""

    def sync(self) -> None:
        """Block until everything submitted has finished. A no-op on synchronous devices."""

    def outputs(self) -> tuple[Array, ...]:
        """Return the outputs of the last ``run`` on the host, in the order of a walk through them.

        Floats are fp32; complex numbers, which few runtimes have, are pairs of them along a last axis.
        """

    def facts(self) -> Mapping[str, Fact]:
        """Return what really ran: versions, provider, threads as read back, effective flags."""


@runtime_checkable
class InputHolder(Protocol):
    """A session that can read back its inputs: the model may have changed them."""

    def inputs(self) -> Mapping[str, Array]:
        """Return the inputs as they are now, on the host, floats as fp32, by name."""


@runtime_checkable
class DeviceTimed(Protocol):
    """A session whose device keeps its own time."""

    def device_ns(self, calls: int) -> tuple[int, ...]:
        """Return the time of single forwards on the device by its events, in ns; empty where it has none."""


@runtime_checkable
class PartsTimed(Protocol):
    """A ``TrainingSession`` whose device keeps its own time of the parts of a step, between which nobody waits."""

    def device_parts_ns(self, calls: int) -> Mapping[str, tuple[int, ...]]:
        """Return the time of each part on the device over ``calls`` steps, in ns; empty where it has no events."""


@runtime_checkable
class Transferring(Protocol):
    """A session on a device with memory of its own, which can copy its inputs there and its outputs back again."""

    def upload(self) -> None:
        """Copy the inputs from pageable memory of the host over those on the device; may return before it is done."""

    def download(self) -> None:
        """Copy the outputs of the last ``run`` to pageable memory of the host, in the types that they have."""


class Backend(Protocol):
    """One runtime.

    One that can load no model that was brought as an ONNX file says so with ``reads_onnx = False``; one that keeps in
    ``Model.cache`` what takes long to make, and may be asked for it before anything is timed, with ``exports = True``,
    and how many seconds more than a visit it may then take, with ``ahead_s``.
    """

    @property
    def name(self) -> str:
        """The name without options."""

    def unavailable(self, placement: Placement) -> str | None:
        """Return why ``placement`` cannot be served here, with the remedy, or None when it can."""

    def load(self, model: Model, inputs: Inputs, placement: Placement) -> AbstractContextManager[Session]:
        """Load ``model`` with ``inputs``; their floats, and no other type, take the precision of ``placement``.

        Leaving the context frees everything. Raises ``BackendError`` with one sentence.
        """


class TrainingSession(Protocol):
    """A model in training mode with one batch and its labels resident on the device."""

    @property
    def parts(self) -> Mapping[str, Callable[[], None]]:
        """The parts of one step by name, in their order; each submits its part and may return before it is done."""

    def run(self) -> None:
        """Submit one whole step: every part once, in order."""

    def sync(self) -> None:
        """Block until everything submitted has finished."""

    def feed(self, images: Tensor, labels: Tensor) -> None:
        """Train on another batch from now on.

        Args:
            images: fp32 on the host, shape (batch, channels, height, width).
            labels: int64 on the host, shape (batch,).
        """

    def loss(self) -> float:
        """Return the loss of the last step; what is not finite says that the step computed nonsense."""

    def facts(self) -> Mapping[str, Fact]:
        """Return what really ran, as ``Session.facts``, with ``optimizer`` and ``classes``."""


@runtime_checkable
class Trainer(Protocol):
    """What a ``Backend`` has too when it can train."""

    def untrainable(self, placement: Placement) -> str | None:
        """Return why an available ``placement`` cannot be trained on, with the remedy, or None when it can."""

    def train(self, model: Model, inputs: Inputs, placement: Placement) -> AbstractContextManager[TrainingSession]:
        """Load ``model`` in training mode; the arguments are those of ``Backend.load``.

        Weights stay fp32: another precision means automatic mixed precision.
        """


@runtime_checkable
class Arena(Protocol):
    """What a ``Backend`` has too when its runtime keeps count of its own allocator."""

    def arena_peak(self, model: Model, inputs: Inputs, placement: Placement) -> int | None:
        """Return the most bytes in use at once in the runtime's allocator over one forward, in a session of its own.

        None where the runtime does not tell.
        """


@dataclass(frozen=True, slots=True)
class LayerTime:
    """What a runtime tells of one of its layers, over several forwards.

    Attributes:
        name: The module or node as a user knows it.
        operator: What it does, as the runtime calls it; with the domain before ``::`` where it is no standard one.
        ns: Its time in each forward, in ns; of all its turns, where it runs several times.
        moved_bytes: What goes in and comes out, weights among it, in bytes; None where the runtime does not tell.
        weights: Learned numbers among what goes in; None where the runtime does not tell.
        given: Shapes of what goes in; empty where the runtime does not tell.
        made: Shapes of what comes out.
        attributes: What else the operator is told, by name.
    """

    name: str
    operator: str
    ns: tuple[float, ...]
    moved_bytes: int | None = None
    weights: int | None = None
    given: tuple[tuple[int, ...], ...] = ()
    made: tuple[tuple[int, ...], ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LayerTrace:
    """Several forwards, layer by layer.

    Attributes:
        layers: Those that ran.
        forward_ns: Of each whole forward as it was traced, in ns; empty where the runtime does not tell.
    """

    layers: tuple[LayerTime, ...]
    forward_ns: tuple[float, ...]


@runtime_checkable
class LayerTimed(Protocol):
    """What a ``Backend`` has too when its runtime keeps time by layer."""

    def layer_times(self, model: Model, inputs: Inputs, placement: Placement, calls: int) -> LayerTrace:
        """Return the times of the layers over ``calls`` forwards, in a session of its own; ``BackendError`` if not."""


#: Runs one operator in place of the runtime: gets the name of the module that is open, and how to run it as torch
#: hands it over (operator, arguments, arguments by keyword); returns what the operator returns.
Around = Callable[[str, Any, tuple[Any, ...], dict[str, Any]], Any]


@runtime_checkable
class OperatorWise(Protocol):
    """What a ``Backend`` has too when it runs torch's operators one after another, each of which can be watched."""

    def watched(
        self, model: Model, inputs: Inputs, placement: Placement
    ) -> AbstractContextManager[Callable[[Around], None]]:
        """Give what runs one forward with an ``Around`` in place of each operator, and waits until it is done."""
