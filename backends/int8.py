"""What the runtimes say of int8: how far it may be from fp32, and what computes in it."""

from __future__ import annotations

import platform
from collections.abc import Mapping

from profiler.backends import cache
from profiler.backends.base import Fact

#: Of the largest output: int8 has 1 part in 256 of each tensor's range, and errors of layers add up.
INT8_ALLOWED = 0.3

#: Bits of a weight, and of one whose products must not outgrow what they are added up in.
WHOLE_BITS, LESS_BITS = 8, 7


def weight_bits() -> int:
    """Return how many bits weights get beside activations without a sign: 7 on an x86 without VNNI, else 8.

    There the sum of two products of 8 bits does not fit the 16 that the processor has for it, and is cut off
    (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, "reduce_range").
    """
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return LESS_BITS if x86 and "vnni" not in cache.processor() else WHOLE_BITS


def counted_nodes(
    quantised: Mapping[str, int], floats: Mapping[str, int], converting: Mapping[str, int]
) -> dict[str, Fact]:
    """Return facts of nodes by kind: those that compute in int8, in floats, or only convert; and that in words."""
    counts = [sum(group.values()) for group in (quantised, floats, converting)]
    note = (
        f"of {sum(counts)} nodes {counts[0]} compute in int8 ({_listed(quantised)}), {counts[1]} in floats "
        f"({_listed(floats)}), and {counts[2]} only convert between them ({_listed(converting)}), which takes time too"
    )
    return {"nodes_int8": counts[0], "nodes_float": counts[1], "nodes_converting": counts[2], "precision_note": note}


def _listed(kinds: Mapping[str, int]) -> str:
    most = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{n} {kind}" for kind, n in most[:4]) + (", ..." if len(most) > 4 else "") or "none"
