"""What stands at the end of a run."""

from __future__ import annotations

import io
import re

import pandas as pd
import pytest
from rich.console import Console

from profiler.analysis.fit import fit
from profiler.records.columns import COLUMNS, Row
from profiler.report.closing import closing_sentences, latencies_table, legend, predictors_table
from profiler.report.console import fitting_table
from profiler.report.grid import Table


def row(model: str, backend: str, latency: float | None, width: float = 0.05, **values: object) -> Row:
    ends = (None, None) if latency is None else (latency / (1 + width), latency * (1 + width))
    cells: dict[str, object] = {
        "model": model, "scaling": "", "factor": 1.0, "backend": backend, "device": "cpu", "precision": "fp32",
        "threads": 1, "batch": 1, "mode": "infer", "latency_ms": latency, "latency_ci_low_ms": ends[0],
        "latency_ci_high_ms": ends[1], "status": "ok" if latency else "oom", "family": "f",
    }  # fmt: skip
    return dict.fromkeys(COLUMNS) | cells | values  # type: ignore[return-value]


def printed(table: object, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(fitting_table(table) if isinstance(table, Table) else table)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined,no-any-return]


def sweep(networks: int) -> list[Row]:
    counts = [
        {"flops": 1e9 * (n + 1), "acts": 1e6 * (n + 1) ** 1.1, "params": 1e6 * (7 - n) ** 2} for n in range(networks)
    ]
    return [
        row(f"n{n}", backend, speed * (n + 1.0), **counts[n])
        for n in range(networks)
        for backend, speed in (("eager", 2.0), ("onnxruntime", 1.0))
    ]


def test_latencies_stand_by_network_with_how_many_times_as_fast() -> None:
    rows = [
        row("a", "eager", 20.0),
        row("a", "onnxruntime", 5.0),
        row("b", "eager", 30.0),
        row("b", "onnxruntime", None),
    ]
    head, one, two = printed(latencies_table(rows))
    assert head.split() == ["network", "eager", "(ms)", "onnxruntime", "x"]
    assert one.split() == ["a", "20.0", "[19.0,", "21.0]", "5.00", "[4.76,", "5.25]", "4.00"]
    assert two.split() == ["b", "30.0", "[28.6,", "31.5]", "oom"]


@pytest.mark.parametrize(("backends", "lines"), [(2, 3), (3, 3), (4, 9)])
def test_where_a_terminal_is_narrow_less_is_shown_and_no_cell_broken(backends: int, lines: int) -> None:
    names = ("eager", "torchscript", "onnxruntime", "openvino")[:backends]
    rows = [row(f"efficientnet_b0 dWr x{n}", name, 123.4 - n) for n in range(2) for name in names]
    table = latencies_table(rows)
    assert table is not None
    narrow, wide = (printed(table, width) for width in (80, 400))
    assert len(wide) == 3
    assert len(narrow) == lines
    assert sum("[" in cell for line in narrow for cell in line.split()) == 2 * backends


def test_settings_that_vary_have_a_column_and_what_is_unsure_a_mark() -> None:
    rows = [row("a", "eager", 20.0), row("a", "eager", 70.0, batch=8, status="unstable")]
    assert printed(latencies_table(rows))[2].split()[:3] == ["a", "8", "70.0?"]


def test_training_and_memory_are_told() -> None:
    rows = [
        row(name, "eager", 20.0, mode="train", peak_memory_bytes=size)
        for name, size in (("a", 3 << 20), ("b", 1 << 30))
    ]
    assert "eager (ms a step)" in printed(latencies_table(rows))[0]
    assert "eager: 3.00 MiB to 1.00 GiB of memory at its peak." in closing_sentences(rows, [])
    assert "eager: 3.00 MiB of memory at its peak." in closing_sentences(rows[:1], [])


def test_more_networks_than_fit_have_their_predictors_instead() -> None:
    rows = sweep(13)
    assert latencies_table(rows) is None
    fits = fit(pd.DataFrame(rows))
    assert len(printed(predictors_table(fits))) == 3
    assert predictors_table([]) is None


def test_where_a_terminal_is_narrow_the_least_of_three_predictors_goes() -> None:
    settings = [
        {"backend": name, "batch": n, "mode": mode} for name in "ab" for n, mode in ((1, "infer"), (4, "train"))
    ]
    both = [each | setting | {"backend": setting["backend"] * 12} for each in sweep(6) for setting in settings]
    table = predictors_table(fit(pd.DataFrame(both)))
    narrow, wide = (printed(table, width) for width in (80, 400))
    assert len(narrow) == len(wide) == 5
    assert narrow[0].split() == ["r", "with", "activations", "flops", "n", "error"]
    assert wide[0].split()[-3:] == ["parameters", "n", "error"]


def test_a_sentence_for_each_backend_and_one_for_what_is_not_known() -> None:
    rows = sweep(6)
    eager, other = closing_sentences(rows, fit(pd.DataFrame(rows)))
    assert eager.startswith("eager: flops predict latency best, r = 1.00")
    assert other.startswith("onnxruntime: 2.00 times as fast as eager; flops predict")
    rows[0] |= {"latency_ci_high_ms": 99.0}
    assert closing_sentences(rows, [])[-1] == "11 of 12 latencies are known within 10%; more visits narrow the rest."
    rows[0] |= {"visits": 1}
    said = closing_sentences(rows, [], "profiler run quick --resume")[-1]
    assert said.endswith("within 10%, 1 rests on a single visit; go on with: profiler run quick --resume")


def test_why_n_is_less_than_there_are_networks_is_said() -> None:
    rows = sweep(6)
    rows[0] |= {"latency_ci_low_ms": 0.5, "latency_ci_high_ms": 9.0}
    said = closing_sentences(rows, fit(pd.DataFrame(rows)))
    assert said[0].endswith("over 5 networks.")
    assert "1 latency is left out of r and n: the visits differ so much that the interval is too wide to fit." in said


def test_the_best_of_two_alike_is_not_surely_better_and_what_may_be_nothing_is_not_said() -> None:
    rows = [row(f"n{n}", "eager", n + 1.0, flops=n + 1.0 + n % 2, acts=n + 2.0 - n % 2, params=5.0) for n in range(12)]
    (said,) = closing_sentences(rows, fit(pd.DataFrame(rows)))
    assert re.search(r"in \d\d% of resamples: not surely better than (flops|activations)", said)
    rows = [row(f"n{n}", "eager", 5.0 + (n * 7) % 4, flops=n + 1.0, acts=n + 1.0, params=n + 1.0) for n in range(6)]
    assert closing_sentences(rows, fit(pd.DataFrame(rows))) == []


@pytest.mark.parametrize("networks", [1, 6, 12, 40])
def test_the_end_of_a_run_is_at_most_25_lines(networks: int) -> None:
    rows = sweep(networks)
    fits = fit(pd.DataFrame(rows))
    said = [line for text in closing_sentences(rows, fits) for line in printed(text)]
    assert len([*printed(latencies_table(rows) or predictors_table(fits)), *said]) <= 20


def test_a_mark_in_the_table_is_explained_below_it() -> None:
    sure, doubtful = (
        row("a", "eager", 20.0),
        row("b", "eager", 30.0, status="unstable", reason="±9%, ±2% was asked for"),
    )
    assert legend([sure, row("c", "eager", None)]) == ""
    assert legend([sure, doubtful, doubtful]) == "? unstable, 2 of them: ±9%, ±2% was asked for"
    table = latencies_table([sure, doubtful])
    assert table is not None
    assert ["?" in str(cells) for cells in table.rows] == [False, True]
