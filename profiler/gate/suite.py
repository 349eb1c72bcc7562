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
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from profiler.backends.base import MemoryFormat, Placement, Precision
from profiler.errors import UserError
from profiler.gate.subject import Pair, subjects
from profiler.plan.messages import sentences
from profiler.plan.values import BackendSpec, Count, DeviceName, Share

#: Turns a limit off.
OFF: Literal["off"] = "off"
Limit = Annotated[Share | Literal["off"], Field(union_mode="left_to_right")]


class Settings(BaseModel):
    """How a pair runs and what it may cost; durations and shares may be text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: BackendSpec | None = None
    device: DeviceName = "cpu"
    precision: Precision = "fp32"
    threads: Count = 1
    batch: Count = 1
    memory_format: MemoryFormat = "contiguous"
    max_slowdown: Limit = 0.05
    max_memory_growth: Limit = OFF


class PairKeys(Settings):
    """One table ``[[pair]]``."""

    baseline: str
    candidate: str
    name: str = ""

    def pair(self) -> Pair:
        """Return the pair, its sides checked; raises UserError with one sentence."""
        placement = Placement(self.device, self.precision, self.threads, self.memory_format)
        old, new = subjects(self.baseline, self.candidate, placement, self.backend, self.batch)
        slowdown = None if self.max_slowdown == OFF else self.max_slowdown
        growth = None if self.max_memory_growth == OFF else self.max_memory_growth
        return Pair(old, new, slowdown, growth, self.name)


class _Suite(Settings):
    pair: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]


def _known(kind: type[BaseModel]) -> Callable[[Sequence[int | str]], list[str]]:
    return lambda _: list(kind.model_fields)


def load(file: Path) -> list[Pair]:
    """Read a suite; raises UserError with one sentence for every wrong key."""
    try:
        keys = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; expected a TOML file with [[pair]] tables") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{file}: not readable as TOML: {error}") from error
    try:
        suite = _Suite.model_validate(keys)
    except ValidationError as error:
        raise UserError("\n".join(sentences(error, lambda key: f"{file}: {key}", _known(_Suite)))) from error
    common = {name: value for name, value in keys.items() if name != "pair"}
    return [_pair(common | own, f"{file}: pair[{number}]") for number, own in enumerate(suite.pair)]


def _pair(keys: Mapping[str, Any], where: str) -> Pair:
    try:
        return PairKeys.model_validate(keys).pair()
    except ValidationError as error:
        place = lambda key: f"{where}.{key}" if where else f"--{key.replace('_', '-')}"  # noqa: E731
        raise UserError("\n".join(sentences(error, place, _known(PairKeys)))) from error
    except UserError as error:
        raise UserError(f"{where}: {error}" if where else str(error)) from error


def from_flags(**flags: object) -> list[Pair]:
    """Return the one pair that flags name."""
    given = {name: value for name, value in flags.items() if value is not None}
    for side in ("baseline", "candidate"):
        if side not in given:
            raise UserError(
                f"--{side} is missing: name both sides with --baseline and --candidate, or a TOML file with [[pair]] "
                "tables"
            )
    return [_pair(given, "")]
