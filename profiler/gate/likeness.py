"""Whether two sides compute the same thing: inputs of the same names, types and shapes, and equal outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from profiler.backends.base import Precision
from profiler.measure.parity import PARITY

#: Name, type and shape of one input.
Input: TypeAlias = tuple[str, str, tuple[int, ...]]
#: Name of one output, and its values: an array.
Output: TypeAlias = tuple[str, Any]
#: What differs: what goes in, what comes out, or one side from itself, which nothing can be compared with.
Kind = Literal["inputs", "output", "itself"]
EVERY_KIND: tuple[Kind, ...] = ("inputs", "output", "itself")


@dataclass(frozen=True, slots=True)
class Unlike:
    """In what two sides differ.

    Attributes:
        kind: What differs.
        said: The difference, as the first part of a sentence.
    """

    kind: Kind
    said: str


def allowed_kinds(*, output: bool, inputs: bool) -> tuple[Kind, ...]:
    """Return in what sides may differ: with other inputs the outputs are others, too."""
    return ("inputs", "output") if inputs else ("output",) if output else ()


def is_refused(differ: Unlike | None, allowed: Sequence[Kind]) -> bool:
    """Whether sides that differ so are not to be timed; one that differs from itself is told, and timed."""
    return differ is not None and differ.kind not in (*allowed, "itself")


@dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """What one side computes.

    Attributes:
        inputs: What goes in.
        outputs: What comes out, by name, in their order.
        steady: Whether a second forward on the same input gave the same.
    """

    inputs: tuple[Input, ...]
    outputs: Sequence[Output]
    steady: bool


def unlike(baseline: Computed, candidate: Computed, precision: Precision) -> Unlike | None:
    """Return in what two sides differ, or that it cannot be told; None where they compute the same."""
    inputs = _inputs_differ(baseline.inputs, candidate.inputs)
    if inputs:
        return Unlike("inputs", f"the inputs differ: {inputs}")
    form = next(_forms_differ(baseline.outputs, candidate.outputs), None)
    if form:
        return Unlike("output", f"the candidate computes something else: {form}")
    moving = [side for side, one in (("baseline", baseline), ("candidate", candidate)) if not one.steady]
    if moving:
        whose = " and of the ".join(moving)
        said = f"two forwards of the {whose} on the same input differ (random, state that it keeps, or a changed input)"
        return Unlike("itself", f"{said}: outputs cannot be compared")
    values = values_differ(baseline.outputs, candidate.outputs, precision)
    if values:
        return Unlike("output", f"the candidate computes something else: {values}")
    said = "all outputs of both sides are NaN or infinite: they cannot be compared"
    return None if not baseline.outputs or any(map(_tells, baseline.outputs)) else Unlike("itself", said)


def _tells(output: Output) -> bool:
    import numpy as np

    _, values = output
    return not np.issubdtype(values.dtype, np.inexact) or not values.size or bool(np.isfinite(values).any())


def _inputs_differ(old: Sequence[Input], new: Sequence[Input]) -> str:
    """Say in what inputs differ; empty where they do not."""
    if len(old) != len(new):
        return f"{_names(old)} in the baseline, {_names(new)} in the candidate"
    # An export may call them otherwise: what counts are their order, types and shapes.
    forms = [(one[0], _form(*one[1:]), _form(*other[1:])) for one, other in zip(old, new, strict=True)]
    return "; ".join(
        f"{name} is {was} in the baseline and {now} in the candidate" for name, was, now in forms if was != now
    )


def _names(inputs: Sequence[Input]) -> str:
    return ", ".join(name for name, _, _ in inputs) or "none"


def _form(kind: str, shape: Sequence[int]) -> str:
    return f"{kind} {'x'.join(map(str, shape)) or 'scalar'}"


def _forms_differ(old: Sequence[Output], new: Sequence[Output]) -> Iterator[str]:
    if len(old) != len(new):
        yield f"{len(old)} outputs in the baseline, {len(new)} in the candidate"
        return
    for (name, was), (_, now) in zip(old, new, strict=True):
        forms = [_form(str(one.dtype), one.shape) for one in (was, now)]
        if forms[0] != forms[1]:
            yield f"{name} is {forms[0]} in the baseline and {forms[1]} in the candidate"


def values_differ(old: Sequence[Output], new: Sequence[Output], precision: Precision) -> str:
    """Say in what outputs of the same types and shapes differ by more than rounding explains; empty where they do not.

    Numbers with fractions may differ by a share of the baseline's largest, by the precision; others are equal or not.
    """
    pairs = zip(old, new, strict=True)
    return next(filter(None, (_values_differ(name, was, now, precision) for (name, was), (_, now) in pairs)), "")


def _values_differ(name: str, was: Any, now: Any, precision: Precision) -> str:
    import numpy as np

    if not np.issubdtype(was.dtype, np.inexact):
        changed = int(np.count_nonzero(was != now))
        return f"{changed} of {was.size} values of {name} differ" if changed else ""
    wide = np.result_type(was.dtype, np.float64)
    was, now = was.astype(wide), now.astype(wide)
    finite = np.isfinite(was) & np.isfinite(now)
    odd = int(np.count_nonzero(~finite & (was != now) & ~(np.isnan(was) & np.isnan(now))))
    if odd:
        return f"{odd} of {was.size} values of {name} are NaN or infinite on one side alone"
    largest = float(np.abs(was[finite]).max(initial=0.0)) or 1.0
    gap = float(np.abs(was[finite] - now[finite]).max(initial=0.0)) / largest
    allowed = PARITY[precision]
    return (
        f"{name} differs by {gap:.2g} of its largest value ({allowed:g} is allowed for {precision})"
        if not gap <= allowed
        else ""
    )


def write_outputs(outputs: Sequence[Output], file: Path) -> list[str]:
    """Write outputs for another process, and return their names."""
    import numpy as np

    np.savez(file, *(values for _, values in outputs))
    return [name for name, _ in outputs]


def read_computed(inputs: Sequence[Sequence[Any]], names: Sequence[str], file: Path, *, steady: bool) -> Computed:
    """Return what another process said and wrote."""
    import numpy as np

    with np.load(file) as written:
        outputs = [(name, written[f"arr_{number}"]) for number, name in enumerate(names)]
    return Computed(tuple((name, kind, tuple(shape)) for name, kind, shape in inputs), outputs, steady)
