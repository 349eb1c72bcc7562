"""What ``profiler gate`` is asked: one pair from flags, or several from a TOML file.

max_slowdown = "5%"            # for every pair that says nothing else
backend = "onnxruntime"

[[pair]]
baseline = "old.onnx"
candidate = "new.onnx"

[[pair]]
name = "detector"
baseline = "git:origin/main"
candidate = "detector.model:build @eager"
max_slowdown = "3%"
max_memory_growth = "10%"
max_p99 = "20%"                # of the 99th percentile of single calls
allow_different_output = true  # the candidate may compute something else
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from profiler.backends.base import MemoryFormat, Placement, Precision
from profiler.errors import UserError
from profiler.gate.side import Pair, Side, sides
from profiler.plan.messages import sentences
from profiler.plan.values import BackendSpec, Count, DeviceName, Share
from profiler.records.outside import file_bytes, text_of, toml_table

#: Turns a limit off.
_OFF: Literal["off"] = "off"
_Limit = Annotated[Share | Literal["off"], Field(union_mode="left_to_right")]


class _Common(BaseModel):
    """How a pair runs and what it may cost; durations and shares may be text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: BackendSpec | None = None
    device: DeviceName = "cpu"
    precision: Precision = "fp32"
    threads: Count = 1
    batch: Count = 1
    memory_format: MemoryFormat = "contiguous"
    max_slowdown: _Limit = 0.05
    max_memory_growth: _Limit = _OFF
    max_p99: _Limit = _OFF
    allow_different_output: bool = False
    allow_different_inputs: bool = False


class _PairTable(_Common):
    """One table ``[[pair]]``."""

    baseline: str
    candidate: str
    name: str = ""


def _known(kind: type[BaseModel], *others: str) -> Callable[[Sequence[int | str]], list[str]]:
    return lambda _: [*kind.model_fields, *others]


def load_suite(file: Path) -> list[Pair]:
    """Read a suite; raises UserError with one sentence for every wrong key."""
    try:
        keys = toml_table(text_of(file_bytes(file)))
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; expected a TOML file with [[pair]] tables") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{file}: not readable as TOML ({reason}); expected [[pair]] tables") from error
    tables = keys.pop("pair", None)
    try:
        _Common.model_validate(keys)
    except ValidationError as error:
        raise UserError("\n".join(sentences(error, lambda key: f"{file}: {key}", _known(_Common, "pair")))) from error
    if not (isinstance(tables, list) and tables and all(isinstance(table, dict) for table in tables)):
        raise UserError(f"{file}: pair: expected one table [[pair]] at least")
    return [_pair(keys | own, f"{file}: pair[{number}]") for number, own in enumerate(tables)]


def _pair(keys: Mapping[str, Any], where: str) -> Pair:
    try:
        given = _PairTable.model_validate(keys)
        placement = Placement(given.device, given.precision, given.threads, given.memory_format)
        old, new = sides(given.baseline, given.candidate, placement, given.backend, given.batch)
        _check_files(old, new)
    except ValidationError as error:
        place = lambda key: f"{where}.{key}" if where else f"--{key.replace('_', '-')}"  # noqa: E731
        raise UserError("\n".join(sentences(error, place, _known(_PairTable)))) from error
    except UserError as error:
        raise UserError(f"{where}: {error}" if where else str(error)) from error
    limits = (given.max_slowdown, given.max_memory_growth, given.max_p99)
    slowdown, growth, p99 = (None if limit == _OFF else limit for limit in limits)
    return Pair(old, new, slowdown, growth, given.name, p99, given.allow_different_output, given.allow_different_inputs)


def _check_files(*given: Side) -> None:
    """Refuse a file that is not there; what a revision holds is seen when it is checked out."""
    for side in given:
        missing = side.missing_in(Path()) if side.revision is None else None
        if missing is not None:
            raise UserError(missing)


def pair_of_flags(**flags: object) -> Pair:
    """Return the one pair that flags name."""
    given = {name: value for name, value in flags.items() if value is not None}
    for side in ("baseline", "candidate"):
        if side not in given:
            raise UserError(
                f"--{side} is missing: name both sides with --baseline and --candidate, or a TOML file with [[pair]] "
                "tables"
            )
    return _pair(given, "")
