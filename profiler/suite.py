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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backends.base import MemoryFormat, Placement, Precision
from profiler.errors import UserError
from profiler.gate import Options, Pair, exit_code, run_suite
from profiler.plan import BackendSpec, Count, DeviceName, Share, sentences
from profiler.subjects import subjects
from profiler.units import parse_duration, parse_share

if TYPE_CHECKING:
    from profiler.gate import Judged

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


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where verdicts go besides the terminal."""

    json: bool = False
    junit: Path | None = None
    markdown: Path | None = None

    def check(self) -> None:
        """Refuse files that cannot be written before anything is measured."""
        for file in (self.junit, self.markdown):
            if file is not None and not file.parent.is_dir():
                raise UserError(f"{file}: the folder {file.parent} does not exist; make it first")


def command(file: str | None, flags: Mapping[str, object], how: Mapping[str, Any], outputs: Outputs) -> int:
    """Judge a suite, or a plan against a stored run; print and write the verdicts and return the exit code."""
    from profiler import verdicts

    def shown(verdict: Judged) -> None:
        if not outputs.json:
            print(verdicts.text(verdict), flush=True)

    outputs.check()
    found = _against(file, flags, how, shown) if how.get("against") else _pairs(file, flags, how, shown)
    verdicts.write(found, outputs.junit, outputs.markdown)
    if outputs.json:
        print(verdicts.as_json(found))
    return exit_code(found)


Shown = Callable[["Judged"], None]


def _pairs(file: str | None, flags: Mapping[str, object], how: Mapping[str, Any], shown: Shown) -> Sequence[Judged]:
    if file is not None and any(flags.get(side) for side in ("baseline", "candidate")):
        raise UserError(f"{file} names pairs already; leave out --baseline and --candidate, or the file")
    pairs = load(Path(file)) if file is not None else from_flags(**flags)
    time = how.get("time")
    options = Options(
        **({"seconds": parse_duration(time)} if time else {}),
        self_test=how.get("self_test", True),
        seed=how.get("seed"),
        baseline_python=how.get("baseline_python"),
    )
    return run_suite(pairs, options, shown)


#: What a plan is told by other names than a pair.
_PLAN_KEYS = {
    "backend": "backends",
    "device": "devices",
    "precision": "precisions",
    "threads": "threads",
    "batch": "batches",
}


def _against(plan: str | None, flags: Mapping[str, object], how: Mapping[str, Any], shown: Shown) -> Sequence[Judged]:
    from profiler import baseline

    if plan is None:
        raise UserError("--against needs the plan to measure, as: profiler gate quick --against results/baseline.jsonl")
    if any(flags.get(side) for side in ("baseline", "candidate", "max_memory_growth")):
        raise UserError("--against compares latencies with a stored run; leave out --baseline, --candidate and memory")
    keys = {_PLAN_KEYS[name]: value for name, value in flags.items() if name in _PLAN_KEYS and value is not None}
    limit = parse_share(str(flags.get("max_slowdown") or "5%"))
    found = baseline.against(how["against"], plan, limit, how.get("out"), flags=keys, resume=how.get("resume", False))
    for verdict in found:
        shown(verdict)
    return found
