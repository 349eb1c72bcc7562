"""How far a side differs from itself: the bias between processes, measured before a verdict."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from profiler.gate import decision
from profiler.gate.contest import Contest
from profiler.gate.decision import Rule
from profiler.machine import cache
from profiler.records.types import Failure

#: A limit must tolerate this many times the bias between processes of the same code.
BIAS_FACTOR = 3.0
#: Fresh processes that measure that bias, each with as many blocks as the first look has.
_SELF_TESTS = 5
#: The bias counts only where the estimates differ from zero by more than their own noise: the 99% point of
#: chi-square with ``_SELF_TESTS`` degrees of freedom.
_BIAS_SURE = 15.09


#: ``ln(second ÷ first)`` of the same code in each of some fresh processes, with its standard error from the blocks.
_Estimates = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class _SelfTest:
    """The estimates and their errors, as they are kept: none is far from 0 unless something else ran."""

    estimates: tuple[Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)], ...]
    errors: tuple[Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)], ...]


def bias(estimates: _Estimates) -> float:
    """Return the part of the estimates' spread about zero that the noise of the blocks does not explain."""
    if sum((y / e) ** 2 for y, e in estimates if e > 0) <= _BIAS_SURE:
        return 0.0
    return math.sqrt(max(0.0, statistics.fmean(y * y - e * e for y, e in estimates)))


def measure_bias(contest: Contest, seed: int) -> _Estimates | Failure:
    """Compare the baseline with itself in fresh processes."""
    rule = Rule(1.0, looks=decision.LOOKS[:1])
    found: list[tuple[float, float]] = []
    for number in range(_SELF_TESTS):
        trial = contest.itself([rule], seed + number)
        if isinstance(trial, Failure):
            return trial
        estimate, _ = decision.change(trial.ratios)
        error = statistics.stdev(trial.ratios) / math.sqrt(len(trial.ratios))
        found.append((math.log1p(estimate), error))
    return found


def kept_bias(folder: Path, name: str, measured: Callable[[], _Estimates | Failure]) -> float | Failure:
    """Return the bias that is kept in ``folder`` under ``name``; measure and keep it where there is none."""
    file = folder / "gate.json"
    known = cache.kept(file, name, _SelfTest)
    if known and len(known.estimates) == len(known.errors) > 0:
        return bias(list(zip(known.estimates, known.errors, strict=True)))
    found = measured()
    if isinstance(found, Failure):
        return found
    estimates, errors = zip(*found, strict=True)
    try:
        cache.keep(file, name, asdict(_SelfTest(estimates, errors)))
    except OSError as error:
        print(f"the self-test could not be kept ({error}); it is made again next time", file=sys.stderr)
    return bias(found)
