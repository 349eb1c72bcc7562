"""``profiler gate``: two sides of each pair in a suite, and a verdict."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Exit, Option

from profiler.cli.completing import backend_names
from profiler.cli.options import InputFile, Json, LockClocks, Many, Shape, warn
from profiler.errors import UserError
from profiler.gate.contest import SECONDS
from profiler.gate.judge import judge_pairs
from profiler.gate.suite import flag_of, load_suite, pairs_of_flags
from profiler.gate.verdict import exit_code
from profiler.machine import host
from profiler.plan.read import load, override
from profiler.records.crowding import crowds
from profiler.run.clocks import checked_clock, held_clocks
from profiler.units import parse_duration, parse_share

if TYPE_CHECKING:
    from profiler.gate.verdict import Verdict


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
    from profiler.report import verdicts

    def shown(verdict: Verdict) -> None:
        if not outputs.json:
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
            print(verdicts.text(verdict, width), flush=True)

    outputs.check()
    found = _against(file, flags, how, shown) if how.get("against") else _pairs(file, flags, how, shown)
    verdicts.write(found, outputs.junit, outputs.markdown)
    if outputs.json:
        print(verdicts.as_json(found))
    return exit_code(found)


Shown = Callable[["Verdict"], None]


def _pairs(file: str | None, flags: Mapping[str, object], how: Mapping[str, Any], shown: Shown) -> Sequence[Verdict]:
    given = [name for name, value in flags.items() if value is not None]
    if file is not None and given:
        name = given[0]
        raise UserError(
            f"{file} names pairs already; leave out {flag_of(name)} (in the file it is {name}), or the file"
        )
    pairs = load_suite(Path(file)) if file is not None else pairs_of_flags(**flags)
    for crowd in crowds((pair.candidate.case for pair in pairs), host.usable_cores()):
        print(crowd, file=sys.stderr)
    time = how.get("time")
    places = [side.case.placement.device for pair in pairs for side in (pair.baseline, pair.candidate)]
    with held_clocks(how.get("lock_clocks"), places, warn):
        return judge_pairs(
            pairs,
            seed=how.get("seed"),
            seconds=parse_duration(time) if time else SECONDS,
            self_test=how.get("self_test", True),
            baseline_python=how.get("baseline_python"),
            after=shown,
        )


_ALLOWED = ("allow_different_output", "allow_different_inputs")
#: What a plan is told by other names than a pair.
_PLAN_KEYS = {
    "backend": "backends",
    "device": "devices",
    "precision": "precisions",
    "threads": "threads",
    "batch": "batches",
    "shapes": "shapes",
    "input_file": "input_file",
}


def _against(plan: str | None, flags: Mapping[str, object], how: Mapping[str, Any], shown: Shown) -> Sequence[Verdict]:
    from profiler.gate.against import against

    if plan is None:
        raise UserError("--against needs the plan to measure, as: profiler gate quick --against results/baseline.jsonl")
    for name in ("baseline", "candidate", "max_memory_growth", "max_p99", *_ALLOWED):
        if flags.get(name):
            raise UserError(f"--against compares latencies with a stored run; leave out --{name.replace('_', '-')}")
    keys = {_PLAN_KEYS[name]: value for name, value in flags.items() if name in _PLAN_KEYS and value is not None}
    limit = parse_share(str(flags.get("max_slowdown") or "5%"))
    places = override(load(plan), **keys).devices
    with held_clocks(how.get("lock_clocks"), places, warn):
        found = against(how["against"], plan, limit, how.get("out"), flags=keys, resume=how.get("resume", False))
    for verdict in found:
        shown(verdict)
    return found


_Suite = Annotated[
    str | None, Argument(metavar="[SUITE]", help="A TOML file with [[pair]] tables; with --against, a plan.")
]
_Baseline = Annotated[
    Many,
    Option("--baseline", metavar="A", help="MODEL [RULE xS] [@BACKEND], or git:REF [MODEL].", show_default=False),
]
_Slowdown = Annotated[
    Many, Option("--max-slowdown", metavar="5%", help="The slow-down that must be caught [5%], or off.")
]
_Growth = Annotated[
    Many, Option("--max-memory-growth", metavar="10%", help="The growth of peak memory that fails [off].")
]
_Tail = Annotated[
    Many, Option("--max-p99", metavar="20%", help="The growth of the 99th percentile of calls that fails [off].")
]
_Output = Annotated[
    bool, Option("--allow-different-output", help="Compare sides of which one computes something else.")
]
_Inputs = Annotated[
    bool, Option("--allow-different-inputs", help="Compare sides that take inputs of other names, types or shapes.")
]
_Against = Annotated[
    Path | None, Option("--against", metavar="FILE", help="Compare a plan, measured now, with a stored run.")
]
_Time = Annotated[Many, Option("--time", metavar="5min", help="A trial begins no look that would end after this.")]
_SelfTest = Annotated[
    bool, Option("--self-test/--no-self-test", help="Compare the baseline with itself first, once per machine.")
]
_Python = Annotated[Many, Option("--baseline-python", metavar="FILE", help="Interpreter of a git: baseline.")]


def gate_command(
    suite: _Suite = None,
    baseline: _Baseline = None,
    candidate: Annotated[Many, Option("--candidate", metavar="B", help="As --baseline.")] = None,
    max_slowdown: _Slowdown = None,
    max_memory_growth: _Growth = None,
    max_p99: _Tail = None,
    allow_different_output: _Output = False,
    allow_different_inputs: _Inputs = False,
    against: _Against = None,
    backend: Annotated[
        Many, Option("--backend", metavar="B", help="Of sides that name none.", autocompletion=backend_names)
    ] = None,
    device: Annotated[Many, Option("--device", metavar="D", help="cpu, cuda:0, ...")] = None,
    precision: Annotated[Many, Option("--precision", metavar="P", help="fp32, tf32, fp16 or bf16.")] = None,
    threads: Annotated[int | None, Option("--threads", metavar="N", help="Threads [1].")] = None,
    batch: Annotated[int | None, Option("--batch", metavar="N", help="Images per forward [1].")] = None,
    shape: Shape = None,
    input_file: InputFile = None,
    time: _Time = None,
    self_test: _SelfTest = True,
    baseline_python: _Python = None,
    lock_clocks: LockClocks = None,
    seed: Annotated[int | None, Option("--seed", metavar="N", help="Seed of the order within blocks.")] = None,
    out: Annotated[Path | None, Option("--out", metavar="DIR", help="With --against: folder of the run.")] = None,
    resume: Annotated[bool, Option("--resume", help="With --against: continue an interrupted run.")] = False,
    junit: Annotated[Path | None, Option("--junit", metavar="FILE", help="Write JUnit XML.")] = None,
    markdown: Annotated[Path | None, Option("--markdown", metavar="FILE", help="Write a markdown table.")] = None,
    json: Json = False,
) -> None:
    """Judge a suite, one pair, or a plan against a stored run."""
    sides = {"baseline": baseline, "candidate": candidate}
    limits = {"max_slowdown": max_slowdown, "max_memory_growth": max_memory_growth, "max_p99": max_p99}
    allowed = dict(zip(_ALLOWED, (allow_different_output or None, allow_different_inputs or None), strict=True))
    where = {"backend": backend, "device": device, "precision": precision, "threads": threads, "batch": batch}
    inputs = {"shapes": shape or None, "input_file": input_file}
    trial = {"time": time, "self_test": self_test, "seed": seed, "baseline_python": baseline_python}
    how = {**trial, "against": against, "out": out, "resume": resume, "lock_clocks": checked_clock(lock_clocks)}
    raise Exit(command(suite, {**sides, **limits, **allowed, **where, **inputs}, how, Outputs(json, junit, markdown)))
