"""Fits in sentences."""

from __future__ import annotations

from typing import NamedTuple

from profiler.analysis.cost_model import FullModel, TwoTerm
from profiler.analysis.fit import Fit
from profiler.analysis.frame import BYTES, LATENCY_NAME, PROXIES, SECONDS
from profiler.models.complexity import CHANNEL_BLOCK
from profiler.units import format_count, format_flops

# --- Words, tables, JSON -----------------------------------------------------------------------------------


def sentence(one: Fit) -> str:
    """What a fit says, in a sentence: the best proxy with r, its interval and n, then the others."""
    what = "latency" if "latency" in one.y or one.y == "latency_ms" else one.y
    if one.reason or not one.lines:
        return f"No fit: {one.reason}."
    best = max(one.lines, key=lambda line: abs(line.r))
    low, high = best.r_interval
    text = (
        f"{PROXIES[best.proxy].name.capitalize()} predict {what} best: "
        f"r = {best.r:.3f} [{low:.3f}, {high:.3f}] over {one.n} networks"
    )
    others = [f"{PROXIES[line.proxy].name} {line.r:.3f}" for line in one.lines if line is not best]
    text += f"; {', '.join(others)}" if others else ""
    if one.winner and one.winner.probability is not None:
        text += f"; best in {one.winner.probability:.0%} of resamples"
    return text + "."


def two_term_sentence(one: Fit) -> str | None:
    """The two-term model in a sentence, with its errors on networks and families it has not seen."""
    m = one.two_term
    if m is None:
        return None
    acts, flops = one.line("acts"), one.line("flops")
    units = [line.x_unit if line else "" for line in (acts, flops)]
    unit = f" {one.unit}" if one.unit else ""
    text = f"{one.y} ≈ {m.t0:.3g}{unit} + {m.per_acts:.3g} per {units[0]} + {m.per_flops:.3g} per {units[1]}"
    return f"{text}; error {_errors(m)}."


def _errors(m: TwoTerm | FullModel) -> str:
    errors = [("fitted", m.mape), ("network left out", m.loo_mape), ("family left out", m.lofo_mape)]
    return ", ".join(f"{name} {e:.1%}" for name, e in errors if e is not None)


def full_sentence(one: Fit) -> str | None:
    """What everything costs that is counted, and how much better that foretells."""
    m = one.full
    if m is None:
        return None
    terms = [
        (m.per_acts, "M acts"),
        (m.per_flops, "GF"),
        (m.per_params, "M params"),
        (m.per_layer, "layer"),
        (m.per_padding, f"GF that padding groups to {CHANNEL_BLOCK} channels would add"),
    ]
    told = " + ".join(f"{slope:.3g} per {what}" for slope, what in terms if slope > 0)
    return f"With all that is counted: {m.t0:.3g} {one.unit} + {told}; error {_errors(m)}."


class Rates(NamedTuple):
    """The two slopes as speeds: of memory that activations pass through, and of arithmetic; None at slope 0."""

    acts_per_s: float | None
    flops_per_s: float | None


def rates(one: Fit) -> Rates | None:
    """What the slopes of the two-term model say of the machine; None where y is no latency or counts have no unit.

    Slopes are time per count of one image, and y is the time of a batch, so that a batch counts times its size.
    """
    m, seconds = one.two_term, SECONDS.get(one.unit)
    lines = [one.line("acts"), one.line("flops")]
    if (
        m is None
        or seconds is None
        or not LATENCY_NAME.search(one.y)
        or any(line is None or line.x_unit.startswith("unit") for line in lines)
    ):
        return None
    batch = float(one.group.get("batch") or 1)
    scales = [PROXIES[p].scale * batch for p in ("acts", "flops")]
    speeds = [
        scale / (slope * seconds) if slope > 0 else None
        for scale, slope in zip(scales, (m.per_acts, m.per_flops), strict=True)
    ]
    return Rates(*speeds)


def rates_sentence(one: Fit) -> str | None:
    """The speeds in a sentence: figures to compare machines with, not measured bandwidths."""
    found = rates(one)
    if found is None:
        return None
    size = BYTES.get(one.group.get("precision", "fp32"))
    parts = []
    if found.acts_per_s:
        memory = f", {format_count(found.acts_per_s * size)}B/s written once" if size else ""
        parts.append(f"{format_count(found.acts_per_s)} activations/s{memory}")
    if found.flops_per_s:
        parts.append(f"{format_flops(found.flops_per_s)}/s of multiply-adds")
    zero = [name for name, speed in zip(("activations", "flops"), found, strict=True) if speed is None]
    if zero:
        parts.append(f"{' and '.join(zero)} add nothing")
    return f"As speeds, each term alone: {'; '.join(parts)}."


def outliers_sentence(one: Fit) -> str | None:
    """The networks far off the two-term model, by name."""
    if not one.outliers:
        return None
    told = ", ".join(f"{o.network} {o.excess:+.0%}" for o in one.outliers)
    return f"Far from the two-term model: {told}."
