"""What the paper claims, beside what holds where a run was made.

Claims are those of Dollár, Singh and Girshick, *Fast and Accurate Model Scaling* (https://arxiv.org/abs/2103.06877,
CVPR 2021), which measured on a GPU. A claim holds where the 95% interval of what was measured lies on its side of the
limit, does not where it lies on the other, and is undecided where the limit lies inside, or where there is no interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from profiler.analysis.fit import Fit
from profiler.analysis.frame import measured, plain, rows_of
from profiler.analysis.growth import CONTROL, growth, paces, steps
from profiler.analysis.quantity import Quantity
from profiler.analysis.regression import LEAST_NETWORKS
from profiler.analysis.speed import ratio_interval
from profiler.records.columns import interval_columns
from profiler.records.intervals import Interval
from profiler.units import format_bytes

#: Asks a group of a table for a claim; None where it says nothing of it.
_Ask: TypeAlias = "Callable[[pd.DataFrame, Fit, pd.DataFrame], Evidence | None]"
Judgement = Literal["holds", "does not hold", "undecided"]

#: "Nearly as fast" is within a tenth.
_NEARLY = 1.10
#: The other end of the paper's example of training, in flops of one image: 16 GF, as rounding leaves them.
_LARGE = (14e9, 18e9)
#: A winner among counts is sure from here on, as everywhere an interval of 95% is.
_SURE = 0.95


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one group of a run says of a claim: the verdict, and the figures it rests on."""

    verdict: Judgement
    figures: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of the paper, and what each group of a run says of it, under the group's label."""

    said: str
    found: dict[str, Evidence]


def claims(frame: pd.DataFrame, fits: Sequence[Fit]) -> list[Claim]:
    """Return the claims that at least one group of a table says something of; none where no rules can be compared.

    Args:
        frame: One row per case.
        fits: Of the table; those of single families are left out.
    """
    pooled = [one for one in fits if one.family is None and one.n]
    relative = {one.label: steps(frame, one) for one in pooled}
    made = [
        (Claim(said, {one.label: found for one in pooled if (found := ask(frame, one, relative[one.label]))}), compares)
        for said, ask, compares in _CLAIMS
    ]
    return [claim for claim, _ in made if claim.found] if any(c.found and compares for c, compares in made) else []


def _judged(ratio: Quantity, limit: float = 1.0) -> Judgement:
    """Whether a ratio is below a limit."""
    if ratio.interval is None:
        return "undecided"
    low, high = ratio.interval
    return "holds" if high < limit else "does not hold" if low > limit else "undecided"


def _below(one: Interval | None, other: Interval | None) -> Judgement:
    """Whether an interval lies below another."""
    if one is None or other is None:
        return "undecided"
    return "holds" if one[1] < other[0] else "does not hold" if one[0] > other[1] else "undecided"


def _times(ratio: Quantity) -> str:
    ends = "" if ratio.interval is None else f" [{ratio.interval[0]:.2f}, {ratio.interval[1]:.2f}]"
    return f"{ratio.value:.2f}{ends}"


def _predicts(_frame: pd.DataFrame, one: Fit, _relative: pd.DataFrame) -> Evidence | None:
    """Activations predict the cost better than flops do."""
    lines = {line.proxy: line for line in one.lines}
    if not {"acts", "flops"} <= lines.keys() or one.winner is None:
        return None
    sure = one.winner_probability is not None and one.winner_probability >= _SURE
    verdict: Judgement = "undecided" if not sure else "holds" if one.winner == "acts" else "does not hold"
    told = ", ".join(f"{name} {lines[name].r:.2f}" for name in ("acts", "flops"))
    odds = "" if one.winner_probability is None else f"; {one.winner} best in {one.winner_probability:.0%} of resamples"
    return Evidence(verdict, f"r of {told}{odds}")


def _grows(_frame: pd.DataFrame, _one: Fit, relative: pd.DataFrame) -> Evidence | None:
    """Activations of dWr grow about as the root of flops, those of dwr faster."""
    found = {each.rule: each for each in growth(relative)}
    if not {"dWr", CONTROL} <= found.keys():
        return None
    bases = min(found[rule].bases for rule in ("dWr", CONTROL))
    fast, compound = (_over(bases, found[rule].acts) for rule in ("dWr", CONTROL))
    told = f"s to the {_times(fast)} by dWr, {_times(compound)} by {CONTROL}"
    return Evidence(_below(fast.interval, compound.interval), told + _few(bases))


def _over(bases: int, found: Quantity) -> Quantity:
    """What was found, without an interval where that is over too few base networks."""
    return found if bases >= LEAST_NETWORKS else Quantity(found.value, None)


def _few(bases: int) -> str:
    """Say so; empty where they are enough."""
    number = {1: "one base network is", 2: "two base networks are"}.get(bases, "")
    return f"; {number} too few to tell" if number else ""


def _paced(rule: str, control: str, limit: float = 1.0, *, slower: bool = False) -> _Ask:
    """Ask whether a rule is faster than another at equal flops, within a limit; or slower."""

    def ask(_frame: pd.DataFrame, _one: Fit, relative: pd.DataFrame) -> Evidence | None:
        found = next(iter(paces(relative, control, rule)), None)
        if found is None:
            return None
        verdict = _judged(found.cost, limit)
        told = f"{rule} takes {_times(found.cost)} of the time of {control}{_few(found.bases)}"
        return Evidence(_turned(verdict) if slower else verdict, told)

    return ask


def _turned(verdict: Judgement) -> Judgement:
    turned: dict[Judgement, Judgement] = {"holds": "does not hold", "does not hold": "holds"}
    return turned.get(verdict, verdict)


def _trains(frame: pd.DataFrame, one: Fit, _relative: pd.DataFrame) -> Evidence | None:
    """RegNetY-4GF scaled to 16 GF by dWr trains in a quarter of the time of EfficientNet-B4."""
    pair = _example(frame, one)
    if pair is None:
        return None
    ours, theirs = (_cost(rows, one.y) for rows in pair)
    ratio = Quantity(ours.value / theirs.value, ratio_interval(ours, theirs))
    flops = [float(rows["flops"].iloc[0]) for rows in pair]
    return Evidence(
        _judged(ratio), f"its step takes {_times(ratio)} of that of B4, for {flops[0] / flops[1]:.1f} times the flops"
    )


def _holds_less(frame: pd.DataFrame, one: Fit, _relative: pd.DataFrame) -> Evidence | None:
    """The same with less memory."""
    pair = _example(frame, one)
    if pair is None or "peak_memory_bytes" not in frame:
        return None
    ours, theirs = (pd.to_numeric(rows["peak_memory_bytes"], errors="coerce").iloc[0] for rows in pair)
    if not (ours > 0 and theirs > 0):
        return None
    return Evidence(
        "holds" if ours < theirs else "does not hold", f"{format_bytes(ours)} against {format_bytes(theirs)}"
    )


def _example(frame: pd.DataFrame, one: Fit) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """The rows of the paper's example: RegNetY-4GF scaled to 16 GF by dWr, and EfficientNet-B4, both training."""
    if one.group.get("mode") != "train":
        return None
    rows = rows_of(frame, one.group)
    rows = rows[measured(rows) & (pd.to_numeric(rows[one.y], errors="coerce") > 0)]
    names, flops = rows["model"].map(plain), pd.to_numeric(rows["flops"], errors="coerce")
    scaled = rows["scaling"].map(plain)
    ours = rows[(names == "regnety_4.0gf") & (scaled == "dWr") & flops.between(*_LARGE)]
    theirs = rows[(names == "efficientnet_b4") & (scaled == "")]
    return (ours, theirs) if len(ours) and len(theirs) else None


def _cost(rows: pd.DataFrame, y: str) -> Quantity:
    ends = [
        float(pd.to_numeric(rows[end], errors="coerce").iloc[0]) if end in rows else np.nan
        for end in interval_columns(y)
    ]
    known: Interval | None = (ends[0], ends[1]) if 0 < ends[0] <= ends[1] else None
    return Quantity(float(rows[y].iloc[0]), known)


#: Each claim, what asks a group of a run for it, and whether it compares times or memory of scaled networks.
_CLAIMS: Sequence[tuple[str, _Ask, bool]] = (
    ("activations predict latency better than flops do", _predicts, False),
    ("scaled by dWr, activations grow about as the root of flops, and faster by dwr", _grows, False),
    ("at equal flops dWr is faster than compound scaling dwr", _paced("dWr", CONTROL), True),
    ("dWr is nearly as fast as w", _paced("dWr", "w", _NEARLY), True),
    ("scaling depth alone is slower than dWr", _paced("d", "dWr", slower=True), True),
    ("scaling resolution alone is slower than dWr", _paced("r", "dWr", slower=True), True),
    (
        "RegNetY-4GF scaled to 16 GF by dWr trains faster than EfficientNet-B4 (about four times on its GPU)",
        _trains,
        True,
    ),
    ("and with less memory", _holds_less, True),
)
