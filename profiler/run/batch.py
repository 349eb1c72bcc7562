"""``--batch max``: the largest batch that fits, found by bisection; every try is a fresh process.

What fits is what loads and runs a few times within the memory that a visit may take. A batch that fails where a smaller
one worked is too large, whatever it says: libraries have many words for memory that ran out, and limits of other kinds.
A batch is never made smaller than asked: only ``max`` is searched for, and the row says what was asked and used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from profiler.errors import UserError
from profiler.records.reading import NAME, read
from profiler.records.types import Case, Failure
from profiler.run.lab import Lab, one_visit

#: Forwards timed by a visit that looks for the largest batch, at least: what forwards free is kept, in pieces, and the
#: next ones may need more. After one, every fourth to tenth batch that had just fitted did not fit its visit.
_PROBED = 8


#: Batches beyond this are not tried.
_MOST = 65_536
#: Loads and runs a case in a fresh process; returns why it failed, or None.
_Probe = Callable[[Case], Failure | None]


def _largest(fits: Callable[[int], bool], most: int = _MOST) -> int:
    """Return the largest batch from 1 to ``most`` that fits, 0 when none does.

    Doubling until one does not fit, then bisection: at most 2 log2(most) + 1 tries. Wherever a batch fits, smaller ones
    must.
    """
    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@dataclass
class _Search:
    """Tries batches of one case."""

    case: Case
    probe: _Probe
    failures: dict[int, Failure] = field(default_factory=dict)

    def fits(self, batch: int) -> bool:
        failed = self.probe(replace(self.case, batch=batch))
        if failed is not None:
            self.failures[batch] = failed
        return failed is None

    def limit(self) -> str:
        """What the smallest batch that failed says, where it is not that memory ran out."""
        if not self.failures:
            return ""
        least = min(self.failures)
        failed = self.failures[least]
        if failed.status == "oom":
            return ""
        return f" ({least} ran out of time)" if failed.status == "timeout" else f" ({least} fails: {failed.reason})"


def _resolve(
    cases: Sequence[Case], probe: _Probe, earlier: Iterable[Case], say: Callable[[str], None], memory_limit: int | None
) -> tuple[Case, ...]:
    """Return ``cases`` with every ``max`` replaced by the largest batch that fits.

    A case of which not even one image works keeps batch 1: its visit then says why.

    Args:
        cases: From ``profiler.plan.cases.expand``; those to search for have ``batch_asked``.
        probe: Tries one.
        earlier: Cases of the run that is resumed: their batches were found before.
        say: Tells the user what was found.
        memory_limit: Bytes that a visit may take; on a CPU only this makes a batch too large.

    Raises:
        UserError: A case runs on the CPU and there is no limit.
    """
    known = {replace(case, batch=1): case for case in earlier if case.batch_asked}
    asked = [case for case in cases if case.batch_asked]
    if memory_limit is None and any(case.placement.device_type == "cpu" for case in asked):
        raise UserError(
            "--batch max on the CPU would exhaust this machine: say how much a visit may take, as --memory-limit 4GiB"
        )
    return tuple((known.get(case) or _found(case, probe, say)) if case.batch_asked else case for case in cases)


def _found(case: Case, probe: _Probe, say: Callable[[str], None]) -> Case:
    search = _Search(case, probe)
    batch = _largest(search.fits)
    if batch:
        say(f"{case.network} · {case.backend} · {case.mode}: the largest batch that fits is {batch}{search.limit()}")
    return replace(case, batch=max(1, batch))


def with_batches(
    cases: Sequence[Case], folder: Path, lab: Lab, say: Callable[[str], None], resume: bool
) -> Sequence[Case]:
    """Return ``cases`` with the largest batch that fits where the plan says ``max``.

    Args:
        cases: From ``profiler.plan.cases.expand``.
        folder: Of the run; with ``resume`` its earlier cases keep the batches that were found for them.
        lab: Of the run, whose limits a batch must fit.
        say: Tells the user what was found.
        resume: The run goes on.

    Raises:
        UserError: A case runs on the CPU and nothing limits its memory.
    """
    if not any(case.batch_asked for case in cases):
        return cases
    earlier = read(folder).planned if resume and (folder / NAME).is_file() else ()
    limit = max((lab.limits(case.placement).memory_bytes or 0 for case in cases if case.batch_asked), default=0) or None

    # A visit for latency, as short as it can be: it keeps what forwards free, and so takes more than one for memory.
    samples = max(_PROBED, lab.budget.min_samples)
    brief = replace(lab, budget=replace(lab.budget, visit_s=1e-3, min_samples=samples, warmup_s=1e-3))

    def probe(case: Case) -> Failure | None:
        outcome = one_visit(case, 0, brief).outcome
        return outcome if isinstance(outcome, Failure) else None

    return _resolve(cases, probe, earlier, say, limit)
