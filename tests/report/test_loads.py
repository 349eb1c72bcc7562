"""A model under load in words and on a page."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from profiler.errors import UserError
from profiler.records.load import LoadRecord
from profiler.records.load_file import LoadRun
from profiler.records.types import Failure
from profiler.report.load_page import write_load_page
from profiler.report.loads import LoadTables, load_sentences, load_table
from tests.measure.test_load import calls, closed
from tests.report.loads import LIMIT, opened, under

CURVE = [under(1, 60.0, p99=20), under(2, 98.0, p99=25), under(4, 100.0, p99=60), opened(20.0, 30)]


def said(told, limit=LIMIT, cores=2):
    return load_sentences([record for record, _ in told], told, limit, cores)


def test_sentences_answer():
    knee, streams, rate, shared, last = said(CURVE)
    assert knee == (
        "onnxruntime: the knee is at 2 streams, 98 calls per s at 12.5 ms each; "
        "4 streams bring 2% more and take 2.4 times as long."
    )
    assert streams == (
        "onnxruntime: 2 streams keep p99 under 50.0 ms (25.0 ms [23.8, 26.2]); 4 streams do not (60.0 ms [57.0, 63.0])."
    )
    assert rate == "onnxruntime: 20 per s keeps p99 under 50.0 ms (30.0 ms [28.5, 31.5]); no more were tried."
    assert shared == "4 streams: more threads than the 2 cores, which they share."
    assert last.startswith("Each stream is a process with a session of its own")


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ([under(1, 1.0, p99=60)], "that was tried is known to keep p99 under 50.0 ms: 1 stream had"),
        ([under(1, 1.0, known=False)], "1 stream had from 9.50 ms on, a longer --time tells"),
        ([under(1, 1.0), under(2, 2.0, p99=49)], "2 streams may not (49.0 ms [46.5, 51.5])"),
        ([under(1, 1.0), under(2, 2.0)], "2 calls per s at 5.00 ms each, the most of all tried; more streams may"),
        ([under(1, 2.0), under(2, 1.0)], "the most of all tried."),
        ([opened(200.0, busy=0.99)], "200 per s are more than it serves: the queue grows"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_said(told, sentence):
    assert sentence in " ".join(said(told))


def test_a_failure_is_said_once_with_its_load():
    record = under(2, 1.0)[0]
    failed = LoadRecord(record.case, record.load, failure=Failure("oom", "no room"))
    assert load_sentences([failed, failed], [], None, None) == ["2 streams: no room"]


FAST = [under(16, 123456.7, 12345.6, backend="eager"), under(32, 1234567.8, 993.456, backend="eager")]


@pytest.mark.parametrize("told", [CURVE, [*CURVE, under(2, 1234.5, 12345.6, backend="onnxruntime:graph=basic")], FAST])
def test_the_table_fits_a_terminal_and_shows_its_knee(told):
    table = load_table(told)
    assert [table.rows[number][len(table.texts) - 1] for number in table.best] == [
        "32 streams" if told is FAST else "2 streams"
    ]


@pytest.mark.parametrize("told", [CURVE, [*CURVE, *FAST], [*FAST, opened(12345.6, 12345.6)]])
def test_a_load_is_a_line_of_80_columns(told):
    """Nothing is folded: where one table is too wide, each curve has one, and p90 may be left out."""
    narrow, wide = (shown(told, width) for width in (80, 1000))
    assert max(map(len, narrow)) <= 80
    assert len([line for line in narrow if re.match(r"[\d.]+ (stream|per s)", line)]) == len(told)
    for load, number in (("16 streams", "123 k [121, 126]"), ("32 streams", "1.23 M [1.21, 1.26]")):
        for lines in (narrow, wide) if FAST[0] in told else ():
            assert [number in line for line in lines if load in line] == [True]
    assert not any("e+" in line for line in narrow)
    assert not any("waiting" in line for line in shown(FAST, 80))
    assert any("waiting" in line for line in narrow)


def shown(told, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(LoadTables(told))
    return console.file.getvalue().splitlines()


def records():
    for streams, seconds in ((1, 3), (2, 3)):
        record = under(streams, 1.0, backend="fake")[0]
        served = tuple(tuple(calls(closed(seconds, start_ns=n * 1_000_000))) for n in range(streams))
        yield LoadRecord(record.case, record.load, served)


def test_the_page_has_the_answer_the_curve_and_what_to_type(tmp_path: Path):
    facts = {"keep": "p99=50ms", "argv": ["load", "resnet50"], "host": {"cores": 2, "cpu": "A & B"}, "versions": {}}
    write_load_page(LoadRun(facts, tuple(records()), ("line 7 is left out",)), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "Simulated" in text
    assert "fake: 2 streams keep p99 under 50.0 ms" in text
    assert "<svg" in text
    assert 'aria-label="Latency against calls per second"' in text
    assert "profiler load resnet50" in text
    assert "A &amp; B" in text
    assert "line 7 is left out" in text
    assert "http" not in text.replace("http://www.w3.org", "")


@pytest.mark.parametrize("facts", [{}, json.loads('{"keep": 7, "host": 3, "argv": {}, "versions": []}')])
def test_what_is_not_known_of_the_machine_is_left_out(tmp_path: Path, facts):
    write_load_page(LoadRun(facts, tuple(records())), tmp_path / "page.html")
    assert "2 streams" in (tmp_path / "page.html").read_text()


def test_a_page_of_nothing_is_one_sentence(tmp_path: Path):
    with pytest.raises(UserError, match="there is no load"):
        write_load_page(LoadRun({}, ()), tmp_path / "page.html")
