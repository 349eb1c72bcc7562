"""Files that were damaged on their way: journals, tables, plans and suites, and every command that reads them.

Each damage follows from a number alone, so that a red test is red again.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from profiler.cli import app as cli
from profiler.gate.verdict import Verdict
from profiler.machine import host
from profiler.measure.calibration import VERSION
from profiler.measure.visit import CalibrationTask
from profiler.plan.cases import expand
from profiler.plan.plan import Plan
from profiler.plan.read import digest, loads, to_toml
from profiler.records.circumstances import Conditions
from profiler.records.columns import write_csv
from profiler.records.journal import Journal
from profiler.records.nominal import Calls
from profiler.records.reading import NAME, read
from profiler.records.table import rows
from profiler.records.types import Case, Epoch, Failure, Measurement, Memory, Record, Warmup

PLAN = """
name = "small"
description = "Three networks, each of two sizes"
models = ["regnety_200mf", "regnety_400mf", "efficientnet_b0"]
scalings = ["dwr"]
factors = [1, 2]
backends = ["fake:duration_ms=1"]
devices = ["cpu"]
precisions = ["fp32"]
threads = 1
batches = [1]
modes = ["infer"]
seed = 7

[budget]
visit_s = "20ms"
rounds = 3
min_rounds = 2
precision = "5%"
timeout_s = 60
"""

SUITE = """
max_slowdown = "10%"
backend = "eager"
threads = 1

[[pair]]
name = "same"
baseline = "regnety_200mf @fake:duration_ms=0.3"
candidate = "regnety_200mf dWr x2 @fake:duration_ms=0.3"

[[pair]]
baseline = "git:main"
candidate = "package.module:factory @eager"
max_memory_growth = "10%"
batch = 2
"""

#: Characters of a line on standard error: paths and names are at most so long.
_LONGEST = 6000
#: Values in place of others, as JSON.
_ODD = (
    "-1", "0", "0.5", "-0.0", "1e308", "1e-308", "1e400", "-1e400", "NaN", "Infinity", "-Infinity", "1" * 400,
    "9" * 5000, "9223372036854775808", '""', '"tomorrow"', '"-5"', '"=1+1"', '"1e400"', "null", "true", "[]", "{}",
    "[[1]]", '{"a":{"b":[1]}}', "[" * 150 + "]" * 150, "[" * 5000 + "]" * 5000, '{"a":' * 3000 + "1" + "}" * 3000,
    '"' + "x" * 100_000 + '"', r'"\ud800"', r'"\u0000"', '"\N{BELL}"',
)  # fmt: skip
_TOKEN = re.compile(rb'"(?:[^"\\\n]|\\.)*"|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|\btrue\b|\bfalse\b|\bnull\b')


def _odd_token(data: bytes, choice: random.Random) -> bytes:
    """Put something odd in the place of a number, a text or a literal, wherever it stands."""
    found = list(_TOKEN.finditer(data))
    if not found:
        return data
    one = choice.choice(found)
    return data[: one.start()] + choice.choice(_ODD).encode() + data[one.end() :]


def _odd_value(data: bytes, choice: random.Random) -> bytes:
    """Put something odd in the place of a value, or leave it out, or add one: in one line of JSON or in all alike.

    The first line, a session of a journal, is as likely as all others together.
    """
    try:
        lines = [json.loads(line) for line in data.splitlines()]
    except ValueError:
        return _odd_cell(data, choice) if data.count(b",") > 100 else _odd_token(data, choice)
    number = choice.choice([0, choice.randrange(len(lines))])
    path, how, odd = _path(lines[number], choice), choice.random(), choice.choice(_ODD)
    for line in [lines[number]] if choice.random() < 0.5 else lines:
        with contextlib.suppress(LookupError, TypeError):
            node = line
            for key in path[:-1]:
                node = node[key]
            if how < 0.15:
                del node[path[-1]]
            elif how < 0.25:
                node["of another version"] = 1
            else:
                node[path[-1]] = "HERE"
    text = "\n".join(json.dumps(line, separators=(",", ":")) for line in lines) + "\n"
    return text.replace('"HERE"', odd).encode()


def _path(node: Any, choice: random.Random) -> list[str | int]:
    """Return the keys that lead to some value, leaves and branches alike."""
    path: list[str | int] = []
    while isinstance(node, dict | list) and node and (not path or choice.random() < 0.85):
        key: Any = choice.choice(list(node)) if isinstance(node, dict) else choice.randrange(len(node))
        path, node = [*path, key], node[key]
    return path


def _odd_cell(data: bytes, choice: random.Random) -> bytes:
    """Put something odd into a cell, a column or a heading of a table, or change what separates cells."""
    table = list(csv.reader(io.StringIO(data.decode())))
    column = choice.choice([choice.randrange(len(table[0])), choice.randrange(20)])
    odd, how = choice.choice(_ODD).strip('"'), choice.random()
    written = io.StringIO()
    if how < 0.15:
        table[0][column] = odd
    elif how < 0.4:
        for row in table[1:]:
            row[column] = odd
    elif how < 0.8:
        choice.choice(table[1:])[column] = odd
    separator = choice.choice(";\t|") if how > 0.95 else ","
    csv.writer(written, delimiter=separator, lineterminator="\n").writerows(
        row[: -1 if how < 0.03 else None] for row in table
    )
    return written.getvalue().encode()


def _flipped(data: bytes, choice: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(choice.choice([1, 1, 3, 30])):
        changed[choice.randrange(len(changed))] ^= 1 << choice.randrange(8)
    return bytes(changed)


def _inserted(data: bytes, choice: random.Random) -> bytes:
    at = choice.choice([0, len(data), choice.randrange(len(data))])
    what = choice.choice(
        [b"\xef\xbb\xbf", b"\0", b"\0" * 100, b"\xff\xfe", b"\xed\xa0\x80", b"\r", b"\n\n\n", b'"', b"[" * 3000]
    )
    return data[:at] + what + data[at:]


def _relined(data: bytes, choice: random.Random) -> bytes:
    """Lines twice, missing, or in another order."""
    lines = data.splitlines(keepends=True)
    at = choice.randrange(len(lines))
    how = choice.randrange(5)
    if how == 0:
        lines.insert(choice.randrange(len(lines)), lines[at])
    elif how == 1:
        del lines[at]
    elif how == 2:
        choice.shuffle(lines)
    elif how == 3:
        lines = lines * 2
    else:
        lines = [lines[at]]
    return b"".join(lines)


def _cut(data: bytes, choice: random.Random) -> bytes:
    return data[: choice.randrange(len(data))]


_DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _odd_value, _odd_value, _odd_value, _odd_token, _odd_token, _odd_token, _flipped, _inserted, _relined, _cut,
)  # fmt: skip


def damaged(data: bytes, number: int) -> bytes:
    """Return ``data`` with the damage of that number."""
    choice = random.Random(number)
    return _DAMAGES[number % len(_DAMAGES)](data, choice)


# --- what there is to damage

KINDS = ("plan", "suite", "table", "journal")


def _measured(ms: float, choice: random.Random) -> Measurement:
    def block(center: float) -> tuple[int, ...]:
        return tuple(round(center * 1e6 * choice.uniform(0.98, 1.02)) for _ in range(4))

    return Measurement(
        samples_ns=tuple(block(ms) for _ in range(3)),
        calls_per_sample=1,
        reference_ns=tuple(block(4.0) for _ in range(4)),
        nominal_ns=4e6,
        warmup=Warmup(block(ms), steady=True),
        parity=1e-7,
        conditions=Conditions(3, 0.0, 0.01, 0.0, 2500.0, 0.1),
        facts={"torch": "2.9.0", "threads": 1, "tf32": False, "optimizer": None},
        phases_s={"timed": 0.5, "waited": 0.0},
        core_wait_ns=(0, 0, 0),
    )


def plan() -> Plan:
    return loads(PLAN)


def _record(case: Case, number: int, outcome: Any, measures: Any = "latency") -> Record:
    from profiler import models

    counts = models.complexity(models.resolve(case.model, case.scaling, case.factor))
    when = f"2026-01-01T00:0{number}:00+00:00"
    return Record(case, counts, 224, host.key(), number, when, 1.5, outcome, measures=measures)


def run_folder(folder: Path) -> Path:
    """Write a run of the plan, as if real backends had been measured, with a failure and every pass."""
    made, choice = plan(), random.Random(0)
    planned = expand(made, 1)
    facts = {
        "host": {"key": host.key(), **host.facts()},
        "versions": {"latency-profiler": "0.1.0", **host.versions()},
        "argv": ["run", "small.toml"],
        "reference": VERSION,
        "seed": 7,
        "plan": to_toml(made),
        "digest": digest(made),
        "started": "2026-01-01T00:00:00+00:00",
        "cases": planned,
        "budget": made.budget,
        "calibrations": {
            f"v{VERSION} {host.key()} cpu fp32 t1": {
                "repeats": 2, "nominal_ns": 4e6, "spread": 0.01, "visits": 5, "created": "2026-01-01T00:00:00+00:00",
            }
        },
    }  # fmt: skip
    with Journal.open(folder, facts) as journal:
        for number in range(3):
            for case in planned:
                record = _record(case, number, None)
                assert record.complexity is not None
                ms = 3 + record.complexity.acts / 2e6
                journal.append(replace(record, outcome=_measured(ms, choice)))
        journal.append(_record(planned[0], 3, Failure("crashed", "signal 11", "...")))
        for case in planned:
            journal.append(
                _record(case, 0, Memory({"process": 1000}, {"process": 5000 + case.batch}, 10, {}), "memory")
            )
        train = replace(planned[0], mode="train")
        journal.append(_record(train, 0, replace(_measured(9.0, choice), parts_ns={"forward": (1, 2), "loss": (3, 4)})))
        journal.append(_record(train, 0, Epoch((1e6, 2e6), (1e6, 1e6), (2e6, 3e6), 1000, 1, 2, 8), "epoch"))
    return folder


class Instant:
    """Visits that take no time."""

    def __init__(self, *_: object) -> None:
        pass

    def call(self, function: Any, argument: Any, timeout_s: float, limits: Any) -> Any:
        if isinstance(argument, CalibrationTask):
            return 1, Calls([4_000_000] * 50, crowded=False)
        outcome = _measured(3.0, random.Random(argument.case.key))
        return replace(outcome, nominal_ns=None, reference_ns=())

    def wait(self) -> None:
        """Nothing starts processes here."""

    def close(self) -> None:
        pass


@dataclass
class World:
    """A folder with one good file of each kind, and the command line in this process."""

    folder: Path

    def original(self, kind: str) -> bytes:
        """Return the good file of a kind."""
        texts = {"plan": PLAN.encode(), "suite": SUITE.encode()}
        return texts.get(kind) or (self.folder / {"journal": f"good/{NAME}", "table": "good.csv"}[kind]).read_bytes()

    def command(self, kind: str, number: int, data: bytes, folder: Path) -> list[str]:
        """Return a command, in turn by its number, that reads ``data`` in a folder of its own."""
        folder.mkdir()
        place = folder / {"journal": NAME, "table": "table.csv"}.get(kind, "plan.toml")
        place.write_bytes(data)
        (folder / "old.jsonl").write_bytes(data)
        commands = self._commands(kind, place)
        return commands[number % len(commands)]

    def commands_for(self, kind: str) -> int:
        """Return how many commands read a file of a kind."""
        return len(self._commands(kind, self.folder / "any"))

    def _commands(self, kind: str, place: Path) -> list[list[str]]:
        good, here, out = str(self.folder / "good"), str(place.parent), str(place.parent / "out")
        at = here if kind == "journal" else str(place)
        plan = str(self.folder / "small.toml")
        reads = [
            ["fit", at],
            ["fit", at, "--json"],
            ["report", at, "-o", f"{out}.html"],
            ["compare", at, good],
            ["compare", good, at, "--json"],
            ["predict", at, "regnety_800mf"],
            ["predict", at, "regnety_800mf", "--json", "--where", "threads=1"],
            ["advise", "regnety_200mf", at, "--flops", "400MF", "--where", "mode=infer"],
        ]
        return {
            "plan": [
                ["run", at, "--dry-run"],
                ["run", at, "--out", out],
                ["gate", at, "--against", good, "--out", out],
                ["run", at, "--batch", "1,2", "--dry-run"],
            ],
            "suite": [["gate", at], ["gate", at, "--json"]],
            "table": reads,
            "journal": [
                *reads,
                ["export", at, "--csv", f"{out}.csv"],
                ["history", here],
                ["history", here, "--json"],
                ["run", plan, "--out", at, "--resume"],
                ["baseline", "update", at, f"{out}.jsonl"],
                ["baseline", "update", good, f"{here}/old.jsonl"],
                ["baseline", "show", at],
                ["baseline", "show", f"{here}/old.jsonl", "--json"],
                ["gate", plan, "--against", at, "--out", out],
            ],
        }[kind]


def world(folder: Path) -> World:
    """Write one good file of each kind into ``folder``."""
    run_folder(folder / "good")
    (folder / "small.toml").write_text(PLAN, encoding="utf-8")
    write_csv(rows(read(folder / "good")), folder / "good.csv")
    return World(folder)


@contextlib.contextmanager
def nothing_is_measured() -> Iterator[None]:
    """Let commands go through all they do, but for visits, charts and pairs of a gate."""
    from profiler.cli import gate, report
    from profiler.report import page, summary
    from profiler.run import experiment

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "LocalExecutor", Instant)
        patch.setattr(gate, "judge_pairs", lambda pairs, **_: [Verdict(p.label, "pass", "as it was") for p in pairs])
        for module in (report, page, summary):
            patch.setattr(module, "can_draw", lambda: False)
        yield


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str

    def wrong(self) -> str:
        """Say what no command may do; empty where it ended well, or said in one sentence why not."""
        said = self.err.splitlines()
        if "Traceback" in self.err + self.out or "Warning:" in self.err:
            return "something that is no sentence of ours"
        if self.code not in (0, 1, 2, 3, 4):
            return "an exit code that means nothing"
        if self.code == 2 and not any(
            line.startswith(("profiler: ", "ERROR ", "error: ")) for line in said + self.out.splitlines()
        ):
            return "a failure without a sentence"
        return "a sentence without an end" if max(map(len, said), default=0) > _LONGEST else ""


def answer(arguments: list[str]) -> Answer:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["profiler", *arguments])
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code
    return Answer(tuple(arguments), code or 0, out.getvalue(), err.getvalue())
