"""What the fixture ``latency_gate`` does in the process of the test: ask, judge, and say it the way pytest does.

A regression is a failed test. What this machine could not tell is shown and passes, and a gate that had nothing to
judge by is a skipped test that says NOT GATED; with ``--latency-require`` both fail.
"""

from __future__ import annotations

import contextlib
import random
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from profiler.errors import UserError
from profiler.gate import checkout
from profiler.gate.blocks import failing
from profiler.gate.contest import SECONDS, apart, opened_side
from profiler.gate.decision import RULE
from profiler.gate.judge import judge_pairs, settle
from profiler.gate.side import Pair, Side
from profiler.gate.tail import TAIL_RULE
from profiler.gate.verdict import Verdict
from profiler.gate.worker import Worker, WorkerError
from profiler.run.preparing import ahead_s
from profiler.testing.arguments import GateCall, Given, side_of
from profiler.testing.budget import BUDGET_RULE, judge_budget
from profiler.testing.rerun import Rerun
from profiler.units import format_share

#: What fails only where it is required to be known.
_UNKNOWN = ("inconclusive", "not gated")


#: How a verdict on latency is reached, by what it is about.
_RULES = {"median": RULE, "p99": TAIL_RULE}


class _NotGatedError(Exception):
    """There is nothing to judge by; the message is one sentence."""


class Gate:
    """The fixture's value: call it once, with the model to be judged."""

    def __init__(self, request: pytest.FixtureRequest, benchmark: Any, note: Callable[[str], None]) -> None:
        """Make the gate of one test; ``note`` keeps a line for the summary of the run."""
        self._item: pytest.Item = request.node
        self._config = request.config
        self._benchmark = benchmark
        self._note = note
        self._used = False
        items = request.session.items
        #: Tests that may raise a false alarm in this run.
        self._among = max(1, sum("latency_gate" in getattr(item, "fixturenames", ()) for item in items))

    def __call__(
        self,
        candidate: str | Given,
        *,
        baseline: str | Given | None = None,
        max_slowdown: float | str | None = 0.05,
        max_memory_growth: float | str | None = None,
        max_latency: str | None = None,
        max_mean: str | None = None,
        max_p99: float | str | None = None,
        allow_different_output: bool = False,
        allow_different_inputs: bool = False,
        shape: str = "",
        input_file: str = "",
    ) -> None:
        """Fail the test when ``candidate`` is too slow.

        Args:
            candidate: A model from ``profiler.testing.arguments``, or a string that names one.
            baseline: A model it is compared with, or ``git:REF``: the same model under the code of a revision.
            max_slowdown: The slow-down that must be caught, as a share: 0.05 or ``5%``; None leaves latency ungated.
            max_memory_growth: The growth of peak memory that fails, as a share.
            max_latency: An absolute budget of the median forward instead of a baseline, as ``12ms``.
            max_mean: An absolute budget of the mean forward, likewise.
            max_p99: The growth of the 99th percentile that must be caught, as a share; without a baseline an absolute
                budget of it, as ``30ms``.
            allow_different_output: Whether the candidate may compute something else than the baseline.
            allow_different_inputs: Whether it may take inputs of other names, types or shapes.
            shape: Shapes of the inputs of both, or values of dimensions, as ``height=640,width=640``.
            input_file: ``.npz`` file with the values of the inputs of both, by their names.
        """
        __tracebackhide__ = True
        limits = {"max_slowdown": max_slowdown, "max_memory_growth": max_memory_growth, "max_p99": max_p99}
        budget = {"max_latency": max_latency, "max_mean": max_mean}
        allowed = {
            "allow_different_output": allow_different_output,
            "allow_different_inputs": allow_different_inputs,
        }
        inputs = {"shape": shape, "input_file": input_file}
        verdict, rule, again = self._judged(candidate, {"baseline": baseline, **limits, **budget, **allowed, **inputs})
        line = f"{verdict.status.upper()}: {verdict.reason}"
        tolerated = () if self._config.getoption("latency_require") else _UNKNOWN
        fails = verdict.status not in ("pass", *tolerated)
        if verdict.status == "inconclusive" and not fails:
            line += "; the test passes all the same, and fails with --latency-require"
        self._note(line)
        self._store(verdict)
        if fails:
            pytest.fail(_text(line, verdict, rule, again), pytrace=False)
        if verdict.status == "not gated":
            pytest.skip(line)

    def _judged(self, candidate: str | Given, given: dict[str, Any]) -> tuple[Verdict, str, str]:
        """Return the verdict, how it was decided in one sentence, and what to run next; both may be empty."""
        again = f"python -m pytest {shlex.quote(self._item.nodeid)}"
        try:
            self._begin()
            asked = GateCall.read(candidate, **given)
            rerun = Rerun.of(self._item)
            if asked.baseline is None:
                _require_file(asked.candidate)
                verdict = judge_budget(asked.candidate, asked.budget_s, rerun, self._seconds)
                return _titled(verdict), "" if verdict.status == "error" else BUDGET_RULE, again
            pair = _pair(asked, asked.baseline)
            _require(asked.baseline, self._item.path.parent if asked.live else Path.cwd())
            _require_file(asked.candidate)
            verdict = self._live(pair, rerun) if asked.live else self._named(pair)
        except _NotGatedError as error:
            return Verdict("", "not gated", str(error)), "", again
        except UserError as error:
            return Verdict("", "error", str(error)), "", ""
        rule = "; ".join(_RULES[one.of] for one in failing(verdict.facts.get("rules", ())))
        return _compared(verdict, pair), rule, again if asked.live or not _of_one_input(pair) else _command(pair)

    def _begin(self) -> None:
        """Refuse what cannot be judged in this run at all."""
        self._benchmark._mode = "latency_gate(...)"  # noqa: SLF001 - or it warns that it was not used
        if self._used:
            raise UserError("latency_gate was called twice; a test has one gate: parametrise the test")
        self._used = True
        if hasattr(self._config, "workerinput") or self._config.getoption("dist", "no") != "no":
            raise _NotGatedError(
                "pytest-xdist runs tests beside each other, which disturbs times; run the gates with -n 0"
            )
        if self._benchmark.disabled:
            raise _NotGatedError("--benchmark-disable; run the gates without it")

    @property
    def _seconds(self) -> float:
        seconds: float | None = self._config.getoption("latency_seconds")
        return SECONDS if seconds is None else seconds

    @property
    def _seed(self) -> int:
        seed: int | None = self._config.getoption("latency_seed")
        return random.SystemRandom().randrange(2**31) if seed is None else seed

    @property
    def _self_test(self) -> bool:
        return not self._config.getoption("latency_no_self_test")

    def _named(self, pair: Pair) -> Verdict:
        """Judge models that any process can load by name."""
        [verdict] = judge_pairs(
            [pair], seed=self._seed, seconds=self._seconds, self_test=self._self_test, among=self._among
        )
        revision = pair.baseline.revision
        if verdict.status == "error" and revision is not None:
            with opened_side(pair.baseline) as start, start() as worker:
                _load("baseline", worker, f"the model cannot be loaded at git:{revision}")
        return verdict

    def _live(self, pair: Pair, rerun: Rerun) -> Verdict:
        """Judge modules that only the test can build."""
        name = f"{rerun.file}::{rerun.test} {pair.baseline.label} {pair.baseline.case.key}"
        revision = pair.baseline.revision
        load = partial(_load, otherwise=f"the test fails at git:{revision}")
        rerun = replace(rerun, longer_s=ahead_s(pair.baseline.case) + ahead_s(pair.candidate.case))
        with _opened_starts(revision, rerun) as starts:
            contest = apart(starts, self._seconds, pair.allowed, load) if starts else rerun.together(self._seconds)
            return settle(pair, contest, name, self._seed, self._among, self_test=self._self_test)

    def _store(self, verdict: Verdict) -> None:
        """Hand the candidate's samples to pytest-benchmark, in seconds."""
        self._benchmark.extra_info.update(verdict.facts)
        if not verdict.samples_ns:
            return
        stats = self._benchmark._make_stats(1)  # noqa: SLF001 - its public ways all time something themselves
        for ns in verdict.samples_ns:
            stats.update(ns / 1e9)


def _text(line: str, verdict: Verdict, rule: str, again: str) -> str:
    """Return how a test fails."""
    told = [f"{name}: {said}" for name, said in (("rule", rule), ("next", again)) if said]
    detail = verdict.detail if not verdict.samples_ns else ""
    return "\n".join(part for part in (line, verdict.label, *told, detail) if part)


def _require(baseline: Given, folder: Path) -> None:
    """Raise _NotGatedError where there is no baseline to compare with."""
    if baseline.revision is not None:
        try:
            checkout.commit(baseline.revision, folder)
        except UserError as error:
            raise _NotGatedError(str(error)) from None
    elif isinstance(baseline, Side) and baseline.missing_in(Path()) is not None:
        raise _NotGatedError(
            f"the baseline {baseline.case.model} does not exist; keep it beside the test, or name a revision"
        )


def _require_file(model: Given) -> None:
    """Raise UserError where the file of a model of the code as it is does not exist."""
    missing = model.missing_in(Path()) if isinstance(model, Side) and model.revision is None else None
    if missing is not None:
        raise UserError(missing)


def _load(side: str, worker: Worker, otherwise: str) -> None:
    """Have a process load its side; raise _NotGatedError with ``otherwise`` where the baseline cannot be loaded."""
    try:
        worker.load()
    except WorkerError as error:
        if side != "baseline":
            raise
        raise _NotGatedError(f"{otherwise}: {error}") from None


@contextlib.contextmanager
def _opened_starts(revision: str | None, rerun: Rerun) -> Iterator[dict[str, Callable[[], Worker]]]:
    """Return what starts the process of each side; nothing where both are of the code as it is, and share one."""
    if revision is None:
        yield {}
        return
    top = checkout.root(rerun.file.parent).resolve()
    with checkout.checked_out(revision, top) as code:
        old = rerun.under(code, top, f"git:{revision}")
        yield {"baseline": partial(old.worker, "baseline"), "candidate": partial(rerun.worker, "candidate")}


def _pair(asked: GateCall, baseline: Given) -> Pair:
    return Pair(
        side_of(baseline),
        side_of(asked.candidate),
        asked.max_slowdown,
        asked.max_memory_growth,
        max_p99=asked.max_p99,
        allow_different_output="output" in asked.allowed,
        allow_different_inputs="inputs" in asked.allowed,
    )


def _titled(verdict: Verdict) -> Verdict:
    label = f"latency gate: {verdict.label}" if verdict.label else ""
    return replace(verdict, label=label, facts={"verdict": verdict.status, **verdict.facts})


def _compared(verdict: Verdict, pair: Pair) -> Verdict:
    """Return a verdict of a pair as a test tells it: with the candidate's samples, and facts for pytest-benchmark."""
    trials, peaks = verdict.trials or (), verdict.facts.get("peak_memory_bytes")
    facts: dict[str, Any] = {"baseline": pair.baseline.label, "limit": pair.max_slowdown}
    if verdict.change is not None:
        estimate, interval = verdict.change
        facts |= {
            "ratio": 1 + estimate,
            "interval": [1 + bound for bound in interval],
            "blocks": sum(len(trial.blocks) for trial in trials),
        }
    if verdict.facts.get("p99"):
        facts |= {"p99": verdict.facts["p99"], "max_p99": pair.max_p99}
    if peaks:
        facts |= {"peak_memory_bytes": peaks, "memory_limit": pair.max_memory_growth}
    samples = tuple(ns for trial in trials for block in trial.blocks for ns in block.candidate_ns)
    label = f"{pair.candidate.label} against {pair.baseline.label}"
    return _titled(replace(verdict, label=label, samples_ns=samples, facts=facts))


def _of_one_input(pair: Pair) -> bool:
    """Whether one command can say what both sides are given."""
    cases = (pair.baseline.case, pair.candidate.case)
    return len({(case.shape, case.input_file and str(Path(case.input_file).absolute())) for case in cases}) == 1


def _command(pair: Pair) -> str:
    """Return the command line that judges the same pair."""
    case = pair.candidate.case
    limits = {
        "--max-slowdown": pair.max_slowdown,
        "--max-memory-growth": pair.max_memory_growth,
        "--max-p99": pair.max_p99,
    }
    words = ["--baseline", pair.baseline.written, "--candidate", pair.candidate.written]
    words += [word for name, limit in limits.items() if limit is not None for word in (name, format_share(limit))]
    words += ["--max-slowdown", "off"] if pair.max_slowdown is None else []
    words += [f"--allow-different-{kind}" for kind in sorted(pair.allowed)]
    placed = {
        "--device": (case.placement.device, "cpu"),
        "--threads": (case.placement.threads, 1),
        "--batch": (case.batch, 1),
        "--shape": (case.shape, ""),
        "--input": (case.input_file, ""),
    }
    words += [word for name, (value, default) in placed.items() if value != default for word in (name, str(value))]
    return f"profiler gate {shlex.join(words)}"
