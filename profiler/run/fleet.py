"""A driver's side of a fleet: who is there, and one errand for one worker at a time.

The engine only carries texts. Where its scheduler is gone all errands are lost, and it is looked for again.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from queue import Empty, SimpleQueue
from typing import Any

from profiler import __version__
from profiler.errors import UserError
from profiler.machine import host
from profiler.plan.cases import Site
from profiler.run import agent
from profiler.run.errand import SUBJECT, Answer, Errand, Introduction, Lost, answer_of, introduction_of, to_text
from profiler.run.meeting import Meeting
from profiler.run.serving import GATHERED_S, engine, security_of, words_of

#: How long one question to the scheduler may take, in seconds.
_ASK_S = 10.0
#: How long a file is waited for that a scheduler writes as it starts, in seconds.
_WRITTEN_S = 3.0
#: Runtimes whose versions must be those of the driver: contents and exports depend on them.
_RUNTIMES = ("torch", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Member:
    """A worker that is there.

    Attributes:
        address: Unlike that of any other, also of the same worker started again.
        known: What it says of itself.
        now: The visit that it makes, in words; empty for none.
        visits: That it has made.
        calibrated: When it last measured the nominal time of the reference; empty for never.
        refused: Why it is not asked for visits; empty where it is.
    """

    address: str
    known: Introduction
    now: str = ""
    visits: int = 0
    calibrated: str = ""
    refused: str = ""

    @property
    def said(self) -> str:
        """In words: ``h100 on cuda:0 of node-3``."""
        return f"{self.known.label} on {self.known.device} of {self.known.hostname}"


def unlike_versions(known: Introduction) -> str:
    """Return what of a worker's software is another version than here, by name; empty where nothing is."""
    ours = {"latency-profiler": __version__, **host.versions()}
    pairs = [("latency-profiler", ours["latency-profiler"], known.versions.get("latency-profiler"))]
    pairs += [(name, _runtime(ours, name), _runtime(known.versions, name)) for name in _RUNTIMES]
    differ = [f"{name} is {a} here and {b} there" for name, a, b in pairs if a and b and a != b]
    return "; ".join(differ)


def _runtime(versions: Mapping[str, str], name: str) -> str:
    """Return a version without the build it is of: the same release for CPUs and GPUs is one."""
    return (versions.get(name) or versions.get(f"{name}-gpu") or "").partition("+")[0]


class SchedulerLostError(Exception):
    """The scheduler does not answer any more."""


@dataclass
class _Flight:
    member: str
    future: Any


class Fleet:
    """A connection to a scheduler. Use it as a context manager.

    Args:
        meeting: Where the scheduler is.

    Raises:
        UserError: It cannot be reached, or Dask is not installed.
    """

    def __init__(self, meeting: Meeting) -> None:
        self.meeting = meeting
        self._client: Any = None
        self._flights: dict[int, _Flight] = {}
        self._numbers = itertools.count()
        self._name = uuid.uuid4().hex[:12]
        self._landed: SimpleQueue[int] = SimpleQueue()
        self._answers: deque[tuple[int, Answer | None]] = deque()
        self._over: list[Any] = []
        self.connect()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def connect(self, timeout_s: float = _ASK_S) -> None:
        """Connect, again where the scheduler was lost.

        Raises:
            UserError: It cannot be reached.
        """
        distributed, security = engine(), security_of(self.meeting.tls)
        address = self.meeting.found(min(timeout_s, _WRITTEN_S))
        self.close()
        try:
            self._client = distributed.Client(
                address,
                security=security,
                timeout=timeout_s,
                set_as_default=False,
                # Nothing that a worker returns is unpickled: what is no text and no bytes is an error.
                deserializers=["dask", "msgpack"],
                name="profiler",
            )
        except (OSError, TimeoutError, RuntimeError) as error:
            raise UserError(
                f"no scheduler answers at {address} ({words_of(error)}); expected one there: profiler scheduler"
            ) from error
        with suppress(AttributeError):
            self._client.scheduler_comm.interval = GATHERED_S

    def close(self) -> None:
        """Leave; errands that are under way are given up."""
        client, self._client = self._client, None
        self._flights.clear()
        self._over.clear()
        self._answers.clear()
        if client is not None:
            with suppress(Exception):
                client.close(timeout=2)

    def members(self) -> list[Member]:
        """Return the workers that are there.

        Raises:
            SchedulerLostError: The scheduler does not answer.
        """
        try:
            if self._client is None or self._client.status != "running":
                raise OSError("the connection is closed")
            found = self._client.sync(self._client.scheduler.identity, n_workers=-1, callback_timeout=_ASK_S)
        except Exception as error:
            raise SchedulerLostError(words_of(error)) from error
        return list(_members(found["workers"]))

    def send(self, member: Member, errand: Errand) -> int:
        """Ask a worker for a visit; return the number under which its answer comes."""
        return self._submit(member, agent.make_visit, to_text(errand))

    def send_file(self, member: Member, digest: str, data: bytes) -> int:
        """Send a worker a file; what comes back is nothing, or a ``Lost``."""
        return self._submit(member, agent.keep_file, digest, data)

    def _submit(self, member: Member, function: Callable[..., str], *arguments: object) -> int:
        number = next(self._numbers)
        try:
            future = self._client.submit(
                function,
                *arguments,
                key=f"{self._name}-{number}",
                workers=[member.address],
                allow_other_workers=False,
                pure=False,
                retries=0,
            )
        except Exception as error:
            raise SchedulerLostError(words_of(error)) from error
        self._flights[number] = _Flight(member.address, future)
        future.add_done_callback(lambda _: self._landed.put(number))
        return number

    def landed(self, timeout_s: float) -> tuple[int, Answer | None] | None:
        """Return the next answer with its number, None for that of a file; None where none comes in time."""
        if timeout_s:
            self._release()
        end = time.monotonic() + timeout_s
        while not self._answers:
            try:
                number = self._landed.get(timeout=max(0.0, end - time.monotonic()))
            except Empty:
                return None
            self._fetch([number, *self._others()])
        return self._answers.popleft()

    def _others(self) -> Iterator[int]:
        """Yield those that have landed by now."""
        with suppress(Empty):
            while True:
                yield self._landed.get_nowait()

    def _fetch(self, numbers: Sequence[int]) -> None:
        """Fetch answers, all of them with one question to the scheduler: it takes as long as for one."""
        flights = {number: self._flights.pop(number).future for number in numbers if number in self._flights}
        self._over += flights.values()
        good = [number for number, future in flights.items() if future.status == "finished"]
        try:
            futures = [flights[number] for number in good]
            texts = self._client.sync(partial(self._client.gather, futures, asynchronous=True), callback_timeout=_ASK_S)
        except Exception:  # noqa: BLE001 - one that cannot be had costs none of the others
            good, texts = [], []
        self._answers += zip(good, map(_answer_of, texts), strict=True)
        self._answers += [(number, _answer(future)) for number, future in flights.items() if number not in set(good)]

    def _release(self) -> None:
        """Let the engine forget what was answered; sent before the next errand, that would hold the errand up."""
        over, self._over = self._over, []
        for future in over:
            with suppress(Exception):
                future.release()

    def give_up(self, number: int) -> None:
        """Wait no longer for an answer."""
        flight = self._flights.pop(number, None)
        if flight is not None:
            with suppress(Exception):
                flight.future.cancel()


def _answer(future: Any) -> Answer | None:
    try:
        return _answer_of(future.result(timeout=_ASK_S))
    except Exception as error:  # noqa: BLE001 - whatever the engine raises, no record came
        return Lost(words_of(error))


def _answer_of(text: object) -> Answer | None:
    try:
        return None if text == "" else answer_of(text)
    except ValueError as error:
        return Lost(words_of(error))


#: As many workers as are looked at every second without being read anew.
@lru_cache(maxsize=1 << 14)
def _known(text: str) -> tuple[Introduction, str]:
    """Return what a worker says of itself, and why it is refused; raises ValueError for what is no worker of ours."""
    known = introduction_of(text)
    return known, unlike_versions(known)


def _members(found: Mapping[str, Mapping[str, Any]]) -> Iterator[Member]:
    for address, said in found.items():
        try:
            known, refused = _known(str(said.get(SUBJECT)))
        except ValueError:
            continue
        doing = said.get("metrics", {}).get(SUBJECT) or {}
        now, visits, made = doing.get("now"), doing.get("visits"), doing.get("calibrated")
        visits = visits if isinstance(visits, int) else 0
        yield Member(str(address), known, str(now or ""), visits, str(made or ""), refused)


@contextmanager
def joined(meeting: Meeting) -> Iterator[Fleet]:
    """Connect to a fleet for a while; raises UserError where nobody answers."""
    with Fleet(meeting) as fleet:
        yield fleet


def sites_of(members: list[Member]) -> dict[str, Site]:
    """Return what is measured under each label.

    Raises:
        UserError: Machines of one label are unlike.
    """
    sites: dict[str, Site] = {}
    first: dict[str, Member] = {}
    for member in members:
        known = member.known
        if member.refused:
            continue
        cores = known.host.get("cores")
        site = Site(known.device.partition(":")[0], cores if isinstance(cores, int) else 1, known.key)
        if sites.setdefault(known.label, site) != site:
            other = first[known.label]
            why = host.difference(other.known.host, known.host) or f"{other.known.device} and {known.device}"
            raise UserError(
                f"label {known.label} is of unlike machines, {other.known.hostname} and {known.hostname} ({why}): "
                "start the workers of one of them again with a label of their own"
            )
        first.setdefault(known.label, member)
    return sites
