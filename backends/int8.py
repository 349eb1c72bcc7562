"""What the runtimes say of int8: how far it may be from fp32, and what computes in it."""

from __future__ import annotations

from collections.abc import Mapping

from profiler.backends.base import Fact

#: Of the largest output: int8 has 1 part in 256 of each tensor's range, and errors of layers add up.
INT8_ALLOWED = 0.3


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
