from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from profiler.analysis import compare
from profiler.analysis.frame import grouping
from profiler.analysis.quantity import Quantity
from profiler.analysis.source import read_table
from profiler.analysis.speed import ratio_interval
from profiler.cli.app import app
from profiler.cli.compare import compare_command
from profiler.errors import UserError


def table(n: int = 8, factor: float = 1.0, seed: int = 0, **columns: object) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    acts = np.linspace(2e6, 5e7, n)
    frame = pd.DataFrame(
        {
            "model": [f"net{i}" for i in range(n)],
            "acts": acts,
            "flops": acts * 100,
            "params": acts,
            "backend": "eager",
            "device": "cpu",
            "threads": 1,
            "status": "ok",
            "host": "aaaa",
            "cpu": "One CPU",
        }
    )
    frame["latency_ms"] = factor * (1 + acts / 1e6) * np.exp(0.01 * rng.normal(size=n))
    frame["latency_ci_low_ms"], frame["latency_ci_high_ms"] = frame["latency_ms"] / 1.02, frame["latency_ms"] * 1.03
    return frame.assign(**columns)


def pairs(*frames: pd.DataFrame) -> list[compare.Comparison]:
    return compare.comparisons(compare.settings_of(pd.concat(frames)))


def test_backends_of_one_run_are_compared_over_the_networks_both_have() -> None:
    (pair,) = pairs(table(), table(n=6, factor=0.5, seed=1, backend="onnxruntime"))
    assert pair.labels == ("eager", "onnxruntime")
    assert list(pair.ratios) == [f"net{i}" for i in range(6)]


def test_networks_that_nothing_counts_are_compared(tmp_path: Path) -> None:
    for name, factor in (("a", 1.0), ("b", 2.0)):
        table(factor=factor, acts=np.nan, flops=np.nan, params=np.nan).to_csv(tmp_path / f"{name}.csv")
    frame, column, _ = compare.joined_runs([tmp_path / "a.csv", tmp_path / "b.csv"], None)
    (pair,) = compare.comparisons(compare.settings_of(frame, column))
    assert pair.mean == pytest.approx(2)


def test_ratios_their_mean_and_ranks() -> None:
    (pair,) = pairs(table(), table(factor=0.5, seed=1, backend="onnxruntime"))
    assert len(pair.ratios) == 8
    logs = np.log([ratio.value for ratio in pair.ratios.values()])
    assert pair.mean == pytest.approx(math.exp(logs.mean()))
    assert pair.interval is not None
    low, high = stats.t.interval(0.95, 7, logs.mean(), logs.std(ddof=1) / math.sqrt(8))
    assert pair.interval == pytest.approx((math.exp(low), math.exp(high)))
    assert pair.spearman == pytest.approx(1)


def test_the_interval_of_a_ratio_joins_both_in_squares() -> None:
    found = ratio_interval(Quantity(2.0, (1.9, 2.2)), Quantity(1.0, (0.96, 1.05)))
    assert found is not None
    low = math.log(2) - math.hypot(math.log(2 / 1.9), math.log(1.05))
    high = math.log(2) + math.hypot(math.log(1.1), math.log(1 / 0.96))
    assert found == pytest.approx((math.exp(low), math.exp(high)))


def test_a_side_known_exactly_leaves_the_interval_of_the_other() -> None:
    assert ratio_interval(Quantity(2.0, (1.9, 2.2)), Quantity(1.0, (1.0, 1.0))) == pytest.approx((1.9, 2.2))


def test_intervals_of_ratios_hold_the_ratio() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        costs = []
        for centre, noise in ((3.0, 0.02), (2.0, 0.01)):
            logs = math.log(centre) + noise * rng.normal(size=10)
            half = stats.t.ppf(0.975, 9) * logs.std(ddof=1) / math.sqrt(10)
            costs.append(Quantity(math.exp(logs.mean()), (math.exp(logs.mean() - half), math.exp(logs.mean() + half))))
        found = ratio_interval(*costs)
        assert found is not None
        hits += found[0] <= 1.5 <= found[1]
    assert 930 <= hits <= 975


def two_runs(apart: float, seed: int, n: int = 40, **columns: object) -> compare.Comparison:
    """Two runs whose intervals are of 1.0% a side and whose networks differ by ``apart`` more, in logarithms."""
    rng, (one, other) = np.random.default_rng(seed), (table(n, seed=0), table(n, seed=0))
    for frame in (one, other):
        frame["latency_ms"] *= np.exp(rng.normal(scale=math.hypot(0.005, apart / math.sqrt(2)), size=n))
        frame["latency_ci_low_ms"], frame["latency_ci_high_ms"] = (
            frame["latency_ms"] * math.exp(end * 1.959964 * 0.005) for end in (-1, 1)
        )
    (pair,) = pairs(one.assign(run="a"), other.assign(run="b", **columns))
    return pair


def held(pair: compare.Comparison) -> float:
    intervals = [ratio.interval for ratio in pair.ratios.values()]
    return float(np.mean([low <= 1 <= high for low, high in filter(None, intervals)]))


@pytest.mark.parametrize("apart", [0.0, 0.01, 0.03])
def test_intervals_of_two_runs_hold_however_far_their_hours_are_apart(apart: float) -> None:
    made = [two_runs(apart, seed, n=200) for seed in range(15)]
    assert 0.93 <= np.mean([held(pair) for pair in made]) <= 0.98
    expected = math.hypot(0.005 * math.sqrt(2), apart) / (0.005 * math.sqrt(2))
    assert np.median([pair.scatter for pair in made]) == pytest.approx(expected, rel=0.1)


def test_a_few_networks_that_changed_are_no_scatter() -> None:
    one, other = (table(20, seed=seed, run=name) for seed, name in enumerate("ab"))
    (before,) = pairs(one, other)
    rows = ["latency_ms", "latency_ci_low_ms", "latency_ci_high_ms"]
    other.loc[:2, rows] *= 1.5
    (pair,) = pairs(one, other)
    assert pair.scatter == pytest.approx(before.scatter, abs=0.5)
    assert all(ratio.interval and ratio.interval[0] > 1.2 for ratio in list(pair.ratios.values())[:3])


def test_what_differs_in_more_than_its_time_or_in_few_networks_keeps_its_intervals() -> None:
    assert two_runs(0.03, 0, backend="onnxruntime").scatter == 1
    assert two_runs(0.03, 0, cpu="Another CPU").scatter == 1
    assert two_runs(0.03, 0, n=11).scatter == 1
    assert two_runs(0.03, 0, n=12).scatter > 1.5


def test_two_runs_that_scatter_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        frame = table(20, seed=seed)
        frame["latency_ms"] *= np.exp(np.random.default_rng(seed).normal(scale=0.002 if seed == 0 else 0.05, size=20))
        frame["latency_ci_low_ms"], frame["latency_ci_high_ms"] = frame["latency_ms"] / 1.01, frame["latency_ms"] * 1.01
        frame.to_csv(tmp_path / f"{name}.csv")
    compare_command([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert "made at different times, and their ratios scatter" in " ".join(capsys.readouterr().out.split())


def of_one_machine(nominal_ms: float, version: object = 13, factor: float = 1.0, **columns: object) -> pd.DataFrame:
    """A run whose latencies are multiples of ``nominal_ms``."""
    given = {"nominal_ms": nominal_ms, "reference_version": version, "precision": "fp32"} | columns
    return table(5, factor * nominal_ms, **given)


@pytest.mark.parametrize(
    ("other", "mean", "by"),
    [
        ({"nominal_ms": 4.4}, 1.0, 4.0 / 4.4),
        ({"nominal_ms": 4.4, "factor": 2.0, "version": 13.0}, 2.0, 4.0 / 4.4),
        ({"nominal_ms": 4.0}, 1.0, 1.0),
        ({"nominal_ms": 4.4, "version": 12}, 1.1, 1.0),
        ({"nominal_ms": 4.4, "host": "bbbb"}, 1.1, 1.0),
        ({"nominal_ms": 4.4, "threads": 2}, 1.1, 1.0),
    ],
)
def test_runs_of_one_machine_are_compared_by_one_calibration(other: Any, mean: float, by: float) -> None:
    (pair,) = pairs(of_one_machine(4.0).assign(run="a"), of_one_machine(**other).assign(run="b"))
    assert (pair.mean, pair.rescaled) == pytest.approx((mean, by))
    (low, high) = pair.ratios["net0"].interval or (0, 0)
    assert low < mean < high


def test_what_is_no_multiple_of_the_reference_is_not_rescaled() -> None:
    frames = [of_one_machine(ms).assign(run=run, peak_memory_bytes=7.0) for ms, run in ((4.0, "a"), (4.4, "b"))]
    (pair,) = compare.comparisons(compare.settings_of(pd.concat(frames), "peak_memory_bytes"))
    assert (pair.mean, pair.rescaled) == (1, 1)


@pytest.mark.parametrize(
    ("version", "said"),
    [(13, "times of b are multiplied by 0.909"), (12, "unlike versions of the reference (13 and 12)"), (None, "")],
)
def test_that_runs_were_calibrated_apart_is_said(
    version: int | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_one_machine(4.0).to_csv(tmp_path / "a.csv")
    of_one_machine(4.4, version).to_csv(tmp_path / "b.csv")
    compare_command([tmp_path / "a.csv", tmp_path / "b.csv"])
    printed = " ".join(capsys.readouterr().out.split())
    assert said in printed
    assert ("calibrat" in printed) == bool(said)


def test_a_missing_interval_leaves_the_ratio_without_one() -> None:
    (pair,) = pairs(table(), table(backend="onnxruntime", latency_ci_low_ms=np.nan))
    assert all(ratio.interval is None for ratio in pair.ratios.values())
    assert pair.interval is not None


def test_only_sides_that_differ_in_one_thing_are_paired() -> None:
    frames = [table(backend=b, threads=t) for b in ("eager", "onnxruntime") for t in (1, 2)]
    assert {pair.labels for pair in pairs(*frames)} == {
        ("eager", "onnxruntime"),
        ("1 thread", "2 threads"),
    }
    assert len(pairs(*frames)) == 4


def test_forwards_with_gaps_are_another_setting_than_those_back_to_back(tmp_path: Path) -> None:
    (pair,) = pairs(table(), table(factor=3, gap_ms=20.0))
    assert pair.labels == ("0 ms apart", "20 ms apart")
    assert pair.mean == pytest.approx(3, rel=0.02)
    (tmp_path / "a.csv").write_text(pd.concat([table(), table(seed=1, gap_ms=20.0)]).to_csv(index=False))
    frame = read_table(tmp_path / "a.csv")
    assert "gap_ms" in grouping(frame)
    assert "gap_ms" not in grouping(table(gap_ms=None))
    assert "gap_ms" in grouping(table(gap_ms=20.0))


def test_machines_and_what_only_they_have_count_as_one_thing() -> None:
    cpu = [table(backend=b, run="cpu-box") for b in ("eager", "onnxruntime")]
    gpu = [table(backend=b, run="gpu-box", host="bbbb", cpu="Two", device="cuda:0") for b in ("eager", "onnxruntime")]
    found = pairs(*cpu, *gpu)
    across = [pair for pair in found if "run" in pair.differs]
    assert len(found) == 4
    assert [pair.differs["device"] for pair in across] == [("cpu", "cuda:0")] * 2
    assert all(pair.differs["host"] == ("aaaa", "bbbb") for pair in across)


def test_failed_and_empty_rows_are_not_compared() -> None:
    other = table(backend="onnxruntime")
    other.loc[0, "status"] = "oom"
    other.loc[1, "latency_ms"] = np.nan
    (pair,) = pairs(table(), other)
    assert list(pair.ratios) == [f"net{i}" for i in range(2, 8)]


def test_constant_sides_have_no_ranks() -> None:
    (pair,) = pairs(table(latency_ms=5.0), table(backend="onnxruntime"))
    assert pair.spearman is None


def test_reversed_networks_rank_in_reverse() -> None:
    other = table(backend="onnxruntime")
    other["latency_ms"] = 100 / other["latency_ms"]
    (pair,) = pairs(table(), other)
    assert pair.spearman == pytest.approx(-1)


def write(folder: Path, **frames: pd.DataFrame) -> list[Path]:
    files = [folder / f"{name}.csv" for name in frames]
    for file, frame in zip(files, frames.values(), strict=True):
        frame.to_csv(file, index=False)
    return files


def test_unlike_machines_are_named_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = write(tmp_path, old=table(), new=table(factor=0.5, host="bbbb", cpu="Other CPU"))
    compare_command(files, None, json=False)
    said = capsys.readouterr().out
    assert "old and new were not measured on like machines: host aaaa / bbbb, cpu One CPU / Other CPU." in said
    assert "new / old" in said
    assert "net7" in said


def test_labels_of_one_run_are_named_by_themselves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = [table(fleet_label="here"), table(factor=0.5, fleet_label="there", host="bbbb", cpu="Other CPU")]
    compare_command(write(tmp_path, run=pd.concat(both)), None, json=False)
    said = capsys.readouterr().out
    assert "here and there were not measured on like machines: host aaaa / bbbb, cpu One CPU / Other CPU." in said
    both = [of_one_machine(4.0).assign(fleet_label="here"), of_one_machine(4.4).assign(fleet_label="there")]
    compare_command(write(tmp_path, run=pd.concat(both)), None, json=False)
    said = capsys.readouterr().out
    assert "here and there were calibrated apart: times of there are multiplied by 0.909" in said


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ({}, r"one side to compare \(here: 8 of 8 rows count; there: 0 of 8 rows count \(net0: its 95% interval is "),
        ({"status": "oom"}, r"one side .*; there: 0 of 8 rows count \(net0: oom\)\): expected two whose rows count"),
        (None, r"no measured case to compare \(here: 0 of 8 rows count \(net0: .*; there: 0 of 8 rows count \(net0: "),
    ],
)
def test_labels_of_which_no_row_counts_are_named_with_the_reason(
    there: dict[str, str] | None, said: str, tmp_path: Path
) -> None:
    wide = {"status": "unstable", "latency_ci_low_ms": 0.1, "latency_ci_high_ms": 900.0}
    both = [table(**({} if there is not None else wide)), table(**(wide | (there or {})))]
    run = pd.concat([each.assign(fleet_label=label) for each, label in zip(both, ("here", "there"), strict=True)])
    with pytest.raises(UserError, match=said) as refused:
        compare_command(write(tmp_path, run=run), None, json=False)
    assert "profiler run ... --resume --time 10min" in str(refused.value)


def test_a_label_of_which_no_row_counts_is_said_beside_what_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = {"latency_ci_low_ms": 0.1, "latency_ci_high_ms": 900.0, "fleet_label": "there"}
    here = [table(fleet_label="here"), table(fleet_label="here", backend="onnxruntime")]
    compare_command(write(tmp_path, run=pd.concat([*here, table(**wide)])), None, json=False)
    said = capsys.readouterr()
    assert "left out: there · eager: 0 of 8 rows count (net0: its 95% interval is [0.1, 900]" in said.err
    assert said.err.count("left out") == 1
    assert "onnxruntime / eager" in said.out


def test_like_machines_need_no_notice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare_command(write(tmp_path, old=table(), new=table()), None, json=False)
    assert "not measured on like machines" not in capsys.readouterr().out


def test_json_is_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = write(tmp_path, old=table(n=2), new=table(n=2, factor=2.0))
    compare_command(files, None, json=True)
    (pair,) = json.loads(capsys.readouterr().out)["pairs"]
    assert pair["interval"] is None
    assert pair["mean"] == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ({"a": table()}, "one side to compare"),
        ({"a": table(status="oom"), "b": table(status="oom")}, "no measured case to compare"),
        (
            {"a": table(), "b": table().replace({"model": r"net(.)"}, r"other\1", regex=True)},
            "no two runs share a network",
        ),
        ({"a": table(), "b": table().drop(columns="latency_ms")}, "has no column 'latency_ms'"),
        ({"a": table(), "b": table(latency_ms=np.nan)}, "one side to compare"),
        ({"a": table(latency_ms=np.nan), "b": table(latency_ms=np.nan)}, "no measured case"),
        ({"a": table().head(0), "b": table().head(0)}, "no rows"),
    ],
)
def test_runs_that_cannot_be_compared_are_one_sentence(
    tmp_path: Path, frames: dict[str, pd.DataFrame], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        compare_command(write(tmp_path, **frames), None, json=False)


def test_the_command_line_reaches_it(tmp_path: Path) -> None:
    files = write(tmp_path, old=table(), new=table(factor=2.0))
    done = CliRunner().invoke(app, ["compare", *map(str, files), "--y", "latency_ms"])
    assert done.exit_code == 0, done.output
    assert "new / old" in done.output


def test_which_complexity_predicts_is_told_for_each_label(tmp_path: Path) -> None:
    """On one machine time goes into activations, on the other into flops, which grow otherwise."""
    rng = np.random.default_rng(3)
    base = table(n=12)
    base["flops"] = rng.permutation(base["flops"].to_numpy())
    base["params"] = rng.permutation(base["params"].to_numpy())
    frames = []
    for label, proxy in (("h100", "flops"), ("xeon", "acts")):
        latency = base[proxy] / base[proxy].max() * 10 * np.exp(0.01 * rng.normal(size=len(base)))
        ends = {"latency_ci_low_ms": latency / 1.02, "latency_ci_high_ms": latency * 1.02}
        frames.append(base.assign(fleet_label=label, host=label, latency_ms=latency, **ends))
    pd.concat(frames).to_csv(tmp_path / "run.csv")
    said = " ".join(CliRunner().invoke(app, ["compare", str(tmp_path / "run.csv")]).stdout.split())
    assert "h100: flops predict latency best, in 100% of resamples" in said
    assert "xeon: activations predict latency best, in 100% of resamples" in said
    told = json.loads(CliRunner().invoke(app, ["compare", str(tmp_path / "run.csv"), "--json"]).stdout)
    assert [(one["group"]["fleet_label"], one["winner"]) for one in told["predictors"]] == [
        ("h100", "flops"),
        ("xeon", "acts"),
    ]
