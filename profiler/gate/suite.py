"""What ``profiler gate`` is asked: one pair from flags, or several from a TOML file.

max_slowdown = "5%"            # for every pair that says nothing else
backend = "onnxruntime"

[[pair]]
baseline = "old.onnx"
candidate = "new.onnx"

[[pair]]
baseline = "old.onnx"
candidate = "new.onnx"
shapes = "height=320/640,width=320/640"  # of the inputs of both sides: each a pair of its own
input_file = "values.npz"                # their values

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
from profiler.plan.values import BackendSpec, Count, DeviceName, Shapes, Share
from profiler.records.outside import file_bytes, text_of, toml_table

#: Keys that are called otherwise than their flags.
_FLAGS = {"shapes": "--shape", "input_file": "--input"}
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
    shapes: Shapes = ()
    input_file: str = ""


class _PairTable(_Common):
    """One table ``[[pair]]``."""

    baseline: str
    candidate: str
    name: str = ""


def flag_of(key: str) -> str:
    """Return the flag that says the same as a key of a suite."""
    return _FLAGS.get(key, f"--{key.replace('_', '-')}")


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
    return [pair for number, own in enumerate(tables) for pair in _pairs(keys | own, f"{file}: pair[{number}]")]


def _pairs(keys: Mapping[str, Any], where: str) -> list[Pair]:
    """Return a pair for each shape of a table, or of flags where ``where`` is empty."""
    try:
        given = _PairTable.model_validate(keys)
        placement = Placement(given.device, given.precision, given.threads, given.memory_format)
        both = sides(given.baseline, given.candidate, placement, given.backend, given.batch)
        _check_files(*both, values=given.input_file)
    except ValidationError as error:
        place = lambda key: f"{where}.{key}" if where else flag_of(key)  # noqa: E731
        raise UserError("\n".join(sentences(error, place, _known(_PairTable)))) from error
    except UserError as error:
        raise UserError(f"{where}: {error}" if where else str(error)) from error
    return [_pair(given, *both, shape) for shape in given.shapes or ("",)]


def _pair(given: _PairTable, baseline: Side, candidate: Side, shape: str) -> Pair:
    old, new = (side.fed(shape, given.input_file) for side in (baseline, candidate))
    limits = (given.max_slowdown, given.max_memory_growth, given.max_p99)
    slowdown, growth, p99 = (None if limit == _OFF else limit for limit in limits)
    name = f"{given.name} {shape}".strip() if given.name else ""
    return Pair(old, new, slowdown, growth, name, p99, given.allow_different_output, given.allow_different_inputs)


def _check_files(*given: Side, values: str) -> None:
    """Refuse a file that is not there; what a revision holds is seen when it is checked out."""
    if values and not Path(values).is_file():
        raise UserError(f"--input {values}: no such file; expected an .npz file with one array for each input")
    for side in given:
        missing = side.missing_in(Path()) if side.revision is None else None
        if missing is not None:
            raise UserError(missing)


def pairs_of_flags(**flags: object) -> list[Pair]:
    """Return the pair that flags name, for each shape."""
    given = {name: value for name, value in flags.items() if value is not None}
    for side in ("baseline", "candidate"):
        if side not in given:
            raise UserError(
                f"--{side} is missing: name both sides with --baseline and --candidate, or a TOML file with [[pair]] "
                "tables"
            )
    return _pairs(given, "")
