"""What a driver and the workers of a fleet say to each other: JSON of plain types, each checked where it is read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, Literal, TypeAlias

import pydantic

from profiler.records.lines import dump, parse_record
from profiler.records.types import Budget, Case, Feed, Pass, Record
from profiler.run.processes import Isolation

#: Under which a worker tells the scheduler of itself; raised where what is said here changes its meaning.
SUBJECT = "profiler-1"


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a worker says of itself once, when it comes to the scheduler.

    Attributes:
        label: Of its machine; plans name it as a device.
        device: That it measures on.
        together: Whether it measures while other workers of its host do.
        node: Names the host: two workers with the same are not asked at once.
        hostname: As people call it.
        host: Facts of the machine, see ``profiler.machine.host``.
        key: Of the machine.
        versions: Of the profiler and the runtimes.
    """

    label: str
    device: str
    together: bool
    node: str
    hostname: str
    host: dict[str, str | int | float | None]
    key: str
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Parcel:
    """Files that a model is read from, by content.

    Attributes:
        files: Digest of each, by its path inside of a folder.
        model: Name of the model when it is read from that folder; empty where its name says all.
        input_file: Path of the file with its inputs in that folder; empty for none.
    """

    files: dict[str, str] = field(default_factory=dict)
    model: str = ""
    input_file: str = ""


@dataclass(frozen=True, slots=True)
class Errand:
    """One visit that a worker is asked for.

    Attributes:
        case: As the driver knows it.
        number: Of the visit.
        measures: What the visit is for.
        budget: Of the run.
        feed: The epoch asked about.
        parcel: What has to be there.
        memory_bytes: That the visit's process may take.
        pin: Pin it to as many cores as it has threads.
        isolation: How the process starts.
    """

    case: Case
    number: int
    measures: Pass
    budget: Budget
    feed: Feed
    parcel: Parcel = Parcel()
    memory_bytes: int | None = None
    pin: bool = False
    isolation: Isolation | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """The worker has not all files of a parcel: their digests."""

    digests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """No fault of the case: the worker cannot make visits now, and why."""

    reason: str


Answer: TypeAlias = Record | Missing | Lost


def to_text(value: Errand | Introduction) -> str:
    """Return JSON that ``from_text`` reads back."""
    return json.dumps(asdict(value), ensure_ascii=False, separators=(",", ":"))


@cache
def _errands() -> pydantic.TypeAdapter[Errand]:
    return pydantic.TypeAdapter(Errand)


@cache
def _introductions() -> pydantic.TypeAdapter[Introduction]:
    return pydantic.TypeAdapter(Introduction)


def errand_of(text: str) -> Errand:
    """Return what a driver asks for; raises ValueError for what is no errand."""
    return _errands().validate_json(text, strict=True)


def introduction_of(said: object) -> Introduction:
    """Return what a worker says of itself; raises ValueError where it is something else."""
    if not isinstance(said, str):
        raise ValueError("no worker that `profiler worker` of this version started")  # noqa: TRY004 - data of others
    return _introductions().validate_json(said, strict=True)


def answered_text(answer: Answer) -> str:
    """Return JSON that ``answer_of`` reads back."""
    if isinstance(answer, Record):
        return dump(answer)
    kind: Literal["missing", "lost"] = "missing" if isinstance(answer, Missing) else "lost"
    return json.dumps({kind: answer.digests if isinstance(answer, Missing) else answer.reason})


def answer_of(text: object) -> Answer:
    """Return what a worker answered; raises ValueError for what is none."""
    if not isinstance(text, str):
        raise ValueError(f"an answer is text, and this is {type(text).__name__}")  # noqa: TRY004 - data of others
    found: Any = json.loads(text)
    if isinstance(found, dict) and isinstance(found.get("lost"), str):
        return Lost(found["lost"])
    if isinstance(found, dict) and isinstance(found.get("missing"), list):
        return Missing(tuple(map(str, found["missing"])))
    return parse_record(text)
