"""An epoch from steps and loader, and the rows of training."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.backends.base import Placement
from profiler.records import table
from profiler.records.circumstances import Conditions
from profiler.records.columns import Row
from profiler.records.epoch import _predict_ns, epoch_time, steps_per_epoch
from profiler.records.journal import Journal
from profiler.records.lines import dump, parse_record
from profiler.records.reading import read
from profiler.records.types import Case, Epoch, Failure, Measurement, Record, Warmup

PLACE = Placement()


@pytest.mark.parametrize(
    ("step", "load", "workers", "threads", "cores", "expected"),
    [
        (100, 30, 0, 1, 8, 130),  # one process does both
        (100, 30, 2, 1, 8, 100),
        (100, 130, 2, 1, 8, 130),
        (100, 90, 2, 2, 2, 190),  # four busy threads share two cores
        (100, 90, 8, 0, 4, 180),  # the step is on an accelerator
    ],
)
def test_the_slower_sets_the_pace_and_nothing_beats_all_cores_busy(step, load, workers, threads, cores, expected):
    assert _predict_ns(step, load, workers, threads, cores) == expected


@given(st.integers(1, 10**7), st.integers(1, 10**4))
def test_steps_cover_every_image_once(count, size):
    steps = steps_per_epoch(count, size)
    assert (steps - 1) * size < count <= steps * size


EPOCH = Epoch((100e6,) * 3, (30e6,) * 3, (125e6,) * 3, images=1000, workers=0, cores=2, files=9)


def test_an_epoch_in_seconds_with_its_error():
    told = epoch_time(EPOCH, PLACE, 64)
    assert (told.predicted_s, told.measured_s) == (pytest.approx(16 * 0.130), pytest.approx(16 * 0.125))
    assert told.error == pytest.approx(0.04)


def test_a_drift_of_the_machine_is_no_error_of_the_prediction():
    drift = (1.0, 1.3, 2.0)
    drifting = replace(
        EPOCH, step_ns=tuple(100e6 * d for d in drift), loader_ns=tuple(30e6 * d for d in drift),
        joint_ns=tuple(130e6 * d for d in drift),
    )  # fmt: skip
    assert epoch_time(drifting, PLACE, 64).error == pytest.approx(0)


CASE = Case("resnet50", "", 1.0, "eager", PLACE, batch=64, mode="train")


STEP = Measurement(
    samples_ns=((100_000_000,) * 5,),
    calls_per_sample=1,
    reference_ns=((10,), (10,)),
    nominal_ns=8.0,  # the machine ran at four fifths of its speed
    warmup=Warmup((), steady=True),
    parity=None,
    conditions=Conditions(),
    facts={"optimizer": "sgd"},
    parts_ns={"forward": (30_000_000, 32_000_000, 31_000_000), "backward": (69_000_000,) * 3},
)


def row(tmp_path, *outcomes) -> Row:
    measures = {Epoch: "epoch"}
    with Journal.open(tmp_path / "run", {"cases": [CASE]}) as journal:
        for number, outcome in enumerate(outcomes):
            kind = measures.get(type(outcome), "latency")
            at = "2026-01-01T00:00:00+00:00"
            journal.append(Record(CASE, None, 224, "h", number, at, 1.0, outcome, measures=kind))
    (made,) = table.rows(read(tmp_path / "run"))
    return made


def test_parts_are_scaled_like_the_latency_so_that_they_add_up_to_it(tmp_path):
    made = row(tmp_path, STEP, STEP)
    assert made["latency_ms"] == pytest.approx(80)
    assert made["forward_ms"] + made["backward_ms"] == pytest.approx(80)
    assert made["loss_ms"] is None
    assert made["optimizer"] == "sgd"
    assert (made["epoch_images"], made["epoch_steps"]) == (1_281_167, 20019)
    assert made["epoch_compute_s"] == pytest.approx(20019 * 0.08)
    assert made["epoch_s"] is None


def test_an_epoch_stands_in_its_row_beside_its_measurement(tmp_path):
    made = row(tmp_path, STEP, STEP, EPOCH)
    assert made["epoch_s"] == pytest.approx(16 * 0.13)
    assert made["epoch_error"] == pytest.approx(made["epoch_s"] / made["epoch_measured_s"] - 1)
    assert (made["loader_ms"], made["loader_workers"], made["visits"]) == (30, 0, 2)
    assert made["epoch_compute_s"] == pytest.approx(16 * 0.08)


def test_an_epoch_record_survives_the_journal():
    original = Record(CASE, None, 224, "h", 0, "t", 1.0, EPOCH, measures="epoch")
    assert parse_record(dump(original)) == original


def test_a_training_case_that_crashes_is_not_hidden_by_other_passes(tmp_path):
    failed = Failure("oom", "no room")
    made = row(tmp_path, failed)
    assert (made["status"], made["reason"], made["epoch_compute_s"]) == ("oom", "no room", None)
