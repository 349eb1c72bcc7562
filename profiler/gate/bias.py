"""How far a side differs from itself: the bias between processes, measured before a verdict."""

from __future__ import annotations

import contextlib
import math
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from profiler.gate import decision
from profiler.gate.contest import Contest
from profiler.gate.decision import Rule
from profiler.machine import cache
from profiler.records.types import Failure

#: A limit must tolerate this many times the bias between processes of the same code.
BIAS_FACTOR = 3.0
#: Fresh processes that measure that bias, each with as many blocks as the first look has.
SELF_TESTS = 5
#: The bias counts only where the estimates differ from zero by more than their own noise: the 99% point of
#: chi-square with ``SELF_TESTS`` degrees of freedom.
BIAS_SURE = 15.09


@dataclass(frozen=True, slots=True)
class Bias:
    """How far the same code in fresh processes lies from itself, on a logarithmic scale.

    Attributes:
        estimates: Of ``ln(second ÷ first)``, one per fresh process.
        errors: Their standard errors, from the blocks within.
    """

    estimates: tuple[float, ...]
    errors: tuple[float, ...]

    @property
    def size(self) -> float:
        """The part of the estimates' spread about zero that the noise of the blocks does not explain."""
        pairs = list(zip(self.estimates, self.errors, strict=True))
        if sum((y / e) ** 2 for y, e in pairs if e > 0) <= BIAS_SURE:
            return 0.0
        return math.sqrt(max(0.0, statistics.fmean(y * y - e * e for y, e in pairs)))


def measure_bias(contest: Contest, seed: int) -> Bias | Failure:
    """Compare the baseline with itself in fresh processes."""
    rule = Rule(1.0, looks=decision.LOOKS[:1])
    estimates, errors = [], []
    for number in range(SELF_TESTS):
        trial = contest.trial(rule, seed + number, itself=True)
        if isinstance(trial, Failure):
            return trial
        ratios = trial.ratios
        estimates.append(math.log1p(decision.change(ratios).estimate))
        errors.append(statistics.stdev(ratios) / math.sqrt(len(ratios)))
    return Bias(tuple(estimates), tuple(errors))


class Biases:
    """Biases that were measured on this machine, kept in the user's cache by machine and baseline."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "gate.json"

    def get(self, name: str, measured: Callable[[], Bias | Failure]) -> Bias | Failure:
        """Return the bias kept under ``name``; measure and keep it where there is none."""
        known = cache.kept(self._file)
        with contextlib.suppress(KeyError, TypeError):
            return Bias(tuple(known[name]["estimates"]), tuple(known[name]["errors"]))
        bias = measured()
        if isinstance(bias, Bias):
            try:
                cache.keep(self._file, name, asdict(bias))
            except OSError as error:
                print(f"the self-test could not be kept ({error}); it is made again next time", file=sys.stderr)
        return bias
