"""``--batch max``: the largest batch that fits, found by bisection; every try is a fresh process.

What fits is what loads and runs a few times within the memory that a visit may take. A batch that fails where a smaller
one worked is too large, whatever it says: libraries have many words for memory that ran out, and limits of other kinds.
A batch is never made smaller than asked: only ``max`` is searched for, and the row says what was asked and used.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from profiler.errors import UserError
from profiler.records.reading import NAME, read
from profiler.records.types import Budget, Case, Failure
from profiler.run.lab import Lab, one_visit

#: Forwards timed by a visit that looks for the largest batch, at least: what forwards free is kept, in pieces, and the
#: next ones may need more. After one, every fourth to tenth batch that had just fitted did not fit its visit.
_PROBED = 8


#: Batches beyond this are not tried.
_MOST = 65_536
#: Loads and runs cases, each in a fresh process; returns why each failed, or None.
Probe = Callable[[Sequence[Case]], Sequence[Failure | None]]


def _largest(most: int = _MOST) -> Generator[int, bool, int]:
    """Ask for batches, each sent whether it fits; return the largest from 1 to ``most`` that does, 0 when none does.

    Doubling until one does not fit, then bisection: at most 2 log2(most) + 1 tries. Wherever a batch fits, smaller ones
    must.
    """
    low, high = 0, 1
    while high <= most and (yield high):
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if (yield middle) else (low, middle)
    return low


@dataclass
class _Search:
    """Tries batches of one case."""

    case: Case
    tries: Generator[int, bool, int] = field(default_factory=_largest)
    failures: dict[int, Failure] = field(default_factory=dict)
    batch: int = 0
    over: bool = False

    def __post_init__(self) -> None:
        self.batch = next(self.tries)

    @property
    def tried(self) -> Case:
        """The case with the batch that is tried next."""
        return replace(self.case, batch=self.batch)

    def hear(self, failed: Failure | None) -> None:
        """Hear what came of it."""
        if failed is not None:
            self.failures[self.batch] = failed
        try:
            self.batch = self.tries.send(failed is None)
        except StopIteration as found:
            self.batch, self.over = found.value, True

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
    cases: Sequence[Case], probe: Probe, earlier: Iterable[Case], say: Callable[[str], None], memory_limit: int | None
) -> tuple[Case, ...]:
    """Return ``cases`` with every ``max`` replaced by the largest batch that fits.

    A case of which not even one image works keeps batch 1: its visit then says why.

    Args:
        cases: From ``profiler.plan.cases.expand``; those to search for have ``batch_asked``.
        probe: Tries some.
        earlier: Cases of the run that is resumed: their batches were found before.
        say: Tells the user what was found.
        memory_limit: Bytes that a visit may take; on a CPU only this makes a batch too large.

    Raises:
        UserError: A case runs on the CPU and there is no limit.
    """
    known = {replace(case, batch=1, content=""): replace(case, content="") for case in earlier if case.batch_asked}
    asked = [case for case in cases if case.batch_asked]
    if memory_limit is None and any(case.placement.device_type == "cpu" for case in asked):
        raise UserError(
            "--batch max on the CPU would exhaust the machine: say how much a visit may take, as --memory-limit 4GiB"
        )
    searches = [_Search(case) for case in asked if case not in known]
    while trying := [search for search in searches if not search.over]:
        for search, failed in zip(trying, probe([search.tried for search in trying]), strict=True):
            search.hear(failed)
            if search.over and search.batch:
                say(_said(search))
    found = {search.case: replace(search.case, batch=max(1, search.batch)) for search in searches} | known
    return tuple(found[case] if case.batch_asked else case for case in cases)


def _said(search: _Search) -> str:
    case = search.case
    on = f"{case.fleet_label}: " if case.fleet_label else ""
    which = f"{on}{case.network} · {case.backend} · {case.mode}"
    return f"{which}: the largest batch that fits is {search.batch}{search.limit()}"


def with_batches(
    cases: Sequence[Case], folder: Path, lab: Lab, say: Callable[[str], None], resume: bool, probe: Probe | None = None
) -> Sequence[Case]:
    """Return ``cases`` with the largest batch that fits where the plan says ``max``.

    Args:
        cases: From ``profiler.plan.cases.expand``.
        folder: Of the run; with ``resume`` its earlier cases keep the batches that were found for them.
        lab: Of the run, whose limits a batch must fit.
        say: Tells the user what was found.
        resume: The run goes on.
        probe: Tries batches; None tries them here, one after the other.

    Raises:
        UserError: A case runs on the CPU and nothing limits its memory.
    """
    if not any(case.batch_asked for case in cases):
        return cases
    earlier = read(folder).planned if resume and (folder / NAME).is_file() else ()
    limit = max((lab.limits(case.placement).memory_bytes or 0 for case in cases if case.batch_asked), default=0) or None
    brief = replace(lab, budget=brief_budget(lab.budget))

    def here(tried: Sequence[Case]) -> list[Failure | None]:
        outcomes = [one_visit(case, 0, brief).outcome for case in tried]
        return [outcome if isinstance(outcome, Failure) else None for outcome in outcomes]

    return _resolve(cases, probe or here, earlier, say, limit)


def brief_budget(budget: Budget) -> Budget:
    """Return the budget of a visit that tries a batch: for latency, as short as it can be.

    It keeps what forwards free, and so takes more than one for memory.
    """
    return replace(budget, visit_s=1e-3, min_samples=max(_PROBED, budget.min_samples), warmup_s=1e-3, rounds=1)
