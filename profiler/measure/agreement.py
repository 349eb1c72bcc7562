"""How near outputs are to eager's, in the figures by which people judge another precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from profiler.backends.base import Fact
    from profiler.backends.inputs import Array


def agreement(found: Sequence[Array], expected: Sequence[Array]) -> dict[str, Fact]:
    """Return how near ``found`` is to ``expected``, of the same shapes.

    ``relative_error`` is the norm of the difference over the norm of what was expected, ``cosine`` that of the angle
    between them, over all outputs of floats. ``top1_agreement`` is the share of examples, ``top1_inputs`` in number,
    whose largest number of the first output, of shape (examples, classes), stands at the same place; None without one.
    """
    import numpy as np

    pairs = [(a, b) for a, b in zip(found, expected, strict=True) if a.dtype.kind == b.dtype.kind == "f" and a.size]
    if not pairs:
        return {}
    a, b = (np.concatenate([one.ravel().astype(np.float64) for one in side]) for side in zip(*pairs, strict=True))
    norms = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    figures: dict[str, Fact] = {}
    if norms[1] and np.isfinite(norms).all():
        figures["relative_error"] = float(np.linalg.norm(a - b)) / norms[1]
        figures["cosine"] = float(a @ b) / (norms[0] * norms[1]) if norms[0] else None
    one, other = pairs[0]
    if one.ndim == 2 and one.shape[1] > 1:
        figures["top1_agreement"] = float(np.mean(one.argmax(1) == other.argmax(1)))
        figures["top1_inputs"] = len(one)
    return figures
