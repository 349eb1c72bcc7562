"""torch's dynamic quantisation: linear and recurrent layers in int8, the range of activations found in each forward."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import TYPE_CHECKING, cast

from profiler.backends.base import BackendError, Fact

if TYPE_CHECKING:
    from torch import nn


def in_int8(module: nn.Module) -> tuple[nn.Module, dict[str, Fact]]:
    """Return ``module`` with the layers in int8 that torch has such kernels for, and what they are.

    Raises:
        BackendError: It has none.
    """
    import torch
    from torch import nn

    kinds = nn.Linear, nn.LSTM, nn.GRU
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch moves this to another package, and says so at every call
        made = cast("nn.Module", torch.ao.quantization.quantize_dynamic(module, set(kinds), dtype=torch.qint8))  # type: ignore[no-untyped-call]
    names = {kind.__name__ for kind in kinds}
    made_of = [(part, type(part)) for part in made.modules()]
    done = Counter(kind.__name__ for _, kind in made_of if "quantized" in kind.__module__ and kind.__name__ in names)
    left = Counter(kind.__name__ for part, kind in made_of if list(part.parameters(recurse=False)))
    if not done:
        raise BackendError(
            "torch quantises linear and recurrent layers alone and the model has none: leave quantize out, or use "
            "onnxruntime:quantize=static"
        )
    listed = [", ".join(f"{n} {kind}" for kind, n in found.most_common(4)) or "none" for found in (done, left)]
    note = (
        f"of {done.total() + left.total()} layers with weights {done.total()} compute in int8 ({listed[0]}) and "
        f"{left.total()} in floats ({listed[1]}), which torch's dynamic quantisation leaves as they are"
    )
    return made, {"nodes_int8": done.total(), "nodes_float": left.total(), "precision_note": note}
