"""``--batch max``: the largest batch that fits, found by bisection; every try is a fresh process.

What fits is what loads and runs a few times within the memory that a visit may take. A batch is never made smaller
than asked: only ``max`` is searched for, and the row says what was asked and what was used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from profiler.errors import UserError
from profiler.records import Case, Failure

#: Batches beyond this are not tried.
MOST = 65_536
#: Failures that a smaller batch may not have.
_TOO_LARGE = ("oom", "timeout")

#: Loads and runs a case in a fresh process; returns why it failed, or None.
Probe = Callable[[Case], Failure | None]


def largest(fits: Callable[[int], bool], most: int = MOST) -> int:
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
    """Tries batches of one case; the first failure that no smaller batch would cure ends it."""

    case: Case
    probe: Probe
    broken: bool = False
    timeouts: list[int] = field(default_factory=list)

    def fits(self, batch: int) -> bool:
        if self.broken:
            return False
        failed = self.probe(replace(self.case, batch=batch))
        if failed is None:
            return True
        self.broken = failed.status not in _TOO_LARGE
        if failed.status == "timeout":
            self.timeouts.append(batch)
        return False


def resolve(
    cases: Sequence[Case], probe: Probe, earlier: Iterable[Case], say: Callable[[str], None], memory_limit: int | None
) -> tuple[Case, ...]:
    """Return ``cases`` with every ``max`` replaced by the largest batch that fits.

    A case of which not even one image fits, or that fails otherwise, keeps batch 1: its visit then says why.

    Args:
        cases: From :func:`profiler.plan.expand`; those to search for have ``batch_asked``.
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


def _found(case: Case, probe: Probe, say: Callable[[str], None]) -> Case:
    search = _Search(case, probe)
    batch = largest(search.fits)
    if batch and not search.broken:
        slow = f" ({min(search.timeouts)} ran out of time)" if search.timeouts else ""
        say(f"{case.network} · {case.backend} · {case.mode}: the largest batch that fits is {batch}{slow}")
    return replace(case, batch=max(1, batch if not search.broken else 1))
