"""Tables that something else made, and folders that hold no run: what is not in them is said, and not made up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from profiler.analysis.source import read_table
from profiler.cli.compare import compare_command
from profiler.cli.fit import fit_command
from profiler.cli.frontier import frontier_command
from profiler.cli.rank import rank_command
from profiler.errors import UserError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a table of networks with a latency, and whatever else is given."""

    def written(name: str, networks: str, latencies: list[float] | None = None, **columns: Any) -> Path:
        at = [1.0 + ord(network.lower()) - ord("a") for network in networks]
        counts = {"flops": [1e9 * x for x in at], "params": [1e6 * x for x in at], "acts": [2e6 * x**1.5 for x in at]}
        frame = pd.DataFrame({"model": list(networks), **counts, "latency_ms": latencies or at}).assign(**columns)
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        return tmp_path / f"{name}.csv"

    return written


def two_backends(write: Write) -> Path:
    return write("two", "abcabc", [1, 2, 3, 2, 4, 6], backend=[*"xxxyyy"])


def compared(*files: Path) -> str:
    with pytest.raises(UserError) as error:
        compare_command([*files], None, json=False)
    return str(error.value)


def test_a_second_table_with_no_network_in_common_is_not_passed_over(write: Write) -> None:
    said = compared(two_backends(write), write("other", "ABCDE", backend="x"))
    assert said.startswith("no two runs share a network: two has a, b, c; other has A, B, C and 2 more;")
    assert "measure the same networks" in said


@pytest.mark.parametrize("order", [1, -1])
def test_a_table_without_rows_is_named(write: Write, order: int) -> None:
    said = compared(*(two_backends(write), write("zero", ""))[::order])
    assert "zero has no rows" in said
    assert "two has a, b, c" in said


def test_a_table_without_a_latency_is_named(write: Write) -> None:
    holes = write("holes", "ab", [float("nan")] * 2)
    assert "none of the 2 rows of holes has a latency_ms" in compared(two_backends(write), holes)


def test_one_table_says_what_it_has(write: Write) -> None:
    said = compared(write("ok", "abcde"))
    assert said.startswith("one side to compare (ok has a, b, c and 2 more): expected two runs")


def test_a_third_run_that_shares_nothing_is_left_out_and_said(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    compare_command([write("one", "abc"), write("two", "abc"), write("far", "ABC")], None, json=True)
    told = capsys.readouterr()
    assert "left out: far has A, B, C, and shares no network with another run" in told.err
    assert len(json.loads(told.out)["pairs"]) == 1


def test_runs_are_compared_where_settings_of_one_of_them_are_nearer(write: Write) -> None:
    """Two backends of a run differ in one thing; the other run in its backend and its threads."""
    first = write("first", "abcabcAB", backend=[*"xxxyyyzz"], threads=[1, 1, 1, 1, 1, 1, 2, 2])
    found = write("second", "abcAB", backend=[*"zzzxx"], threads=[2, 2, 2, 1, 1])
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("builtins.print", lambda text, **_: said.append(text))
        compare_command([first, found], None, json=True)
    pairs = json.loads(said[0])["pairs"]
    assert {"run" in pair["differs"] for pair in pairs} == {True, False}


def test_runs_that_a_table_tells_apart_stay_apart(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    joined = write("joined", "abcabc", [1, 2, 3, 2, 4, 6], run=[*"uuuvvv"])
    compare_command([joined], None, json=True)
    (pair,) = json.loads(capsys.readouterr().out)["pairs"]
    assert (pair["differs"]["run"], pair["mean"]) == (["u", "v"], pytest.approx(2))
    compare_command([joined, write("more", "abc")], None, json=True)
    pairs = json.loads(capsys.readouterr().out)["pairs"]
    assert {tuple(pair["differs"]["run"]) for pair in pairs} == {
        ("joined/u", "joined/v"),
        ("joined/u", "more"),
        ("joined/v", "more"),
    }


def test_rows_of_one_network_and_setting_are_refused(write: Write) -> None:
    twice = write("twice", "abcdea", [1, 2, 3, 4, 5, 9], backend="x", gpu=[*"vvvvva"])
    for ask in (fit_command, rank_command, lambda path: compare_command([path, path])):
        with pytest.raises(UserError) as error:
            ask(twice)
        said = str(error.value)
        assert "rows 1 and 6 are both of a (x), and differ in latency_ms, gpu: give one row" in said
        assert "tell them apart in one of the columns run, host" in said


def test_a_row_that_stands_there_twice_counts_once(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    twice = write("twice", "abcdea", [1, 2, 3, 4, 5, 1])
    fit_command(twice, json=True)
    told = capsys.readouterr()
    assert told.err == f"{twice}: 1 row stands there twice, and counts once.\n"
    fit_command(write("once", "abcde"), json=True)
    assert told.out == capsys.readouterr().out


def test_a_row_that_failed_repeats_nothing(write: Write) -> None:
    again = write("again", "abcdea", [1, 2, 3, 4, 5, 9], status=["ok"] * 5 + ["error"])
    assert len(read_table(again)) == 6


def test_ranks_without_intervals_say_so(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    rank_command(write("ok", "abcde"))
    said = capsys.readouterr().out
    assert "visit" not in said
    assert "~" not in said
    assert "The table has no intervals, so that how surely each is slower than the first is not known." in said
    ends = {"latency_ci_low_ms": [0.9, 1.9, None], "latency_ci_high_ms": [1.1, 2.1, None]}
    rank_command(write("some", "abc", **ends))
    assert "3.00 ms [no interval]" in capsys.readouterr().out
    rank_command(write("own", "abc", **ends, visits=[3, 3, 1]))
    assert "3.00 ms [one visit]" in capsys.readouterr().out


def test_an_unstable_latency_is_marked_where_it_is_ranked(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    file = write("own", "abc", status=["ok", "unstable", "ok"])
    rank_command(file)
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines() if "ms?" in line] == ["b"]
    assert "?: 1 of 3 are unstable" in said
    rank_command(file, json=True)
    [places] = json.loads(capsys.readouterr().out).values()
    assert [place["unstable"] for place in places] == [False, True, False]


def test_a_table_that_nothing_could_be_fitted_to_is_an_error(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    short = write("short", "ab", backend="x")
    with pytest.raises(UserError, match="no line could be fitted: x: only 2 networks measured: a line needs at least"):
        fit_command(short)
    assert capsys.readouterr().out == ""  # said once, by the error
    with pytest.raises(UserError, match="no line could be fitted"):
        fit_command(short, json=True)
    [told] = json.loads(capsys.readouterr().out)["fits"]
    assert told["reason"] == "only 2 networks measured: a line needs at least 3"


def test_a_column_of_words_is_no_cost(write: Write, tmp_path: Path) -> None:
    ok = write("ok", "abcde")
    (tmp_path / "top1.csv").write_text("model,top1\na,70\nb,75\n")
    said = "column 'model' holds words, such as 'a'; the table has numbers in flops, params, acts, latency_ms"
    for ask in (
        lambda: frontier_command(ok, tmp_path / "top1.csv", y="model"),
        lambda: fit_command(ok, y="model"),
        lambda: compare_command([ok, ok], y="model"),
    ):
        with pytest.raises(UserError) as error:
            ask()
        assert said in str(error.value)


def test_a_front_of_no_network_is_an_error(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "top1.csv").write_text("model,top1\na,70\n")
    holes = write("holes", "ab", [float("nan"), 2.0])
    with pytest.raises(UserError, match="has both a top-1 under top1 and a latency_ms above 0"):
        frontier_command(holes, tmp_path / "top1.csv")
    assert "An accuracy and no latency: a 70.00" in capsys.readouterr().out


def test_accuracies_that_are_all_empty_are_said_to_be(write: Write, tmp_path: Path) -> None:
    (tmp_path / "top1.csv").write_text("model,top1\na,\nb,nan\n")
    with pytest.raises(UserError, match=r"none of the 2 rows of .*top1\.csv has a top1: .*percent, such as 76\.8"):
        frontier_command(write("ok", "abc"), tmp_path / "top1.csv")


def test_a_folder_with_a_table_and_no_run_names_the_table(write: Write, tmp_path: Path) -> None:
    write("cases", "abcde")
    for ask in (fit_command, rank_command, lambda path: compare_command([path, path])):
        with pytest.raises(UserError) as error:
            ask(tmp_path)
        assert f"{tmp_path} holds no run" in str(error.value)
        assert f"name the table in it: {tmp_path}/cases.csv" in str(error.value)
