"""Read journals, those cut short or damaged included: what a line says is used only where all of it can be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import pydantic

from profiler.errors import UserError
from profiler.models.complexity import Complexity
from profiler.records.nominal import Calibration
from profiler.records.outside import checked, file_bytes, is_folder, json_of, problem
from profiler.records.ranges import MOST, Count, Name
from profiler.records.types import SCHEMA, Budget, Case, Epoch, Failure, Measurement, Memory, Pass, Record

NAME = "journal.jsonl"

#: Damaged lines that are named one by one.
_NAMED = 5


def _usable(kept: object) -> dict[str, Calibration]:
    """Return the calibrations among what was kept; what is none is measured anew."""
    found: dict[str, Calibration] = {}
    for name, values in kept.items() if isinstance(kept, dict) else ():
        with suppress(ValueError):
            found[name] = checked(Calibration, values)
    return found


class _Facts(pydantic.BaseModel):
    """What a session knew, as far as anything uses it."""

    cases: tuple[Case, ...] = ()
    budget: Budget = Budget()
    calibrations: Annotated[dict[str, Calibration], pydantic.PlainValidator(_usable)] = {}
    host: dict[str, Any] = {}
    hosts: dict[str, dict[str, Any]] = {}
    versions: dict[str, str] = {}
    argv: list[str] = []
    seed: Count = 0
    reference: Count = 0
    plan: str = ""
    digest: Name = ""
    started: Name = ""


@dataclass(frozen=True, slots=True)
class RunSession:
    """One start of ``profiler run`` in this folder.

    Attributes:
        pid: Process that wrote the line.
        facts: What the run knew then: host, versions, argv, seed, plan, digest, started, cases, budget, calibrations;
            any may be missing. Those that are there are what they should be.
        schema: Version of the format, as in ``Record``.
    """

    pid: int
    facts: Mapping[str, Any]
    schema: int = SCHEMA

    @property
    def host(self) -> Mapping[str, Any]:
        """Facts of the machine; empty when they were not recorded."""
        host: Mapping[str, Any] = self.facts.get("host", {})
        return host

    @property
    def hosts(self) -> Mapping[str, Mapping[str, Any]]:
        """Facts of every machine of a fleet by its key; of this machine alone where there is no fleet."""
        hosts: Mapping[str, Mapping[str, Any]] = self.facts.get("hosts", {})
        return hosts or {str(self.host.get("key")): self.host}

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of what was installed; empty when they were not recorded."""
        versions: Mapping[str, str] = self.facts.get("versions", {})
        return versions

    @property
    def cases(self) -> tuple[Case, ...]:
        """Its cases in plan order, measured or not."""
        cases: tuple[Case, ...] = self.facts.get("cases", ())
        return cases

    @property
    def budget(self) -> Budget:
        """Its budget; fields that it lacks at their defaults."""
        budget: Budget = self.facts.get("budget", Budget())
        return budget

    @property
    def calibrations(self) -> Mapping[str, Calibration]:
        """The calibrations of an earlier run that it was given, under their names."""
        calibrations: Mapping[str, Calibration] = self.facts.get("calibrations", {})
        return calibrations

    @property
    def started(self) -> str:
        """UTC time, ISO 8601; empty when it was not recorded."""
        return str(self.facts.get("started", ""))


@dataclass(frozen=True, slots=True)
class Run:
    """All that a journal says.

    Attributes:
        path: The journal.
        sessions: In the order of their start.
        records: In the order in which they were measured, each once.
        notices: One sentence for each line that could not be read, as far as they are few.
        size: Bytes up to the end of the last whole line; what follows is torn.
        adrift: Visits before the first session: nothing says of which plan and machine they are.
        newer: The sentence for the first line that a newer version wrote; empty where none did.
    """

    path: Path
    sessions: tuple[RunSession, ...] = ()
    records: tuple[Record, ...] = ()
    notices: tuple[str, ...] = ()
    size: int = 0
    adrift: int = 0
    newer: str = ""

    @property
    def by_case(self) -> dict[str, tuple[Record, ...]]:
        """Visits of each case under its key, cases in the order of their first visit."""
        groups: dict[str, list[Record]] = {}
        for record in self.records:
            groups.setdefault(record.case.key, []).append(record)
        return {key: tuple(group) for key, group in groups.items()}

    @property
    def planned(self) -> tuple[Case, ...]:
        """Cases of the last session, in plan order, measured or not."""
        return self.sessions[-1].cases if self.sessions else ()

    @property
    def budget(self) -> Budget:
        """The budget of the last session."""
        return self.sessions[-1].budget if self.sessions else Budget()


class _NewerError(ValueError):
    """A later version of this program wrote the line."""


@cache
def _records() -> pydantic.TypeAdapter[Record]:
    return pydantic.TypeAdapter(Record)


def dump(record: Record) -> str:
    """One record as JSON text without line breaks; floats keep every digit, also NaN and the infinities."""
    return json.dumps(asdict(record), ensure_ascii=False, separators=(",", ":"))


def parse_record(text: str | bytes) -> Record:
    """The record that ``dump`` wrote, equal to the last bit.

    Raises:
        ValueError: The text is no JSON, a field is missing, of another type or out of its range, or two contradict.
    """
    record = _records().validate_json(text, strict=True)
    for wrong in _contradictions(record):
        raise ValueError(wrong)
    return record


def _contradictions(record: Record) -> list[str]:
    """What no field says by itself: numbers of other modules' types, and what must fit together."""
    case, outcome = record.case, record.outcome
    wrong = _of_complexity(record.complexity) if record.complexity else []
    if not 1 <= case.placement.threads <= MOST:
        wrong.append(f"case.placement.threads: {case.placement.threads}: expected 1 or more")
    if not isinstance(outcome, Failure | _MADE_BY[record.measures]):
        wrong.append(f"a visit for {record.measures} brings no {type(outcome).__name__}")
    if isinstance(outcome, Measurement):
        wrong += _of_measurement(outcome)
    if isinstance(outcome, Epoch) and not len(outcome.step_ns) == len(outcome.loader_ns) == len(outcome.joint_ns) > 0:
        wrong.append("outcome: steps, loader and both together need as many blocks each, and one at least")
    return wrong


_MADE_BY: Mapping[Pass, type] = {"latency": Measurement, "memory": Memory, "epoch": Epoch}


def _of_complexity(counted: Complexity) -> list[str]:
    counts = {field.name: getattr(counted, field.name) for field in fields(counted)}
    odd = {name: n for name, n in counts.items() if isinstance(n, int) and not 0 <= n <= MOST}
    return [f"complexity.{name}: {n}: expected a count from 0" for name, n in odd.items()]


def _of_measurement(made: Measurement) -> list[str]:
    blocks, references, waits = len(made.samples_ns), len(made.reference_ns), len(made.core_wait_ns)
    wrong = []
    if not blocks or not all((*made.samples_ns, *made.reference_ns, *made.parts_ns.values())):
        wrong.append("outcome: a block without a time")
    if references not in (0, blocks + 1):
        wrong.append(f"outcome.reference_ns: {references} blocks: expected {blocks + 1}, or none")
    if waits not in (0, blocks):
        wrong.append(f"outcome.core_wait_ns: {waits} numbers: expected {blocks}, or none")
    return wrong


def _journal_path(path: Path) -> Path:
    """The journal of a run, given its folder or the file itself.

    Raises:
        UserError: There is none.
    """
    journal = path / NAME if is_folder(path) else path
    try:
        journal.stat()
    except OSError as error:
        raise UserError(
            f"{path} holds no run: expected a folder with {NAME} in it, as `profiler run` leaves one."
        ) from error
    return journal


def read(path: Path) -> Run:
    """Read a run while it grows or after it ended; takes no lock.

    A torn last line is left out, and so is a line in the middle that cannot be read; each gives a notice. A line that
    of a visit that stands there twice counts once.

    Raises:
        UserError: There is no journal, it cannot be read, or it is all of a newer version.
    """
    journal = _journal_path(path)
    try:
        data = file_bytes(journal)
    except OSError as error:
        raise UserError(f"{journal} cannot be read ({error.strerror}); expected a run's journal.") from error
    size = data.rfind(b"\n") + 1
    return _Lines(journal).all(data[:size], len(data) - size)


class _Lines:
    """The lines of one journal, on their way to a ``Run``."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._sessions: list[RunSession] = []
        self._records: list[Record] = []
        self._visits: set[bytes] = set()
        self._twice = 0
        self._damaged: list[str] = []
        self._newer = ""
        self._adrift = 0

    def all(self, data: bytes, torn: int) -> Run:
        """Read whole lines; ``torn`` bytes follow them.

        Raises:
            UserError: There is nothing but what a newer version wrote.
        """
        for number, line in enumerate(BytesIO(data.removeprefix(b"\xef\xbb\xbf")), 1):
            self._add(line.removesuffix(b"\n"), f"{self._journal}:{number}")
        if self._newer and not (self._sessions or self._records):
            raise UserError(self._newer)
        notices = self._damaged[:_NAMED]
        if len(self._damaged) > _NAMED:
            notices.append(
                f"{self._journal}: {len(self._damaged) - _NAMED} further lines are damaged and were skipped."
            )
        if self._twice:
            notices.append(f"{self._journal}: {self._twice} visits stand there twice, and count once.")
        if torn:
            notices.append(f"{self._journal}: the last line was cut off after {torn} bytes and was left out.")
        return Run(
            self._journal,
            tuple(self._sessions),
            tuple(self._records),
            tuple(notices),
            len(data),
            self._adrift,
            self._newer,
        )

    def _add(self, line: bytes, where: str) -> None:
        try:
            entry = _entry(line)
        except _NewerError as error:
            self._newer = self._newer or f"{where} {error}"
            self._damaged.append(f"{where} {error}")
        except ValueError as error:
            self._damaged.append(f"{where}: this line is damaged and was skipped ({_first_line(error)}).")
        else:
            if isinstance(entry, RunSession):
                self._sessions.append(entry)
            elif (digest := hashlib.blake2b(line, digest_size=16).digest()) in self._visits:
                self._twice += 1
            else:
                self._visits.add(digest)
                self._records.append(entry)
                self._adrift += not self._sessions


#: How a visit's line begins.
_VISIT = b'{"kind":"visit","record":'


def _entry(line: bytes) -> RunSession | Record:
    """One whole line; raises ValueError for a damaged one."""
    if line.startswith(_VISIT):  # as nearly all do: what is wrong with another one is found slowly
        with suppress(ValueError):
            record = parse_record(line[len(_VISIT) : -1])
            if record.schema <= SCHEMA:
                return record
    raw = json_of(line)
    if not isinstance(raw, dict):
        raise ValueError("not an object")  # noqa: TRY004 - damaged data, handled like any other
    body = raw.get("record") if raw.get("kind") == "visit" else raw
    schema = body.get("schema") if isinstance(body, dict) else None
    if not isinstance(schema, int):
        raise ValueError("no schema version")  # noqa: TRY004
    if schema > SCHEMA:
        raise _NewerError(
            f"was written with schema {schema}, and this version reads up to {SCHEMA}; "
            "upgrade latency-profiler to read it."
        )
    if raw.get("kind") == "visit":
        return parse_record(json.dumps(body))
    if raw.get("kind") == "session" and isinstance(raw.get("facts"), dict) and isinstance(raw.get("pid"), int):
        known = _Facts.model_validate_json(json.dumps(raw["facts"]), strict=True)
        used = {name: getattr(known, name) for name in known.model_fields_set}
        return RunSession(raw["pid"], raw["facts"] | used, schema)
    raise ValueError(f"neither a session nor a visit: kind {raw.get('kind')!r:.60}")


def _first_line(error: ValueError) -> str:
    return problem(error) if isinstance(error, pydantic.ValidationError) else str(error).partition("\n")[0]
