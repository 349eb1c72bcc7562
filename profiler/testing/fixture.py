"""What the fixture ``latency_gate`` does in the process of the test: ask, judge, and say it the way pytest does.

A regression is a failed test. What this machine could not tell is shown and passes, and a gate that had nothing to
judge by is a skipped test that says NOT GATED; with ``--latency-require`` both fail.
"""

from __future__ import annotations

import contextlib
import random
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from profiler.errors import UserError
from profiler.gate import checkout, judge, side
from profiler.gate.contest import SECONDS, Contest, Options
from profiler.gate.decision import RULE
from profiler.gate.subject import Pair, Subject
from profiler.gate.verdict import Verdict
from profiler.machine.cache import cache_folder
from profiler.testing.arguments import Asked, Model, Side, subject
from profiler.testing.budget import absolute
from profiler.testing.outcome import PROPERTY, UNKNOWN, Outcome
from profiler.testing.rerun import NotGatedError, Rerun, Shared, Versions
from profiler.units import format_share


class Gate:
    """The fixture's value: call it once, with the model to be judged."""

    def __init__(self, request: pytest.FixtureRequest, benchmark: Any) -> None:
        self._item: pytest.Item = request.node
        self._config = request.config
        self._benchmark = benchmark
        self._used = False
        items = request.session.items
        #: Tests that may raise a false alarm in this run.
        self._among = max(1, sum("latency_gate" in getattr(item, "fixturenames", ()) for item in items))

    def __call__(
        self,
        candidate: Side,
        *,
        baseline: Side | None = None,
        max_slowdown: float | str | None = 0.05,
        max_memory_growth: float | str | None = None,
        max_latency: str | None = None,
    ) -> None:
        """Fail the test when ``candidate`` is too slow.

        Args:
            candidate: A model from ``profiler.testing.arguments``, or a string that names one.
            baseline: A model it is compared with, or ``git:REF``: the same model under the code of a revision.
            max_slowdown: The slow-down that must be caught, as a share: 0.05 or ``5%``; None leaves latency ungated.
            max_memory_growth: The growth of peak memory that fails, as a share.
            max_latency: An absolute budget instead of a baseline, as ``12ms``.
        """
        __tracebackhide__ = True
        given = {"baseline": baseline, "max_slowdown": max_slowdown, "max_memory_growth": max_memory_growth}
        self._conclude(self._outcome(candidate, {**given, "max_latency": max_latency}))

    def _outcome(self, candidate: Side, given: dict[str, Any]) -> Outcome:
        again = f"python -m pytest {shlex.quote(self._item.nodeid)}"
        try:
            self._begin()
            asked = Asked.read(candidate, **given)
            if asked.baseline is None:
                return absolute(asked, self._rerun(), self._options, again)
            return self._relative(asked, asked.baseline, again)
        except NotGatedError as error:
            return Outcome("not gated", str(error), again=again)
        except UserError as error:
            return Outcome("error", str(error))

    def _begin(self) -> None:
        """Refuse what cannot be judged in this run at all."""
        self._benchmark._mode = "latency_gate(...)"  # noqa: SLF001 - or it warns that it was not used
        if self._used:
            raise UserError("latency_gate was called twice; a test has one gate: parametrise the test")
        self._used = True
        if hasattr(self._config, "workerinput") or self._config.getoption("dist", "no") != "no":
            raise NotGatedError(
                "pytest-xdist runs tests beside each other, which disturbs times; run the gates with -n 0"
            )
        if self._benchmark.disabled:
            raise NotGatedError("--benchmark-disable; run the gates without it")

    @property
    def _options(self) -> Options:
        seed, seconds = self._config.getoption("latency_seed"), self._config.getoption("latency_seconds")
        return Options(
            seconds=SECONDS if seconds is None else seconds,
            self_test=not self._config.getoption("latency_no_self_test"),
            seed=random.SystemRandom().randrange(2**31) if seed is None else seed,
        )

    def _rerun(self) -> Rerun:
        return Rerun.of(self._item)

    def _relative(self, asked: Asked, baseline: Model, again: str) -> Outcome:
        pair = Pair(subject(baseline), subject(asked.candidate), asked.max_slowdown, asked.max_memory_growth)
        _require(baseline, self._item.path.parent if asked.live else Path.cwd())
        if asked.live:
            return _compared(_judge_live(pair, self._rerun(), self._options, self._among), again)
        return _compared(_judge_named(pair, self._options, self._among), _command(pair))

    def _conclude(self, outcome: Outcome) -> None:
        __tracebackhide__ = True
        self._item.user_properties.append((PROPERTY, outcome.line))
        self._store(outcome)
        if outcome.status == "pass":
            return
        if outcome.status not in UNKNOWN or self._config.getoption("latency_require"):
            pytest.fail(outcome.text, pytrace=False)
        if outcome.status == "not gated":
            pytest.skip(outcome.line)

    def _store(self, outcome: Outcome) -> None:
        """Hand the candidate's samples to pytest-benchmark, in seconds."""
        self._benchmark.extra_info.update(outcome.facts)
        if not outcome.samples_ns:
            return
        stats = self._benchmark._make_stats(1)  # noqa: SLF001 - its public ways all time something themselves
        for ns in outcome.samples_ns:
            stats.update(ns / 1e9)


def _require(baseline: Model, folder: Path) -> None:
    """Raise NotGatedError where there is no baseline to compare with."""
    if baseline.revision is not None:
        try:
            checkout.commit(baseline.revision, folder)
        except UserError as error:
            raise NotGatedError(str(error)) from None
    elif isinstance(baseline, Subject) and _is_missing_file(baseline.case.model):
        raise NotGatedError(
            f"the baseline {baseline.case.model} does not exist; keep it beside the test, or name a revision"
        )


def _is_missing_file(model: str) -> bool:
    return model.endswith(".onnx") and not Path(model).is_file()


def _judge_named(pair: Pair, options: Options, among: int) -> Verdict:
    verdict = judge.judge_one(pair, options, options.seed or 0, among)
    if verdict.status == "error" and pair.baseline.revision is not None:
        _require_loadable(pair.baseline, pair.baseline.revision)
    return verdict


def _require_loadable(baseline: Subject, revision: str) -> None:
    """Raise NotGatedError where an error is one of the baseline's revision."""
    with checkout.checked_out(revision, Path.cwd()) as code, side.Worker.of_case(code) as worker:
        try:
            worker.ask("load", side.LOAD_S, case=asdict(baseline.case), cache=str(cache_folder()))
        except side.WorkerError as error:
            raise NotGatedError(f"the model cannot be loaded at {code.name}: {error}") from None


def _judge_live(pair: Pair, rerun: Rerun, options: Options, among: int) -> Verdict:
    with _contest(pair.baseline.revision, rerun, options.seconds) as contest:
        name = f"{rerun.file}::{rerun.test} {pair.baseline.label} {pair.baseline.case.key}"
        return judge.settle(pair, contest, name, options, options.seed or 0, among)


@contextlib.contextmanager
def _contest(revision: str | None, rerun: Rerun, seconds: float) -> Iterator[Contest]:
    if revision is None:
        yield Shared(rerun, seconds)
        return
    top = checkout.root(rerun.file.parent).resolve()
    with checkout.checked_out(revision, top) as code:
        yield Versions(rerun.under(code, top), rerun, seconds)


def _compared(verdict: Verdict, again: str) -> Outcome:
    pair, change = verdict.pair, verdict.change
    title = f"latency gate: {pair.candidate.label} against {pair.baseline.label}"
    facts: dict[str, Any] = {"verdict": verdict.status, "baseline": pair.baseline.label, "limit": pair.max_slowdown}
    if change is not None:
        facts |= {
            "ratio": 1 + change.estimate,
            "interval": [1 + change.low, 1 + change.high],
            "blocks": sum(len(trial.blocks) for trial in verdict.trials),
        }
    if verdict.peaks:
        facts |= {"peak_memory_bytes": verdict.peaks, "memory_limit": pair.max_memory_growth}
    samples = tuple(ns for trial in verdict.trials for block in trial.blocks for ns in block.candidate_ns)
    return Outcome(
        verdict.status,
        verdict.reason,
        samples,
        facts,
        title,
        RULE if verdict.rule else "",
        again,
        verdict.detail if not samples else "",
    )


def _command(pair: Pair) -> str:
    """Return the command line that judges the same pair."""
    case = pair.candidate.case
    limits = {"--max-slowdown": pair.max_slowdown, "--max-memory-growth": pair.max_memory_growth}
    words = ["--baseline", pair.baseline.label, "--candidate", pair.candidate.label]
    words += [word for name, limit in limits.items() if limit is not None for word in (name, format_share(limit))]
    words += ["--max-slowdown", "off"] if pair.max_slowdown is None else []
    placed = {
        "--device": (case.placement.device, "cpu"),
        "--threads": (case.placement.threads, 1),
        "--batch": (case.batch, 1),
    }
    words += [word for name, (value, default) in placed.items() if value != default for word in (name, str(value))]
    return f"profiler gate {shlex.join(words)}"
