from __future__ import annotations

import csv
import json
import math
import os
import stat
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest

from profiler import models
from profiler.analysis.frame import network_names
from profiler.analysis.source import read_table
from profiler.backends.base import Placement
from profiler.cli.export import export_command
from profiler.errors import UserError
from profiler.models.complexity import Complexity
from profiler.records.circumstances import Conditions
from profiler.records.columns import COLUMNS, write_csv
from profiler.records.exporting import MAIN
from profiler.records.journal import Journal
from profiler.records.reading import read
from profiler.records.table import frame, rows
from profiler.records.types import Budget, Case, Failure, Measurement, Record, Warmup

FIRST = (
    "model,family,scaling,factor,resolution,flops,params,acts,backend,device,precision,threads,batch,mode,latency_ms,"
    "latency_raw_ms,latency_ci_low_ms,latency_ci_high_ms,p10_ms,p90_ms,visits,samples,throughput_per_s,parity,status,reason"
)
BASE = Case("regnety_400mf", "", 1.0, "onnxruntime", Placement(threads=1), batch=4)
SCALED = replace(BASE, scaling="dWr", factor=2.0)
OWN = replace(BASE, model="m.onnx")
HOST = {"key": "h1", "cpu": "A CPU", "os": "Linux", "python": "3.11"}
BUDGET = Budget(precision=0.05, rounds=4, min_rounds=2)


def measured(ms: float, *, slower: float = 1.0, samples: int = 40, **changes) -> Measurement:
    """A visit of so many equal samples on a machine that is ``slower`` than at its calibration."""
    made = Measurement(
        samples_ns=((round(ms * slower * 1e6),) * samples,),
        calls_per_sample=1,
        reference_ns=((round(1e6 * slower),),) * 2,
        nominal_ns=1e6,
        warmup=Warmup((), steady=True),
        parity=1e-6,
        conditions=Conditions(),
        facts={"onnxruntime": "1.20", "provider": "CPUExecutionProvider"},
        phases_s={"timed": 1.0},
    )
    return replace(made, **changes)


def record(case: Case, outcome: Measurement | Failure, number: int = 0) -> Record:
    known = not case.model.endswith(".onnx")
    counted = models.complexity(models.resolve(case.model, case.scaling, case.factor)) if known else None
    return Record(case, counted, 224, "h1", number, f"2026-01-01T00:00:0{number}+00:00", 1.0, outcome)


def stored(folder, *records: Record, cases=(BASE, SCALED, OWN), budget: Budget = BUDGET):
    facts = {
        "host": HOST,
        "versions": {"torch": "2.9", "onnxruntime": "1.20"},
        "cases": list(cases),
        "budget": budget,
    }
    with Journal.open(folder, facts) as journal:
        for item in records:
            journal.append(item)
    return read(folder)


def row(folder, *outcomes: Measurement | Failure, case: Case = BASE, budget: Budget = BUDGET):
    run = stored(folder, *(record(case, o, i) for i, o in enumerate(outcomes)), cases=[case], budget=budget)
    (only,) = rows(run)
    return only


def test_columns_are_fixed():
    assert ",".join(COLUMNS).startswith(FIRST + ",p99_ms,precision_reached,disturbance,")
    assert len(set(COLUMNS)) == len(COLUMNS)


def test_a_step_beside_the_rule_stands_in_the_row_and_tells_two_networks_apart(tmp_path):
    beside = replace(SCALED, step="d3+1", target_flops=10**9)
    run = stored(tmp_path, record(SCALED, measured(2)), cases=[SCALED, beside])
    on, off = rows(run)
    assert (on["step"], off["step"]) == (None, "d3+1")
    assert off["flops"] > on["flops"]
    assert (on["case"], off["case"]) == (SCALED.key, beside.key)
    assert network_names(frame(run)) == ["regnety_400mf dWr x2", "regnety_400mf dWr x2 d3+1"]


def test_every_case_appears_once_in_plan_order(tmp_path):
    extra = replace(BASE, batch=9)
    run = stored(
        tmp_path,
        record(extra, measured(3)),
        record(SCALED, measured(2)),
        record(BASE, measured(1)),
        record(SCALED, measured(2), 1),
    )
    table = rows(run)
    assert [r["case"] for r in table] == [BASE.key, SCALED.key, OWN.key, extra.key]
    assert [r["status"] for r in table] == ["unstable", "ok", "pending", "unstable"]
    assert all(tuple(r) == COLUMNS for r in table)


def test_a_measured_case(tmp_path):
    r = row(tmp_path, measured(10.0, slower=1.4), measured(10.2, slower=1.4, parity=2e-6))
    assert (r["model"], r["family"], r["scaling"], r["factor"], r["resolution"]) == (
        "regnety_400mf",
        "regnety",
        "",
        1.0,
        224,
    )
    counted = models.complexity(models.get("regnety_400mf"))
    assert Complexity(r["flops"], r["params"], r["acts"]) == counted
    assert r["latency_ms"] == pytest.approx(math.sqrt(10.0 * 10.2))
    assert r["latency_raw_ms"] == pytest.approx(1.4 * 10.1)
    assert r["disturbance"] == pytest.approx(1.4)
    assert r["throughput_per_s"] == pytest.approx(4 / (r["latency_ms"] / 1e3))
    assert r["latency_ci_low_ms"] < 10.0
    assert r["latency_ci_high_ms"] > 10.2
    assert (r["visits"], r["samples"], r["steady_visits"], r["parity"]) == (2, 80, 2, 2e-6)
    assert (r["backend_version"], r["torch_version"], r["onnxruntime_version"]) == ("1.20", "2.9", "1.20")
    assert (r["provider"], r["host"], r["cpu"], r["started"]) == (
        "CPUExecutionProvider",
        "h1",
        "A CPU",
        "2026-01-01T00:00:00+00:00",
    )


def test_more_threads_than_cores_are_said_in_the_row(tmp_path, monkeypatch):
    monkeypatch.setitem(HOST, "cores", 2)
    busy = [
        replace(BASE, placement=Placement(device, threads=n)) for n, device in ((2, "cpu"), (3, "cpu"), (3, "cuda"))
    ]
    reasons = [row(tmp_path / case.key, measured(1), measured(1), case=case)["reason"] for case in busy]
    assert reasons == ["", "3 threads on 2 usable cores wait for each other, and the latency holds that wait", ""]


def test_percentiles_need_samples(tmp_path):
    few = row(tmp_path / "few", measured(10, samples=14), measured(10, samples=14))
    many = row(tmp_path / "many", measured(10, samples=15), measured(10, samples=15))
    assert (few["p10_ms"], few["p90_ms"], few["p99_ms"]) == (None, None, None)
    assert (many["p10_ms"], many["p90_ms"], many["p99_ms"]) == (pytest.approx(10), pytest.approx(10), None)


def test_conditions_add_up_and_stay_empty_where_unknown(tmp_path):
    noisy = Conditions(involuntary_switches=3, steal_s=0.25)
    r = row(tmp_path, measured(10, conditions=noisy), measured(10), measured(10, conditions=noisy))
    assert (r["involuntary_switches"], r["steal_s"], r["stall_s"], r["throttled_s"]) == (6, 0.5, None, None)
    assert (r["marked_samples"], r["samples"]) == (0, 120)


@pytest.mark.parametrize(
    ("outcomes", "status", "reason"),
    [
        ([measured(10), measured(10)], "ok", ""),
        ([measured(10)], "unstable", "one visit gives no interval, ±5% was asked for, after 1 of 4 rounds"),
        (
            [measured(10), measured(11)],
            "unstable",
            "the 95% interval is ±83%, ±5% was asked for, after 2 of 4 rounds",
        ),
        ([Failure("oom", "asked for 9 GiB")], "oom", "asked for 9 GiB"),
        ([Failure("error", "a"), Failure("timeout", "b")], "timeout", "b"),
        (
            [measured(10), Failure("crashed", "signal 11"), measured(10), measured(10)],
            "ok",
            "1 of 4 visits failed: crashed: signal 11",
        ),
        (
            [measured(10), Failure("crashed", "signal 11")],
            "unstable",
            "one visit gives no interval, ±5% was asked for, after 2 of 4 rounds; "
            "1 of 2 visits failed: crashed: signal 11",
        ),
        ([], "pending", "planned, not measured yet; continue the run with --resume"),
    ],
)
def test_status(tmp_path, outcomes, status, reason):
    r = row(tmp_path, *outcomes)
    assert (r["status"], r["reason"]) == (status, reason)


def test_what_an_export_fixed_and_which_one_it_was_stand_in_the_reason(tmp_path):
    r = row(tmp_path, *[measured(10, facts={"trace_note": "it fixes", "export_note": "the other one"})] * 2)
    assert r["reason"].endswith("it fixes; the other one")


def test_a_headline_that_nothing_could_normalise_says_so(tmp_path):
    far = row(tmp_path / "far", measured(10, slower=3.0), measured(10, slower=3.0))
    assert (far["status"], far["latency_ms"]) == ("unstable", pytest.approx(30))
    assert far["reason"].startswith("the reference took 3 times its nominal time at its best: something else has")
    farther = row(tmp_path / "farther", measured(10, slower=450.0), measured(10, slower=450.0))
    assert farther["reason"].startswith("the reference took 450 times its nominal time at its best: something else has")
    restless = row(tmp_path / "restless", *[measured(10, reference_ns=((1_000_000,), (3_000_000,)))] * 2)
    assert (restless["status"], restless["latency_ms"]) == ("unstable", pytest.approx(10))
    assert restless["reason"].startswith("all 2 visits were disturbed throughout, and the latency may be far off")
    once = row(tmp_path / "once", measured(10, reference_ns=((1_000_000,), (3_000_000,))))
    assert once["reason"].startswith("the one visit was disturbed throughout")


def test_a_calibration_beside_a_competitor_does_not_make_a_model_slow(tmp_path):
    """With two threads on one free core the reference took 23 times its time, and latencies were 23 times too long."""
    blocks = {"samples_ns": ((10_000_000,),) * 20, "reference_ns": ((1_000_000,),) * 21}
    r = row(tmp_path, *[measured(10, nominal_ns=23e6, **blocks)] * 2)
    assert (r["latency_ms"], r["latency_raw_ms"], r["disturbance"]) == pytest.approx((10, 10, 1))


def test_a_narrow_interval_of_too_few_visits_is_not_ok(tmp_path):
    r = row(tmp_path, measured(10), measured(10), budget=replace(BUDGET, min_rounds=3))
    assert (r["status"], r["reason"]) == (
        "unstable",
        "2 good visits, at least 3 were asked for, after 2 of 4 rounds",
    )


NUMBERS = (
    COLUMNS[COLUMNS.index("latency_ms") : COLUMNS.index("parity") + 1]
    + COLUMNS[COLUMNS.index("p99_ms") : COLUMNS.index("throttled_s") + 1]
)


@pytest.mark.parametrize("outcomes", [[], [Failure("unsupported", "no fp16 on this CPU")]])
def test_numbers_that_were_not_measured_are_empty_but_counts_are_known(tmp_path, outcomes):
    r = row(tmp_path, *outcomes, case=SCALED)
    assert {name: r[name] for name in NUMBERS} == dict.fromkeys(NUMBERS)
    counted = models.complexity(models.resolve("regnety_400mf", "dWr", 2.0))
    assert (Complexity(r["flops"], r["params"], r["acts"]), r["family"]) == (counted, "regnety")


def test_an_own_model_that_was_not_counted_has_no_counts(tmp_path):
    r = row(tmp_path, measured(10), measured(10), case=OWN)
    assert (r["family"], r["flops"], r["params"], r["acts"], r["status"]) == (None, None, None, None, "ok")


def test_lower_bounds_are_no_counts_and_say_what_is_missing(tmp_path):
    why = "no rule counts aten::_fft_r2c: flops and acts are at least what is given"
    bound = replace(record(OWN, measured(10)), complexity=Complexity(1, 2, 3, 4, 5, why))
    failed = replace(record(OWN, measured(10)), complexity=None, uncounted="could not be counted: ValueError: odd")
    names = ("flops", "acts", "layers", "padding_flops", "params", "uncounted")
    for number, (one, params, said) in enumerate(((bound, 2, why), (failed, None, failed.uncounted))):
        (r,) = rows(stored(tmp_path / str(number), one, cases=[OWN]))
        assert [r[name] for name in names] == [None, None, None, None, params, said]


def test_counts_of_older_records_are_read(tmp_path):
    run = stored(tmp_path, record(BASE, measured(10)), cases=[BASE])
    lines = [json.loads(line) for line in run.path.read_text().splitlines()]
    del lines[1]["record"]["complexity"]["uncounted"], lines[1]["record"]["uncounted"]
    run.path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (r,) = rows(read(tmp_path))
    assert (r["flops"], r["uncounted"]) == (models.complexity(models.get("regnety_400mf")).flops, None)


# --- files


def test_csv_keeps_what_the_rows_say(tmp_path):
    run = stored(tmp_path / "run", record(BASE, measured(12.3456789)), record(BASE, measured(12.3456789), 1))
    path = tmp_path / "deep" / "table.csv"
    write_csv(rows(run), path)
    with path.open(newline="") as file:
        first, second, third = csv.DictReader(file)
    assert tuple(first) == COLUMNS
    assert first["latency_ms"] == "12.3457"
    assert float(first["throughput_per_s"]) == rows(run)[0]["throughput_per_s"]
    assert (second["latency_ms"], second["visits"], second["status"]) == ("", "", "pending")
    assert third["model"] == "m.onnx"
    again = read_table(path)
    pd.testing.assert_frame_equal(
        again[["model", "latency_ms", "status", "case"]],
        frame(run)[["model", "latency_ms", "status", "case"]],
        rtol=1e-5,
        check_dtype=False,
    )


def test_a_csv_appears_complete_or_not_at_all(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def failing():
        yield dict.fromkeys(COLUMNS)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_csv(failing(), path)
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    write_csv([], path)
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_a_csv_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "table.csv", tmp_path):
        with pytest.raises(UserError, match="cannot be written"):
            write_csv([], path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_export_works_while_the_run_goes_on(tmp_path, capsys):
    with Journal.open(tmp_path / "run", {"cases": [BASE, SCALED]}) as journal:
        journal.append(record(BASE, measured(5)))
        with journal.path.open("a") as file:
            file.write('{"kind":"vis')
        export_command(tmp_path / "run", tmp_path / "a.csv")
        export_command(journal.path, tmp_path / "b.csv")
    assert "cut off after 12 bytes" in capsys.readouterr().err
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    assert len(pd.read_csv(tmp_path / "a.csv").columns) == len(MAIN) < len(COLUMNS)
    export_command(journal.path, tmp_path / "c.csv", all_columns=True)
    assert list(pd.read_csv(tmp_path / "c.csv").columns) == list(COLUMNS)
    assert list(read_table(tmp_path / "a.csv")["status"]) == ["unstable", "pending"]


def test_export_of_nothing(tmp_path, capsys):
    with pytest.raises(UserError, match="holds no run"):
        export_command(tmp_path / "none", tmp_path / "a.csv")
    assert [path.name for path in tmp_path.iterdir()] == []
    (tmp_path / "table.csv").write_text("model,latency_ms\n")
    with pytest.raises(UserError, match=r"table\.csv holds no line of a run"):
        export_command(tmp_path / "table.csv", tmp_path / "a.csv")
    assert capsys.readouterr().err == ""
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_tables_are_read_from_folders_journals_and_any_csv(tmp_path):
    run = stored(tmp_path / "run", record(BASE, measured(5)))
    for path in (tmp_path / "run", run.path):
        pd.testing.assert_frame_equal(read_table(path), frame(run))
    other = tmp_path / "other.csv"
    other.write_text("model,flops,params,acts,ms\na,1,2,3,4.5\n")
    assert read_table(other).to_dict("records") == [{"model": "a", "flops": 1, "params": 2, "acts": 3, "ms": 4.5}]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.csv", None, "cannot be read"),
        ("empty.csv", b"", "is not a CSV table"),
        ("twice.csv", b"model,ms,ms\na,1,2\n", "names 'ms' twice, and the columns may differ; keep one of them"),
        ("odd.csv", b'a,b\n1,2,3\n1\n"', "is not a CSV table"),
        ("bytes.csv", b"model\n\xff\n", "is not a CSV table"),
        (
            "short.csv",
            b"model,flops\na,1\n",
            "lacks params, acts; a table to fit has the columns model, flops, params, acts",
        ),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_table(tmp_path / name)


def test_writing_a_csv_needs_neither_pandas_nor_torch(tmp_path):
    stored(tmp_path / "run", record(BASE, measured(5)), record(BASE, measured(5), 1))
    code = (
        "import sys, json; from pathlib import Path; from profiler.cli.export import export_command\n"
        "from profiler.plan import cases, read\n"
        "export_command(Path(sys.argv[1]), Path(sys.argv[2])); cases.expand(read.load('quick'), 2)\n"
        "print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run"), str(tmp_path / "a.csv")]
    loaded = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    assert not {"pandas", "torch", "onnxruntime", "altair", "statsmodels"} & set(loaded)
