"""From an ``Arch`` to a torch module.

torch is imported when a function is called and not before: this module is on the path of commands that
never run a network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.models.arch import Arch

if TYPE_CHECKING:
    from torch import nn


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
