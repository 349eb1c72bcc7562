"""torch as it comes: one kernel after another, no compilation; or the same kernels replayed as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from profiler.backends import accelerator, pytorch, training
from profiler.backends.base import Around, BackendError, Bounds, Fact, Model, Placement
from profiler.backends.inputs import Inputs
from profiler.backends.int8 import INT8_ALLOWED
from profiler.backends.pytorch import Placed, TorchSession
from profiler.backends.torch_int8 import in_int8
from profiler.backends.training import TorchTraining

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, slots=True)
class Eager(pytorch.Flags):
    """Eager torch, for inference and training; the fields are options, see ``profiler.backends.pytorch.Flags``.

    Attributes:
        optimizer: What a training step ends with: SGD with momentum, or AdamW. Inference has none.
        cuda_graph: Capture the forward once and replay it: what a network costs without launches. Another thing
            than eager, so it stands in the backend's name and is never mixed with it.
        quantize: int8 for linear and recurrent layers, see ``profiler.backends.torch_int8``; on the CPU.
        tolerance: How far outputs may be from those of plain eager, relative to the largest; 0 is the precision's own,
            and for int8 0.3.
    """

    optimizer: training.OptimizerName = "sgd"
    cuda_graph: bool = False
    quantize: Literal["none", "dynamic"] = "none"
    tolerance: Annotated[float, Bounds(0)] = 0.0

    name: ClassVar[str] = "eager"
    reads_onnx: ClassVar[bool] = False

    def unavailable(self, placement: Placement) -> str | None:
        """Return why ``placement`` cannot be served here, with the remedy, or None when it can."""
        if self.cuda_graph and placement.device_type != "cuda":
            return f"cuda_graph=1 needs a CUDA device and the device is {placement.device!r}: leave the option out"
        if self.quantize != "none" and (placement.device_type, placement.precision) != ("cpu", "fp32"):
            return f"quantize={self.quantize} begins with fp32 on the CPU: use --device cpu --precision fp32"
        return self.refusal(placement) or pytorch.unservable(placement)

    @property
    def allowed(self) -> float | None:
        """How far outputs may be from plain eager's; None for what the precision allows."""
        return self.tolerance or (INT8_ALLOWED if self.quantize != "none" else None)

    @contextmanager
    def load(self, model: Model, inputs: Inputs, placement: Placement) -> Iterator[TorchSession]:
        """Load ``model`` with ``inputs``; their floats take the precision of ``placement``."""
        with pytorch.settings(placement, self):
            module, placed = pytorch.place(model, placement, self.name), Placed(inputs, placement)
            facts: dict[str, Fact] = {"cached": False, "cuda_graph": self.cuda_graph}
            if self.quantize != "none":
                module, told = in_int8(module)
                facts |= told
            call = _replayed(module, placed) if self.cuda_graph else module
            opened = TorchSession(call, placed, facts, cold=self.cold)
            del module, call, placed  # or closing the session would free nothing
            with closing(opened) as session:
                yield session

    @contextmanager
    def watched(self, model: Model, inputs: Inputs, placement: Placement) -> Iterator[Callable[[Around], None]]:
        """Give what runs one forward with an ``Around`` in place of each operator.

        Raises BackendError for one CUDA graph, which has no operators.
        """
        from profiler.backends.torch_layers import LayerWatch

        if self.cuda_graph:
            raise BackendError("a CUDA graph runs as a whole and tells no layers: leave cuda_graph out")
        with self.load(model, inputs, placement) as session:

            def run(around: Around) -> None:
                with LayerWatch(around):
                    session.run()
                session.sync()

            yield run

    def untrainable(self, placement: Placement) -> str | None:
        """Return why an available ``placement`` cannot be trained on, with the remedy, or None when it can."""
        if self.cuda_graph or self.cold or self.quantize != "none":
            return "cuda_graph, cold and quantize are for inference: leave them out to train"
        return training.untrainable(placement)

    @contextmanager
    def train(self, model: Model, inputs: Inputs, placement: Placement) -> Iterator[TorchTraining]:
        """Load ``model`` in training mode for batches like ``inputs``, as ``load``; bf16 means autocast."""
        full = replace(placement, precision="fp32")
        with pytorch.settings(placement, self):
            module, x = pytorch.place(model, full, self.name), training.images(inputs, full)
            opened = TorchTraining(module, x, training.optimizer(module, self.optimizer), placement)
            del module, x  # or closing the session would free nothing
            with closing(opened) as session:
                yield session


def _replayed(module: nn.Module, placed: Placed) -> Callable[..., object]:
    import torch

    try:
        with torch.inference_mode():
            replay, output = accelerator.captured(lambda: module(*placed.args, **placed.kwargs), placed.device)
    except RuntimeError as error:
        said = str(error).strip().splitlines()[0].rstrip(".")
        raise BackendError(f"the model cannot be captured as a CUDA graph ({said}): leave cuda_graph out") from error

    def call(*_: torch.Tensor, _weights: nn.Module = module, **_kwargs: torch.Tensor) -> object:
        # A graph holds addresses, not tensors: without its module it would read memory that has been given away.
        replay()
        return output

    return call
