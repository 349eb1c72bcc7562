"""Visits on a fleet: one errand for a worker at a time, one for a host, and every record on the disk before the next.

Whatever is lost with a worker, a link or the scheduler is handed out again. A case is blamed for what its own visit
says alone; or where worker after worker was lost while it ran, and then the sentence says so.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from profiler.errors import UserError
from profiler.plan.cases import Site
from profiler.records.types import Failure, Pass, Record
from profiler.run.errand import Answer, Errand, Lost, Missing
from profiler.run.fleet import Fleet, Member, SchedulerLostError
from profiler.run.lab import record
from profiler.run.processes import Isolation
from profiler.run.rounds import Interrupt, Measuring
from profiler.run.travel import Luggage
from profiler.run.turns import Turn, Turns
from profiler.units import format_duration

#: How often it is looked who is there, in seconds.
_LOOK_S = 1.0
#: How long answers are heard before whoever is free is asked again, in seconds.
_HEAR_S = 0.2
#: Workers that may be lost while one case runs before it is blamed; by chance a case is not met so often.
_BLAMED = 5
#: How long a worker is left alone that could not make a visit, in seconds.
_REST_S = 15.0
#: Looks follow each other in a second or so; where they do not for this long this process was stopped, or its machine.
_STILL_S = 30.0


class Awake:
    """A clock in seconds that stands while this process does: after that others need a moment to come back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._last, self._still = clock, clock(), 0.0

    def __call__(self) -> float:
        """Return the time; it is to be asked for again and again."""
        now = self._clock()
        if now - self._last > _STILL_S:
            self._still += now - self._last
        self._last = now
        return now - self._still


class FleetWatcher(Protocol):
    """Whoever is told what becomes of a fleet."""

    def fleet(self, members: Sequence[Member], busy: Mapping[str, str]) -> None:
        """Hear who is there, and what each is asked for, by address."""

    def event(self, sentence: str) -> None:
        """Hear that something was lost or came back."""


@dataclass(frozen=True, slots=True)
class Way:
    """How visits are made on a fleet.

    Attributes:
        sites: By label.
        patience_s: How long a label may be without a worker, and all without a scheduler.
        memory_bytes: That a visit's process may take; None for no limit.
        pin: Pin each visit to as many cores as it has threads.
        isolation: How a visit's process starts.
    """

    sites: Mapping[str, Site]
    patience_s: float
    memory_bytes: int | None = None
    pin: bool = False
    isolation: Isolation | None = None


class _Sent(NamedTuple):
    turn: Turn
    member: Member
    errand: Errand
    began: float
    files: bool = False


@dataclass
class Placing:
    """Measures cases on a fleet; ``__call__`` is what ``measure_into`` takes as ``measure``."""

    fleet: Fleet
    way: Way
    told: FleetWatcher
    clock: Callable[[], float] = field(default_factory=Awake)
    _members: dict[str, Member] = field(default_factory=dict)
    _sent: dict[int, _Sent] = field(default_factory=dict)
    _losses: Counter[str] = field(default_factory=Counter)
    _resting: dict[str, tuple[float, str]] = field(default_factory=dict)
    _seen: dict[str, float] = field(default_factory=dict)
    _looked: float = float("-inf")
    _luggage: Luggage = field(default_factory=Luggage)

    def __call__(self, measuring: Measuring, passes: Sequence[Pass], seconds: float | None) -> str:
        """Make all visits; return why it stopped, "" where they are made."""
        self._measuring = measuring
        now = self.clock()
        self._turns = {label: self._of_label(label, passes, seconds) for label in self.way.sites}
        self._seen = dict.fromkeys(self.way.sites, now)
        with Interrupt().watch() as interrupt:
            while True:
                try:
                    self._look()
                    waiting = [] if interrupt.asked else self._place()
                except SchedulerLostError as lost:
                    if why := self._again(str(lost), interrupt):
                        return why
                    continue
                if not self._sent:
                    if interrupt.asked:
                        return "stopped"
                    if not waiting:
                        return ""
                if why := self._deserted(waiting):
                    return why
                self._land()

    def _of_label(self, label: str, passes: Sequence[Pass], seconds: float | None) -> Turns:
        progress = self._measuring.progress
        own = progress.part([case for case in progress.cases if case.fleet_label == label])
        return Turns(own, passes, self._measuring.seed, seconds, self.clock)

    def _look(self) -> None:
        """See who is there; what was asked of others is lost."""
        if self.clock() - self._looked < _LOOK_S:
            return
        found = {member.address: member for member in self.fleet.members()}
        self._looked = self.clock()
        for member in found.values():
            self._greet(member)
        for number, sent in list(self._sent.items()):
            if sent.member.address not in found:
                self._lose(number, f"{sent.member.said} is gone")
        self._members = found
        self.told.fleet(list(found.values()), {s.member.address: s.turn.case.label for s in self._sent.values()})

    def _greet(self, member: Member) -> None:
        """Refuse a worker that comes later and is unlike those that were there."""
        if member.address in self._members:
            return
        site = self.way.sites.get(member.known.label)
        if site is None:
            return
        if member.refused:
            self.told.event(f"{member.said} is not asked: {member.refused}")
        elif member.known.key != site.host:
            self.told.event(f"{member.said} is not asked: it is a machine unlike the {member.known.label} of this run")

    def _free(self) -> dict[str, list[Member]]:
        """Return the workers of each label that may be asked now."""
        now = self.clock()
        hosts = {s.member.known.node for s in self._sent.values() if not s.member.known.together}
        busy = {s.member.address for s in self._sent.values()}
        free: dict[str, list[Member]] = {label: [] for label in self.way.sites}
        for member in self._members.values():
            known, site = member.known, self.way.sites.get(member.known.label)
            if site is None or member.refused or known.key != site.host:
                continue
            if member.address not in self._resting:
                self._seen[known.label] = now
            elif self._resting[member.address][0] > now:
                continue
            if member.address not in busy and (known.together or known.node not in hosts):
                free[known.label].append(member)
        return free

    def _place(self) -> list[str]:
        """Ask whoever is free; return the labels of which visits are left."""
        free, hosts = self._free(), set[str]()
        left = []
        for label, turns in self._turns.items():
            for member in free[label]:
                if not member.known.together and member.known.node in hosts:
                    continue
                turn = turns.take()
                if turn is None:
                    break
                hosts.add(member.known.node)
                self._send(turn, member)
            if turns.out or self._has_next(turns):
                left.append(label)
        return left

    def _has_next(self, turns: Turns) -> bool:
        """Whether there is a turn for a worker that is not there now."""
        turn = turns.take()
        if turn is not None:
            turns.lost(turn)
        return turn is not None

    def _send(self, turn: Turn, member: Member) -> None:
        measuring = self._measuring
        lab, known = measuring.lab, measuring.lab.described.get(turn.case.key)
        try:
            parcel = self._luggage.parcel(turn.case, known.files if known else ())
        except OSError as error:
            raise UserError(f"model {turn.case.model!r} cannot be sent to {member.said} ({error})") from error
        way = self.way
        errand = Errand(
            turn.case,
            turn.number,
            turn.measures,
            lab.budget,
            lab.feed,
            parcel,
            way.memory_bytes,
            way.pin,
            way.isolation,
        )
        measuring.shown.before(turn.case, turn.number, measuring.progress)
        self._sent[self.fleet.send(member, errand)] = _Sent(turn, member, errand, self.clock())

    def _land(self) -> None:
        """Hear the next answers; they are waited for until it is time to look who is there."""
        landed = self.fleet.landed(max(0.01, self._looked + _LOOK_S - self.clock()))
        end = self.clock() + _HEAR_S
        while landed is not None:
            self._hear(*landed)
            # Of many workers several may have answered; but who is free again must not wait until all are heard.
            landed = self.fleet.landed(0.0) if self.clock() < end else None

    def _hear(self, number: int, answer: Answer | None) -> None:
        """Hear an answer; None is that of a file."""
        sent = self._sent.get(number)
        if sent is None:
            return
        if isinstance(answer, Missing):
            self._forward(number, sent, answer.digests)
        elif answer is None:
            del self._sent[number]
            self._sent[self.fleet.send(sent.member, sent.errand)] = sent
        elif isinstance(answer, Lost):
            self._rest(sent.member, answer.reason)
            self._lose(number, f"{sent.member.said}: {answer.reason}", of_case=False)
        elif answer.case != sent.turn.case or answer.measures != sent.turn.measures:
            self._lose(number, f"{sent.member.said} answered for another case", of_case=False)
        else:
            del self._sent[number]
            self._resting.pop(sent.member.address, None)
            self._keep(answer, sent.turn)

    def _forward(self, number: int, sent: _Sent, digests: Sequence[str]) -> None:
        """Send what is missing, one file; the errand itself goes after it."""
        try:
            data = self._luggage.content(digests[0])
        except (OSError, KeyError) as error:
            raise UserError(f"model {sent.turn.case.model!r} cannot be sent to {sent.member.said} ({error})") from error
        del self._sent[number]
        self._sent[self.fleet.send_file(sent.member, digests[0], data)] = sent

    def _keep(self, answer: Record, turn: Turn) -> None:
        measuring = self._measuring
        known = record(
            turn.case, answer.outcome, measuring.lab, turn.number, turn.measures, answer.started, answer.wall_s
        )
        made = replace(known, host=answer.host, worker=answer.worker)
        at = measuring.journal.append(made)
        measuring.progress.add(made, at)
        self._losses.pop(turn.case.key, None)
        self._turns[turn.case.fleet_label].done(made)
        measuring.shown.after(made)

    def _lose(self, number: int, why: str, *, of_case: bool = True) -> None:
        """Hand a turn out again; blame its case where it has met that too often."""
        sent = self._sent.pop(number)
        self.fleet.give_up(number)
        turn, key = sent.turn, sent.turn.case.key
        self._losses[key] += of_case
        if self._losses[key] < _BLAMED:
            self.told.event(f"{why}; its visit of {turn.case.label} is made again")
            self._turns[turn.case.fleet_label].lost(turn)
            return
        said = f"{_BLAMED} workers were lost, one after the other, while this case ran: try a smaller batch"
        failed = record(turn.case, Failure("crashed", said, why), self._measuring.lab, turn.number, turn.measures)
        self._keep(replace(failed, host=sent.member.known.key, worker=sent.member.known.hostname), turn)

    def _rest(self, member: Member, reason: str) -> None:
        self._resting[member.address] = (self.clock() + _REST_S, reason)

    def _deserted(self, waiting: Sequence[str]) -> str:
        """Return why nothing can go on; empty while something can, or patience lasts."""
        now = self.clock()
        gone = [
            label for label in waiting if now - self._seen[label] > self.way.patience_s and not self._turns[label].out
        ]
        if not gone or self._sent or len(gone) < len(waiting):
            return ""
        reasons = {reason for _, reason in self._resting.values()}
        why = f" ({'; '.join(sorted(reasons))})" if reasons else ""
        waited = format_duration(self.way.patience_s)
        return f"no worker of {', '.join(gone)} could be asked for {waited}{why}"

    def _again(self, why: str, interrupt: Interrupt) -> str:
        """Connect again; return why that failed, empty where it did not."""
        for number in list(self._sent):
            self._lose(number, "the scheduler is gone", of_case=False)
        self.told.event(f"the scheduler at {self.fleet.meeting.said} is gone ({why}); waiting for it")
        end = self.clock() + self.way.patience_s
        while not interrupt.asked:
            try:
                self.fleet.connect(_LOOK_S)
                self._seen = dict.fromkeys(self._seen, self.clock())
                self.told.event("the scheduler is back")
            except UserError as error:
                if self.clock() >= end:
                    return str(error)
                time.sleep(_LOOK_S)
            else:
                return ""
        return "stopped"


def asked_sites(sites: Mapping[str, Site], labels: Sequence[str], known: Collection[str]) -> dict[str, Site]:
    """Return the sites of ``labels``; raises UserError for one without a worker, with the ``known`` ones."""
    if missing := [label for label in labels if label not in sites]:
        there = f"there is {', '.join(sorted(known))}" if known else "there is no worker at all"
        raise UserError(
            f"no worker is labelled {', '.join(missing)} ({there}): start one there with "
            f"`profiler worker --label {missing[0]}`, or name others with --device"
        )
    return {label: sites[label] for label in labels}
