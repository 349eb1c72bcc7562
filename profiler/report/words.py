"""Fits in sentences."""

from __future__ import annotations

from profiler.analysis.cost_model import CostModel
from profiler.analysis.fit import Fit
from profiler.analysis.frame import LATENCY_NAME, PROXIES, SECONDS
from profiler.analysis.line import Line
from profiler.units import format_count, format_flops

#: Bytes of one activation.
_BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2}


def sentence(one: Fit) -> str:
    """What a fit says, in a sentence: the best proxy with r, its interval and n, then the others."""
    what = "latency" if "latency" in one.y else one.y
    if one.reason or not one.lines:
        return f"No fit: {one.reason}."
    best = max(one.lines, key=lambda line: abs(line.r))
    said = f"r = {correlation(best, 3)} over {one.n} networks"
    text = f"{PROXIES[best.proxy].name.capitalize()} predict {what} best: {said}"
    others = [f"{PROXIES[line.proxy].name} {line.r:.3f}" for line in one.lines if line is not best]
    text += f"; {', '.join(others)}" if others else ""
    if one.winner_probability is not None:
        text += f"; best in {one.winner_probability:.0%} of resamples"
    return text + "."


def has_intervals(line: Line) -> bool:
    """Whether the intervals of a line tell anything: those of three networks hold all there is."""
    return line.r_interval != (-1, 1)


def correlation(line: Line, digits: int) -> str:
    """``0.81 [0.61, 0.91]``; without its interval where that tells nothing."""
    low, high = line.r_interval
    return f"{line.r:.{digits}f}" + (f" [{low:.{digits}f}, {high:.{digits}f}]" if has_intervals(line) else "")


def two_term_sentence(one: Fit) -> str | None:
    """The two-term model in a sentence, with its errors on networks and families it has not seen."""
    if one.two_term is None:
        return None
    unit = f" {one.unit}" if one.unit else ""
    return f"{one.y} ≈ {_sum(one.two_term, unit, zeros=True)}; error {_errors(one.two_term)}."


def full_sentence(one: Fit) -> str | None:
    """What everything costs that is counted, and how much better that foretells."""
    if one.full is None:
        return None
    return f"With all that is counted: {_sum(one.full, f' {one.unit}', zeros=False)}; error {_errors(one.full)}."


def _sum(model: CostModel, unit: str, *, zeros: bool) -> str:
    told = [f"{term.coefficient:.3g} per {term.unit}" for term in model.terms if zeros or term.coefficient > 0]
    return " + ".join([f"{model.t0:.3g}{unit}", *told])


def _errors(model: CostModel) -> str:
    errors = [("fitted", model.mape), ("network left out", model.loo_mape), ("family left out", model.lofo_mape)]
    return ", ".join(f"{name} {e:.1%}" for name, e in errors if e is not None)


def _rates(one: Fit) -> tuple[float | None, float | None] | None:
    """What the slopes of the two-term model say of the machine; None where y is no latency or counts have no unit.

    Slopes are time per count of one image, and y is the time of a batch, so that a batch counts times its size.

    Returns:
        Activations that pass through memory and multiply-adds, a second; None at slope 0.
    """
    model, seconds = one.two_term, SECONDS.get(one.unit)
    if model is None or seconds is None or not LATENCY_NAME.search(one.y):
        return None
    if any(term.unit.startswith("unit") for term in model.terms):
        return None
    batch = float(one.group.get("batch") or 1)
    acts, flops = (
        term.scale * batch / (term.coefficient * seconds) if term.coefficient > 0 else None for term in model.terms
    )
    return acts, flops


def rates_sentence(one: Fit) -> str | None:
    """The speeds in a sentence: figures to compare machines with, not measured bandwidths."""
    found = _rates(one)
    if found is None:
        return None
    acts, flops = found
    size = _BYTES.get(one.group.get("precision", "fp32"))
    parts = []
    if acts:
        memory = f", {format_count(acts * size)}B/s written once" if size else ""
        parts.append(f"{format_count(acts)} activations/s{memory}")
    if flops:
        parts.append(f"{format_flops(flops)}/s of multiply-adds")
    zero = [name for name, speed in (("activations", acts), ("flops", flops)) if speed is None]
    if zero:
        parts.append(f"{' and '.join(zero)} add nothing")
    return f"As speeds, each term alone: {'; '.join(parts)}."


def outliers_sentence(one: Fit) -> str | None:
    """The networks far off the two-term model, by name."""
    if not one.outliers:
        return None
    told = ", ".join(f"{network} {y / predicted - 1:+.0%}" for network, y, predicted in one.outliers)
    return f"Far from the two-term model: {told}."
