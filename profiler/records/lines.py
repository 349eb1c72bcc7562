"""The lines of a journal: a session or a visit as text, and back; what a line says is used only where all can be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Annotated, Any

import pydantic

from profiler.models.complexity import Complexity
from profiler.records.nominal import Calibration
from profiler.records.outside import checked, json_of
from profiler.records.ranges import MOST, Count, Name
from profiler.records.types import SCHEMA, Budget, Case, Epoch, Failure, Measurement, Memory, Pass, Record


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


class NewerError(ValueError):
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


#: How a visit's line begins.
_VISIT = b'{"kind":"visit","record":'


def entry_of(line: bytes) -> RunSession | Record:
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
        raise NewerError(
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
