"""Verdicts as people and programs read them: terminal text, JSON, JUnit XML, a markdown table."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import fill

from profiler.gate.decision import RULE
from profiler.gate.side import SIDES
from profiler.gate.tail import TAIL_RULE
from profiler.gate.verdict import Verdict, exit_code
from profiler.machine import host
from profiler.records.files import write_file
from profiler.units import format_duration, format_share

_NEXT = {
    "different output": "mend the candidate, or seed what is random in both; --allow-different-output compares them so",
    "regression": "profile both sides in detail: profiler run --model A,B; limits are --max-slowdown and --max-p99",
    "inconclusive": "run it again when the machine is quiet, allow more time with --time, or raise the limit",
    "error": "mend what the sentence names and run it again",
    "not comparable": "make a baseline on this machine: profiler baseline update RUN",
}
_NEXT_OF_PAIRS = {"not comparable": "name sides of one kind; --allow-different-inputs compares them whatever they take"}


def text(verdict: Verdict, width: int | None = None) -> str:
    """Return a few lines, broken between words where a terminal has ``width`` columns."""
    lines = [f"{verdict.status.upper():12}  {verdict.label}", f"{'':12}  {verdict.reason}"]
    old, new = (verdict.latency_ns.get(side) for side in SIDES)
    if old is not None and new is not None:
        took = f", in {format_duration(verdict.seconds)} of measuring" if verdict.seconds else ""
        lines.append(f"{'':12}  {format_duration(old / 1e9)} -> {format_duration(new / 1e9)}{took}")
    following = _NEXT if verdict.trials is None else {**_NEXT, **_NEXT_OF_PAIRS}
    if verdict.status in following:
        lines.append(f"{'':12}  next: {following[verdict.status]}")
    if width is not None:
        lines = [fill(line, width, subsequent_indent=" " * 14, break_long_words=False, break_on_hyphens=False)
                 for line in lines]  # fmt: skip
    return "\n".join(lines)


def as_json(verdicts: Sequence[Verdict]) -> str:
    """Return all verdicts with the machine and the exit code."""
    whole = {
        "exit_code": exit_code(verdicts),
        "host": {"key": host.key(), **host.facts()},
        "decision_rule": RULE,
        "tail_rule": TAIL_RULE,
        "verdicts": [verdict.as_dict() for verdict in verdicts],
    }
    return json.dumps(whole, indent=1, default=str)


def markdown(verdicts: Sequence[Verdict]) -> str:
    """Return a table to paste into a pull request."""
    lines = [
        "| verdict | pair | change [95% interval] | limit | baseline | candidate |",
        "|---|---|---|---|---|---|",
        *(_row(verdict) for verdict in verdicts),
        "",
        *(f"- **{verdict.label}**: {verdict.reason}" for verdict in verdicts if verdict.status != "pass"),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _row(verdict: Verdict) -> str:
    limit, moved = verdict.max_slowdown, ""
    if verdict.change is not None:
        estimate, (low, high) = verdict.change
        change, *ends = (format_share(one, signed=True) for one in (estimate, low, high))
        moved = f"{change} [{', '.join(ends)}]"
    times = [verdict.latency_ns.get(side) for side in SIDES]
    cells = [
        verdict.status,
        verdict.label.replace("|", "\\|"),
        moved,
        format_share(limit) if limit is not None else "",
        *(format_duration(ns / 1e9) if ns is not None else "" for ns in times),
    ]
    return f"| {' | '.join(cells)} |"


def junit(verdicts: Sequence[Verdict]) -> str:
    """Return JUnit XML: what was not decided is skipped, what went wrong is an error, what else fails a failure."""
    kinds = {
        "regression": "failure",
        "different output": "failure",
        "inconclusive": "skipped",
        "error": "error",
        "not comparable": "skipped",
    }
    suite = ET.Element("testsuite", name="latency gate", tests=str(len(verdicts)))
    for kind in ("failure", "error", "skipped"):
        number = sum(kinds.get(verdict.status) == kind for verdict in verdicts)
        suite.set({"failure": "failures", "error": "errors"}.get(kind, kind), str(number))
    for verdict in verdicts:
        seconds = verdict.seconds or 0.0
        case = ET.SubElement(suite, "testcase", name=verdict.label, classname="profiler.gate", time=f"{seconds:.3f}")
        if verdict.status in kinds:
            ET.SubElement(case, kinds[verdict.status], message=verdict.reason).text = text(verdict)
        else:
            ET.SubElement(case, "system-out").text = text(verdict)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


def write(verdicts: Sequence[Verdict], junit_file: Path | None, markdown_file: Path | None) -> None:
    """Write the files that were asked for; raises UserError when one cannot be written."""
    makers: list[tuple[Path | None, Callable[[Sequence[Verdict]], str]]] = [
        (junit_file, junit),
        (markdown_file, markdown),
    ]
    for file, made in makers:
        if file is not None:
            write_file(file, made(verdicts))
