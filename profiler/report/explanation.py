"""An explained latency in a terminal, as JSON, as CSV and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from textwrap import wrap
from typing import Any

from rich.markup import escape
from rich.table import Table

from profiler.analysis.faster import Suggestion, Tried
from profiler.analysis.layers import Explanation, LayerCost
from profiler.report.answer import milliseconds
from profiler.report.plain import plain_table
from profiler.units import format_count, format_duration, format_share

#: How many layers a terminal gets, lines in all, and columns that a line of shares fits in.
LAYERS, _LINES, _WIDTH = 10, 20, 80
_NAME = 26
#: What is printed as more than 100% of a roof.
_MOST_OF_ROOF = 1.005
#: A traced forward that takes less of the latency says that the latency was disturbed, not that tracing is quick.
_UNDISTURBED = 0.8


def costs_table(one: Explanation) -> Table:
    """The ten layers that cost most, in no more than 80 columns."""
    table = plain_table("layer", "time", "share", "GF/s", "GB/s", "held by", "of roof")
    table.padding = (0, 1, 0, 0)
    for layer in one.costliest(LAYERS):
        table.add_row(*map(escape, (_short(layer), *_cells(layer))))
    return table


def _short(layer: LayerCost) -> str:
    """Return a name in a few letters: the block that a path begins with, and what of its end has room."""
    first, _, rest = layer.operator.partition(" ")
    what = rest if rest and first.lower().startswith(("conv", "fused")) else layer.operator
    said = f"{layer.name or '(model)'} {what}"
    if len(said) <= _NAME:
        return said
    parts = said.split(".")
    ways = (f"{'.'.join(parts[:2])}..{'.'.join(parts[i:])}" for i in range(3, len(parts)))
    return next((way for way in ways if len(way) <= _NAME), f"..{said[2 - _NAME :]}")


def _cells(layer: LayerCost) -> tuple[str, ...]:
    flops, moved = (layer.per_second(amount or None) for amount in (layer.flops, layer.moved_bytes))
    return (
        format_duration(layer.latency_ms / 1e3),
        share_text(layer),
        "" if flops is None else f"{flops / 1e9:.3g}",
        "" if moved is None else f"{moved / 1e9:.3g}",
        layer.bound or "",
        "" if layer.of_roof is None else f"{layer.of_roof:.0%}",
    )


def share_text(layer: LayerCost) -> str:
    """Return ``12.3%``, with what single processes said where they differ by a point: ``12.3% [11, 14]``."""
    said = f"{layer.share:.1%}"
    if layer.shares is None or layer.shares[1] - layer.shares[0] < 0.01:
        return said
    return f"{said} [{layer.shares[0] * 100:.0f}, {layer.shares[1] * 100:.0f}]"


def headline_sentence(one: Explanation) -> str:
    """Say the latency and what share of it the costliest layers are."""
    top = one.costliest(LAYERS)
    row, share = one.row, format_share(sum(layer.share for layer in top))
    threads = f"{row['threads']} thread{'s' if row['threads'] != 1 else ''}"
    latency = milliseconds(one.latency, row.get("visits"))
    what = f"{row['model']} on {row['backend']}, {threads}, batch {row['batch']}: {latency}."
    if len(one.layers) <= LAYERS:
        return f"{what} Its {len(one.layers)} layers:"
    return f"{what} {LAYERS} of its {len(one.layers)} layers take {share} of it:"


def groups_sentences(one: Explanation) -> list[str]:
    """Say what stages cost, and what operators cost."""
    stages = one.stages()
    said = [_shares("By stage", stages)] if stages else []
    return [*said, _shares("By operator", one.by_operator())]


def _shares(what: str, groups: Sequence[LayerCost]) -> str:
    """Name the costliest groups in their order, as many as a line holds, and what the others take."""
    by_cost = sorted(groups, key=lambda one: -one.share)
    for count in range(len(groups), 0, -1):
        named = [one for one in groups if one in by_cost[:count]]
        said = [f"{one.name or '(model)'} {format_share(one.share)}" for one in named]
        if rest := by_cost[count:]:
            said.append(f"{len(rest)} more {format_share(sum(one.share for one in rest))}")
        text = f"{what}: {', '.join(said)}."
        if len(text) <= _WIDTH or count == 1:
            return text
    return ""


def tracing_sentence(one: Explanation) -> str:
    """Say what tracing did to the times, and how they were scaled."""
    if one.waited:
        return (
            f"Traced, its layers take {one.inflation:.2f} times the latency, waits of the device for the host among "
            "them: they tell the host's pace where kernels are small. Scaled to add up."
        )
    if one.tracing is None:
        return f"Traced, its layers take {one.inflation:.2f} times the latency: scaled to add up."
    said = f"Traced, a forward takes {one.tracing:.2f} times as long, its layers {one.inflation:.2f}: scaled to add up."
    if one.tracing > _UNDISTURBED:
        return said
    return f"{said} The latency was measured while the cores were busy otherwise: repeat it."


def peaks_sentence(one: Explanation) -> str:
    """Say what the machine does at most and how much the network could gain by that; why not where nobody knows."""
    peaks = one.peaks
    if peaks is None:
        return f"How far from the machine's peaks is not known: {one.no_peaks}."
    sizes = sorted(peaks.bytes_per_s)
    near, far = (f"{peaks.bytes_per_s[size] / 1e9:.3g}" for size in (sizes[0], sizes[-1]))
    said = f"Peaks here: {format_count(peaks.flops_per_s)}F/s, {near} GB/s in cache, {far} in memory"
    roofs = [layer.roof_ms for layer in one.layers]
    if None in roofs:
        return f"{said}.{_above(one)}"
    least = sum(roof or 0.0 for roof in roofs)
    return f"{said}; at them {format_duration(least / 1e3)}.{_above(one)}"


def _above(one: Explanation) -> str:
    """Say that layers are faster than the peaks allow, and what that means; empty where none is."""
    shares = [layer.of_roof for layer in one.layers if layer.of_roof is not None and layer.of_roof > _MOST_OF_ROOF]
    if not shares:
        return ""
    stand = "1 layer stands" if len(shares) == 1 else f"{len(shares)} layers stand"
    return (
        f" {stand} above the roof, at {max(shares):.0%} at most: a cache held the data, or the cores were busy while "
        "peaks were measured; repeat it when they are quiet."
    )


def advice_sentence(one: Suggestion) -> str:
    """Say one advice with the row that it rests on."""
    row = one.rests_on
    gain = f"{one.remedy} gains at most {format_share(one.at_most)}"
    rests = f"{row.name or '(model)'} {row.operator} {format_duration(row.latency_ms / 1e3)}"
    return f"{one.finding[0].upper()}{one.finding[1:]}: {format_share(one.share)} of the time; {gain} (as {rests})."


def tried_sentence(one: Tried) -> str:
    """Say what came of a trial, and whether the advice held."""
    said = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in one.trial.items())
    if one.gain is None:
        return f"Tried {said}: it cannot run: {one.row['reason']}."
    ends = "" if one.gain.interval is None else f" [{one.gain.interval[0]:.2f}, {one.gain.interval[1]:.2f}]"
    verdict = {True: "held", False: "did not hold", None: "more --time may tell whether it held"}[one.held]
    return f"Tried {said}: {one.gain.value:.2f}{ends} times as fast per example: {verdict}."


def layer_facts(one: Explanation, advices: Sequence[Suggestion], trials: Sequence[Tried] = ()) -> dict[str, Any]:
    """Return an explanation for JSON: nothing that is not a number, a text or None."""
    peaks = None if one.peaks is None else asdict(one.peaks)
    return {
        "case": one.row,
        "latency_ms": one.latency.value,
        "interval_ms": one.latency.interval,
        "inflation": one.inflation,
        "traced_forward_ms": one.traced_ms,
        "waited": one.waited,
        "processes": one.processes,
        "peaks": peaks,
        "no_peaks": one.no_peaks,
        "layers": [layer.row() for layer in one.layers],
        "operators": [layer.row() for layer in one.by_operator()],
        "advice": [_fact(each) for each in advices],
        "tried": [asdict(each) | {"held": each.held, "sentence": tried_sentence(each)} for each in trials],
    }


def _fact(one: Suggestion) -> dict[str, Any]:
    return asdict(one) | {"rests_on": one.rests_on.row(), "sentence": advice_sentence(one)}


def fitting(before: int, told: Sequence[str], width: int) -> list[str]:
    """The sentences of advice for which a terminal has room; the first in any case.

    Args:
        before: Lines that are printed already.
        told: Sentences, the most important first.
        width: Columns.
    """
    room, made = _LINES - before, list[str]()
    for text in told:
        room -= lines_of(text, width)
        if made and room < 0:
            break
        made.append(text)
    return made


def lines_of(text: str, width: int) -> int:
    """How many lines a sentence takes."""
    return len(wrap(text, width))
