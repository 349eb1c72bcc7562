from __future__ import annotations

import errno
import json
import math
import os
import re
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiler.backends.base import Placement
from profiler.errors import UserError
from profiler.models.complexity import Complexity
from profiler.records.circumstances import Conditions
from profiler.records.journal import Journal
from profiler.records.lines import dump, parse_record
from profiler.records.reading import NAME, read
from profiler.records.types import SCHEMA, Budget, Case, Failure, Measurement, Record, Warmup

CASE = Case("resnet50", "dWr", 2.0, "eager", Placement(threads=1))
MEASUREMENT = Measurement(
    samples_ns=((10, 11), (12, 13)),
    calls_per_sample=1,
    reference_ns=((5,), (6,), (7,)),
    nominal_ns=5.5,
    warmup=Warmup((20, 10), steady=True),
    parity=1e-7,
    conditions=Conditions(steal_s=0.25),
    facts={"torch": "2.9", "tf32": False, "threads": 1},
    phases_s={"timed": 0.5},
)
RECORD = Record(CASE, Complexity(1, 2, 3), 224, "host", 0, "2026-01-01T00:00:00+00:00", 1.5, MEASUREMENT)
FAILED = replace(RECORD, round=1, outcome=Failure("crashed", "signal 11", "…"))
FACTS = {
    "host": {"key": "abc", "cpu": "X"},
    "digest": "d",
    "plan": "batches = 1\n",
    "cases": [CASE],
    "budget": Budget(),
}


def written(folder: Path, *records: Record) -> bytes:
    with Journal.open(folder, FACTS) as journal:
        for record in records:
            journal.append(record)
    return (folder / NAME).read_bytes()


# --- round trip

floats = st.floats(0, 1e18)
times = st.integers(1, 10**14)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
block = st.lists(times, min_size=1, max_size=3).map(tuple)
facts = st.dictionaries(
    texts, texts | st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none(), max_size=4
)
alternating = st.integers(1, 3).flatmap(
    lambda n: st.tuples(st.tuples(*[block] * n), st.just(()) | st.tuples(*[block] * (n + 1)))
)
outcomes = alternating.flatmap(
    lambda blocks: st.builds(
        Measurement,
        samples_ns=st.just(blocks[0]),
        calls_per_sample=st.integers(1, 1000),
        reference_ns=st.just(blocks[1]),
        nominal_ns=st.none() | st.floats(1, 1e14),
        warmup=st.builds(Warmup, st.lists(times).map(tuple), st.booleans()),
        parity=st.none() | st.floats(allow_nan=False),
        conditions=st.builds(Conditions, st.none() | st.integers(0, 10**18), *[st.none() | floats] * 5),
        facts=facts,
        phases_s=st.dictionaries(texts, floats, max_size=3),
    )
) | st.builds(
    Failure,
    st.sampled_from(["error", "crashed", "oom", "timeout", "unsupported", "parity", "fallback"]),
    texts,
    texts,
)
cases = st.builds(
    Case,
    model=texts,
    scaling=texts,
    factor=st.floats(1e-4, 1e4),
    backend=texts,
    placement=st.builds(Placement, texts, st.sampled_from(["fp32", "fp16", "bf16"]), st.integers(1, 99)),
    batch=st.integers(1, 10**18),
    target_flops=st.none() | st.integers(1, 10**18),
)
records = st.builds(
    Record,
    case=cases,
    complexity=st.none() | st.builds(Complexity, *[st.integers(0, 10**18)] * 3),
    resolution=st.none() | st.integers(1, 10**18),
    host=texts,
    round=st.integers(0, 10**18),
    started=texts,
    wall_s=floats,
    outcome=outcomes,
)


@given(records)
def test_a_record_survives_its_line(record):
    again = parse_record(dump(record))
    assert again == record
    # Equality holds for 1 == 1.0 == True; the representation does not.
    assert repr(again) == repr(record)
    assert again.case.key == record.case.key


def test_a_parity_that_is_no_number_survives():
    for parity in (math.inf, math.nan):
        record = replace(RECORD, outcome=replace(MEASUREMENT, parity=parity))
        assert repr(parse_record(dump(record))) == repr(record)


@pytest.mark.parametrize(
    "change",
    [
        {"round": "1"},
        {"wall_s": None},
        {"outcome": {"status": "sad", "reason": ""}},
        {"case": {}},
        {"round": 1.5},
    ],
)
def test_a_record_of_another_shape_is_refused(change):
    with pytest.raises(ValueError, match="validation error"):
        parse_record(json.dumps(json.loads(dump(RECORD)) | change))


def test_a_run_reads_back(tmp_path):
    written(tmp_path / "deep" / "run", RECORD, FAILED)
    run = read(tmp_path / "deep" / "run")
    assert run.records == (RECORD, FAILED)
    assert run.by_case == {CASE.key: (RECORD, FAILED)}
    assert run.planned == (CASE,)
    assert run.sessions[0].pid == os.getpid()
    assert run.sessions[0].host == {"key": "abc", "cpu": "X"}
    assert run.notices == ()
    assert read(run.path) == run


def test_the_records_of_a_large_journal_are_read_when_asked_for(tmp_path):
    other = replace(RECORD, case=replace(CASE, batch=2))
    written(tmp_path, RECORD, FAILED, other)
    small = read(tmp_path)
    os.truncate(tmp_path / NAME, 64 * 2**20 + 1)  # a torn end, without a byte on the disk
    large = read(tmp_path)
    assert not isinstance(large.records, tuple)
    assert (len(large.records), large.records[2], large.made) == (3, other, 3)
    assert tuple(large.records) == small.records
    assert tuple(large.records[:2]) == (RECORD, FAILED)
    assert {key: tuple(group) for key, group in large.by_case.items()} == small.by_case
    os.truncate(tmp_path / NAME, small.size - 10)
    with pytest.raises(UserError, match="it has changed since it was opened"):
        tuple(large.records)


def test_a_visit_is_on_the_disk_when_append_returns(tmp_path):
    with Journal.open(tmp_path, FACTS) as journal:
        journal.append(RECORD)
        assert read(tmp_path).records == (RECORD,)


def test_bytes_that_are_no_text_do_not_cost_the_line(tmp_path):
    odd = replace(FAILED, outcome=Failure("crashed", "signal 11", "out: \udcff\u2028\x85"))
    written(tmp_path, odd, RECORD)
    assert read(tmp_path).notices == ()
    assert read(tmp_path).records[0].outcome.detail == "out: ?\u2028\x85"


# --- damage


def test_a_last_line_torn_at_any_byte_costs_only_itself(tmp_path):
    whole = written(tmp_path, RECORD, FAILED)
    start = whole.rstrip(b"\n").rfind(b"\n") + 1
    path = tmp_path / NAME
    for cut in range(start, len(whole)):
        path.write_bytes(whole[:cut])
        run = read(tmp_path)
        assert run.records == (RECORD,)
        assert run.size == start
        torn = cut - start
        assert run.notices == (
            (f"{path}: the last line was cut off after {torn} bytes and was left out.",) if torn else ()
        )


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_resuming_after_a_torn_line_loses_and_corrupts_nothing(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("run")
    whole = written(folder, RECORD, FAILED)
    start = whole.rstrip(b"\n").rfind(b"\n") + 1
    (folder / NAME).write_bytes(whole[: data.draw(st.integers(start, len(whole) - 1))])
    with Journal.open(folder, FACTS, resume=True) as journal:
        assert journal.earlier.records == (RECORD,)
        journal.append(FAILED)
    run = read(folder)
    assert run.records == (RECORD, FAILED)
    assert run.notices == ()
    assert len(run.sessions) == 2


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "Expecting"),
        (b"\xff\xfe", "utf-8|UTF-8|decode"),
        (b"[]", "not an object"),
        (b'{"kind":"visit","schema":1}', "no schema version"),
        (b'{"kind":"visit","record":{"schema":1}}', "case: Field required"),
        (b'{"kind":"dream","schema":1}', "neither a session nor a visit"),
        (b"", "Expecting"),
    ],
)
def test_a_damaged_line_in_the_middle_is_named_and_skipped(tmp_path, line, why):
    first, second, third = written(tmp_path, RECORD, FAILED).splitlines()
    path = tmp_path / NAME
    path.write_bytes(b"\n".join([first, second, line, third, b""]))
    run = read(tmp_path)
    assert run.records == (RECORD, FAILED)
    (notice,) = run.notices
    assert notice.startswith(f"{path}:3: this line is damaged and was skipped (")
    assert re.search(why, notice)


@pytest.mark.parametrize("kind", ["session", "visit"])
def test_a_newer_format_is_refused(tmp_path, kind):
    line = (
        {"kind": "session", "schema": SCHEMA + 1}
        if kind == "session"
        else {"kind": "visit", "record": {"schema": SCHEMA + 1}}
    )
    (tmp_path / NAME).write_text(json.dumps(line) + "\n")
    with pytest.raises(
        UserError, match=rf"journal.jsonl:1 was written with schema {SCHEMA + 1}.*up to {SCHEMA}; upgrade"
    ):
        read(tmp_path)


def test_no_run_there(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match=r"holds no run: expected a folder with journal\.jsonl"):
            read(path)


# --- refusals


def test_a_folder_with_a_run_needs_resume(tmp_path):
    before = written(tmp_path, RECORD)
    with pytest.raises(UserError, match=r"already holds a run; continue it with --resume .*, or .* --out .* --save"):
        Journal.open(tmp_path, FACTS)
    assert (tmp_path / NAME).read_bytes() == before


def test_a_run_that_was_stopped_before_its_first_visit_is_begun_anew(tmp_path):
    for digest in ("d", "e"):  # of another plan too: there is nothing to mix it with
        Journal.open(tmp_path, FACTS | {"digest": digest}).close()
    assert [session.facts["digest"] for session in read(tmp_path).sessions] == ["e"]


def test_a_run_of_failures_alone_says_how_to_begin_anew(tmp_path):
    before = written(tmp_path, FAILED)
    with pytest.raises(UserError, match=r"nothing could be measured.*: remove that folder to begin anew, or choose"):
        Journal.open(tmp_path, FACTS)
    assert (tmp_path / NAME).read_bytes() == before


def test_another_plan_is_refused_and_named(tmp_path):
    before = written(tmp_path, RECORD)
    other = FACTS | {"digest": "e", "plan": 'batches = 2\n[budget]\nrounds = 3\n[[sweep]]\nmodels = ["a"]\n'}
    with pytest.raises(UserError) as caught:
        Journal.open(tmp_path, other, resume=True)
    said = str(caught.value)
    assert "batches: 1 there, 2 here; budget.rounds: nothing there, 3 here; " in said
    assert 'sweep[0].models: nothing there, ["a"] here' in said
    assert (tmp_path / NAME).read_bytes() == before


def test_another_machine_is_refused_and_named(tmp_path):
    written(tmp_path, RECORD)
    with pytest.raises(UserError, match=r'another machine \(key: "abc" there, "abd" here; cpu: "X" there, "Y" here\)'):
        Journal.open(tmp_path, FACTS | {"host": {"key": "abd", "cpu": "Y"}}, resume=True)


def test_a_refused_folder_is_free_again(tmp_path):
    written(tmp_path, RECORD)
    for _ in range(2):
        with pytest.raises(UserError, match="already holds"):
            Journal.open(tmp_path, FACTS)
    Journal.open(tmp_path, FACTS, resume=True).close()


def test_resuming_nothing_starts_a_run(tmp_path):
    with Journal.open(tmp_path, FACTS, resume=True) as journal:
        journal.append(RECORD)
    assert read(tmp_path).records == (RECORD,)


HOLDER = """
import sys
from pathlib import Path
from profiler.records.journal import Journal
with Journal.open(Path(sys.argv[1]), {}, resume=True):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_runs_in_one_folder(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"in use by another run \(process {holder.pid}\).*--out"):
            Journal.open(tmp_path, {}, resume=True)
        # Reading needs no lock, and a holder that is killed leaves none.
        assert read(tmp_path).sessions[0].pid == holder.pid
        holder.kill()
    Journal.open(tmp_path, {}, resume=True).close()


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/run")):
        with pytest.raises(UserError, match=r"cannot be written .*--out"):
            Journal.open(folder, FACTS)
    (tmp_path / "taken" / NAME).mkdir(parents=True)
    with pytest.raises(UserError):
        Journal.open(tmp_path / "taken", FACTS)


# --- a full disk


def test_a_limit_in_the_middle_of_a_line_leaves_whole_lines(tmp_path):
    with Journal.open(tmp_path, FACTS) as journal:
        journal.append(RECORD)
        size = journal.path.stat().st_size
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, before[1]))
        try:
            with pytest.raises(UserError, match=r"the last visit was not saved; the 1 before it are safe.*--resume"):
                journal.append(RECORD)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert journal.path.stat().st_size == size
        journal.append(FAILED)
    assert read(tmp_path).records == (RECORD, FAILED)
    assert read(tmp_path).notices == ()


def test_a_full_disk_says_what_was_kept(tmp_path):
    with Journal.open(tmp_path, FACTS) as journal:
        journal.append(RECORD)
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, journal._fd)
        os.close(full)
        with pytest.raises(UserError, match=r"the disk is full.* the 1 before it are safe.*--resume") as caught:
            journal.append(RECORD)
        assert caught.value.__cause__.errno == errno.ENOSPC
    assert read(tmp_path).records == (RECORD,)


def test_a_disk_that_is_full_from_the_start(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(UserError, match=r"so that nothing was measured\. Make room, or choose another folder"):
            Journal.open(tmp_path, FACTS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    written(tmp_path, RECORD)
    assert read(tmp_path).records == (RECORD,)
