"""One step of training in torch, in parts: forward, loss, backward, optimizer, zero_grad."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from profiler.backends import accelerator, devices, pytorch
from profiler.backends.base import BackendError, Fact, Placement
from profiler.backends.inputs import Inputs

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

OptimizerName = Literal["sgd", "adamw"]

#: Hyper-parameters that change what a step costs are those of the networks' papers. The learning rate costs
#: nothing and is low, so that thousands of steps on one batch stay away from infinities and denormals.
_MOMENTUM = 0.9
_WEIGHT_DECAY = 5e-5
_LEARNING_RATE = 1e-3
_LABEL_SMOOTHING = 0.1


class TorchTraining:
    """A module in training mode with its optimizer; satisfies ``profiler.backends.base.TrainingSession``.

    Args:
        module: fp32, on its device.
        images: One batch on the same device, shape (batch, channels, height, width).
        optimizer: Steps the parameters of ``module``.
        placement: bf16 runs forward and loss under autocast.
    """

    def __init__(
        self, module: nn.Module, images: Tensor, optimizer: torch.optim.Optimizer, placement: Placement
    ) -> None:
        import torch

        classes = _classes(module, images)
        self._labels = _random_labels(classes, images)
        self._module, self._images, self._optimizer = module.train(), images, optimizer
        self._layout, self._device = pytorch.layout(placement), images.device
        self._criterion = torch.nn.CrossEntropyLoss(label_smoothing=_LABEL_SMOOTHING)
        self._autocast = torch.autocast(images.device.type, torch.bfloat16, enabled=placement.precision == "bf16")
        self._output: Tensor | None = None
        self._loss: Tensor | None = None
        self._facts: dict[str, Fact] = pytorch.read_back({"input": images}, images.device) | {
            "optimizer": type(optimizer).__name__.lower(),
            "label_smoothing": _LABEL_SMOOTHING,
            "classes": classes,
            "autocast": "bf16" if placement.precision == "bf16" else None,
        }

    @property
    def parts(self) -> Mapping[str, Callable[[], None]]:
        """The five parts of a step, in their order."""
        return {
            "forward": self._forward,
            "loss": self._compute_loss,
            "backward": self._backward,
            "optimizer": self._step,
            "zero_grad": self._zero_grad,
        }

    def run(self) -> None:
        """Submit one whole step."""
        if not vars(self):
            raise BackendError("the session is closed: load the model again")
        self._forward()
        self._compute_loss()
        self._backward()
        self._step()
        self._zero_grad()

    def sync(self) -> None:
        """Block until the device has finished."""
        devices.synchronize(self._device)

    def device_ns(self, calls: int) -> tuple[int, ...]:
        """Return the time of ``calls`` steps on the device by its events, in ns; empty on the CPU."""
        told = accelerator.device_times(self.run, self._device, calls)
        self._facts["device_queued"] = told.queued
        return told.ns

    def device_parts_ns(self, calls: int) -> Mapping[str, tuple[int, ...]]:
        """Return the time of the parts of ``calls`` steps on the device by its events, in ns; empty on the CPU."""
        parts = self.parts
        told = accelerator.device_parts(tuple(parts.values()), self._device, calls)
        return {name: part.ns for name, part in zip(parts, told, strict=True) if part.ns}

    def feed(self, images: Tensor, labels: Tensor) -> None:
        """Train on another batch from now on: fp32 images and int64 labels on the host."""
        self._images = images.to(self._device, non_blocking=True, memory_format=self._layout)
        self._labels = labels.to(self._device, non_blocking=True)

    def loss(self) -> float:
        """Return the loss of the last step."""
        if self._loss is None:
            raise BackendError("there is no loss yet: call run() first")
        return float(self._loss)

    def facts(self) -> Mapping[str, Fact]:
        """Return versions, device, threads, flags, optimizer and loss as read back."""
        return self._facts

    def close(self) -> None:
        """Let go of weights, optimizer state, gradients and batch."""
        device = self._device
        self.__dict__.clear()
        devices.release(device)

    def _forward(self) -> None:
        with self._autocast:
            self._output = self._module(self._images)

    def _compute_loss(self) -> None:
        with self._autocast:
            self._loss = self._criterion(self._output, self._labels)

    def _backward(self) -> None:
        assert self._loss is not None  # parts run in their order
        self._loss.backward()  # type: ignore[no-untyped-call]
        # What is kept of a step must not keep its graph alive into the next.
        self._loss, self._output = self._loss.detach(), None

    def _step(self) -> None:
        self._optimizer.step()

    def _zero_grad(self) -> None:
        self._optimizer.zero_grad()


def optimizer(module: nn.Module, name: OptimizerName) -> torch.optim.Optimizer:
    """Return SGD with momentum 0.9, or AdamW, over all parameters of ``module``."""
    import torch

    if name == "adamw":
        return torch.optim.AdamW(module.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    return torch.optim.SGD(module.parameters(), lr=_LEARNING_RATE, momentum=_MOMENTUM, weight_decay=_WEIGHT_DECAY)


def images(inputs: Inputs, placement: Placement) -> Tensor:
    """Return the batch of images that ``inputs`` are, as a tensor on its device."""
    arrays = list(inputs.arrays.values())
    if len(arrays) != 1 or inputs.constants or arrays[0].dtype.kind != "f":
        raise BackendError("the model takes more than one tensor of floats: training needs a classifier of images")
    return pytorch.upload(arrays[0], placement)


def untrainable(placement: Placement) -> str | None:
    """Return why torch cannot train on an available ``placement``, with the remedy, or None when it can."""
    if placement.precision == "fp16":
        return "training in fp16 needs a scaled loss, which the profiler does not have: use precision bf16 or fp32"
    return None


def _classes(module: nn.Module, images: Tensor) -> int:
    """Return the width of the model's output, which only running it tells."""
    import torch

    with torch.no_grad():
        output = module(images[:1])
    if not isinstance(output, torch.Tensor) or output.ndim != 2:
        raise BackendError("the model does not return one row of class scores per image: training needs a classifier")
    return int(output.shape[1])


def _random_labels(classes: int, images: Tensor) -> Tensor:
    """Return a class for each image, always the same."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return torch.randint(classes, (len(images),), generator=generator).to(images.device)
