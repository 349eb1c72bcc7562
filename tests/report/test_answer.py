"""One table and one sentence, in 80 columns."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from profiler.records.columns import COLUMNS, Row
from profiler.report.answer import AnswerTable, answer_sentence, cold_start_table, failed_alike, remarks, what_ran
from profiler.report.plain import print_sentence


def row(backend: str, ms: float | None, half: float | None = 0.05, **more: object) -> Row:
    known: Row = dict.fromkeys(COLUMNS)
    known |= {"backend": backend, "batch": 1, "status": "ok" if ms else "error", "reason": "" if ms else "no room"}
    if ms:
        known |= {"latency_ms": ms, "throughput_per_s": 1e3 / ms, "p90_ms": ms * 1.1, "peak_memory_bytes": 123 << 20}
        known |= {"load_s": 0.123}
    if ms and half:
        known |= {"latency_ci_low_ms": ms * (1 - half), "latency_ci_high_ms": ms * (1 + half)}
    return known | more  # type: ignore[return-value]


def shown(rows: list[Row]) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(AnswerTable(rows))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_ratio_far_below_1_is_no_zero() -> None:
    _, _, slow = shown([row("eager", 0.5, half=None), row("torchscript", 1000.0, half=None)])
    assert slow.rstrip().endswith(" 0.0005")


def test_a_row_for_each_setting_with_its_interval_and_its_speed_up() -> None:
    head, eager, other = shown([row("eager", 20.0), row("onnxruntime", 10.0)])
    assert head.split() == ["backend", "latency", "[95%]", "p90", "per", "s", "memory", "x", "eager"]
    assert "20.0 ms [19.0, 21.0]" in eager
    assert "10.0 ms [9.50, 10.5]" in other
    assert "2.00 [1.86, 2.15]" in other
    assert "123 MiB" in other


@pytest.mark.parametrize("backend", ["eager", "onnxruntime:graph=basic"])
def test_no_line_is_wider_than_a_terminal(backend: str) -> None:
    lines = shown([row(backend, 1234.567, batch=b, shape=f"height={s},width={s}") for b in (1, 8) for s in (320, 640)])
    assert max(map(len, lines)) <= 80


def test_one_visit_has_no_interval_and_says_so() -> None:
    assert "[one visit]" in shown([row("eager", 20.0, None, visits=1)])[1]
    assert "[no interval]" in shown([row("eager", 20.0, None, visits=3)])[1]
    assert "how surely, one visit does not tell" in answer_sentence(
        [row("eager", 9.0, None), row("onnxruntime", 3.0, None)]
    )


def test_the_sentence_says_which_is_fastest_and_how_surely() -> None:
    sure = answer_sentence([row("eager", 20.0), row("onnxruntime", 10.0)])
    assert sure == "Fastest is onnxruntime, 10.0 ms [9.50, 10.5]: 2.00 [1.86, 2.15] times as fast as eager."
    doubtful = answer_sentence([row("eager", 10.1), row("onnxruntime", 10.0)])
    assert "cannot be told apart" in doubtful
    assert answer_sentence([row("eager", 10.0)]) == "eager takes 10.0 ms [9.50, 10.5]."
    assert answer_sentence([row("eager", None)]) == "Nothing could be measured: no room."


def test_batches_are_answered_one_by_one() -> None:
    said = answer_sentence([row("eager", 20.0), row("eager", 90.0, batch=8)])
    assert said == "At batch 1: eager takes 20.0 ms [19.0, 21.0].\nAt batch 8: eager takes 90.0 ms [85.5, 94.5]."
    said = answer_sentence([row("eager", 20.0, shape="size=64"), row("eager", None, shape="size=96")])
    assert said == "At size=64: eager takes 20.0 ms [19.0, 21.0].\nAt size=96: nothing could be measured: no room."


def test_what_the_model_takes_is_said_with_the_threads_that_all_had() -> None:
    known = {"model": "resnet50", "inputs": "input float32 1x3x224x224", "device": "cpu", "threads": 2}
    one = row("eager", 20.0, **known)
    assert what_ran([one, one]) == "resnet50 takes input float32 1x3x224x224; 2 threads"
    assert what_ran([one | {"threads": 1}]).endswith("; 1 thread")
    assert what_ran([one, one | {"threads": 1}]).endswith("224")
    assert what_ran([one | {"device": "cuda:0"}]).endswith("224")


def test_forwards_with_gaps_are_answered_by_themselves() -> None:
    rows = [row(name, ms * (2 if gap else 1), gap_ms=gap) for name, ms in (("eager", 20.0), ("onnxruntime", 9.0))
            for gap in (None, 20.0)]  # fmt: skip
    said = answer_sentence(rows)
    assert "Back to back: fastest is onnxruntime, 9.00 ms" in said
    assert "20 ms apart: fastest is onnxruntime, 18.0 ms" in said
    assert [line.split()[-3] for line in shown(rows)[3:]] == ["2.22", "2.22"]


def test_what_does_not_fit_is_left_out_and_the_latency_never() -> None:
    places = [(b, t) for b in (1, 8) for t in (1, 2)]
    wide = [row(name, 1234.567, batch=b, threads=t) for name in ("onnxruntime:graph=basic", "eager") for b, t in places]
    head, *lines = shown(wide)
    assert "latency" in head
    assert "p90" not in head
    assert all("1.23 s [1.17, 1.30]" in line for line in lines)
    assert len(lines) == len(wide)  # no row folds
    assert AnswerTable(wide).whole().columns[4].header == "p90"


def test_a_cold_start_is_told_by_its_stages_and_by_none_that_nobody_has() -> None:
    known = row("onnxruntime", 10.0, export_s=2.5, load_s=0.02, first_ms=31.0, steady_after=3, model_bytes=5 << 20)
    table = cold_start_table([row("eager", 20.0, first_ms=80.0, steady_after=1), known, row("compile", None)])
    assert table is not None
    assert [column.header for column in table.columns] == [
        "backend",
        "export",
        "on disk",
        "load",
        "first",
        "steady after",
    ]
    cells = [list(column.cells) for column in table.columns]
    assert [each[1] for each in cells] == ["onnxruntime", "2.50 s", "5.00 MiB", "20.0 ms", "31.0 ms", "3 calls"]
    assert cells[1][0] == ""
    assert "compile" not in cells[0]
    assert cold_start_table([row("eager", None)]) is None


@pytest.mark.parametrize(("terminal", "lines"), [(True, ["wide", "words"]), (False, ["wide words"])])
def test_a_sentence_breaks_between_words_on_a_terminal_alone(terminal: bool, lines: list[str]) -> None:
    file = io.StringIO()
    print_sentence(Console(file=file, width=7, force_terminal=terminal), "wide words")
    assert [line.rstrip() for line in file.getvalue().splitlines()] == lines


def test_a_doubt_is_of_the_rows_that_have_its_mark() -> None:
    why = {"status": "unstable", "reason": "no undisturbed block"}
    rows = [row("eager", 20.0, batch=b, **why) for b in (1, 8)]
    rows += [row("onnxruntime", 9.0), row("onnxruntime", None, batch=8)]
    assert remarks(rows) == [
        "? eager · batch 1, eager · batch 8: no undisturbed block",
        "error onnxruntime · batch 8: no room",
    ]
    lines = shown(rows)
    assert [("?" in line) for line in lines] == [False, True, True, True, False]
    assert lines[3].count("?") == lines[3].rstrip().endswith("]?")  # the ratio's, over a latency in doubt
    assert remarks([row("eager", 20.0, **why)]) == ["? eager: no undisturbed block"]
    assert remarks([row("eager", 20.0, reason="traced"), row("onnxruntime", 9.0)]) == ["note eager: traced"]


def test_what_failed_for_one_reason_is_told_from_what_failed_for_several() -> None:
    one, other = row("eager", None), row("onnxruntime", None)
    assert failed_alike([one, other]) == "Nothing could be measured: no room."
    assert failed_alike([one, other | {"reason": "too slow"}]) == ""
    assert failed_alike([one, row("onnxruntime", 9.0)]) == ""
