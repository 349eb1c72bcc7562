"""From an ``Arch`` to a torch module, and from a module to its complexity.

torch is imported when a function is called and not before: this module is on the path of commands that
never run a network.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from profiler.models.arch import Arch
from profiler.models.complexity import Complexity, padding

if TYPE_CHECKING:
    from torch import Tensor, nn

#: flops, output elements and flops of padding of a layer.
_Cost = tuple[int, int, int]


#: Version of the rule by which ``initialise`` draws weights: a test holds it to the weights that come of it.
WEIGHTS = 1


def build(arch: Arch, seed: int = 0) -> nn.Module:
    """Build ``arch`` in evaluation mode, fp32 on the CPU, with random weights that depend on ``seed`` alone.

    The weights are not trained: through any depth, activations of standard-normal input neither grow nor vanish.

    Returns:
        A module from (batch, 3, resolution, resolution) to (batch, classes).
    """
    from profiler.models.modules import initialise

    module = _skeleton(arch).to_empty(device="cpu")
    initialise(module, arch, seed)
    return module.eval()


def _skeleton(arch: Arch) -> nn.Module:
    """Build ``arch`` in evaluation mode on the meta device: every shape and no memory."""
    import torch

    from profiler.models.modules import network

    with torch.device("meta"):
        return network(arch).eval()


def count(module: nn.Module, example: Tensor | int) -> Complexity:
    """Count a module by watching one forward pass, with the conventions of ``profiler.models.complexity``.

    Convolutions, linear layers and 2-d max-pools are seen where they are modules. Transposed convolutions,
    and matrix products written as functions, such as those of attention, are not: flops and acts of a model
    that has them are lower bounds.

    Args:
        module: Any module; it is left in the mode it was in.
        example: Input of shape (batch, channels, height, width), on the device of the module, or the side of
            a square RGB image. On the meta device counting costs neither memory nor arithmetic.

    Returns:
        Counts for one image of the batch.
    """
    import torch

    if isinstance(example, int):
        device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
        example = torch.zeros(1, 3, example, example, device=device)
    costs: list[_Cost] = []
    with _evaluating(module), _watching(module, costs), torch.no_grad():
        module(example)
    batch = example.shape[0]
    return Complexity(
        flops=sum(flops for flops, _, _ in costs) // batch,
        params=sum(parameter.numel() for parameter in module.parameters()),
        acts=sum(acts for _, acts, _ in costs) // batch,
        layers=sum(flops > 0 for flops, _, _ in costs),  # pooling has acts alone
        padding_flops=sum(padded for _, _, padded in costs) // batch,
    )


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in training.items():
            part.training = mode


@contextmanager
def _watching(module: nn.Module, costs: list[_Cost]) -> Iterator[None]:
    """Append to ``costs`` for every layer that runs, as often as it runs."""

    def watch(layer: nn.Module, _inputs: Any, output: Tensor) -> None:
        flops = _flops(layer, output)
        padded = padding(flops, getattr(layer, "out_channels", 1), getattr(layer, "groups", 1))
        costs.append((flops, output.numel(), padded))

    handles = [part.register_forward_hook(watch) for part in module.modules() if _counts(part)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _counts(layer: nn.Module) -> bool:
    from torch import nn

    return isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear | nn.MaxPool2d)


def _flops(layer: nn.Module, output: Tensor) -> int:
    """Multiply-adds per output element are the weights that make one, and one more for a bias."""
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    if weight is None:
        return 0
    per_element: int = weight[0].numel() + (bias is not None)
    return output.numel() * per_element
