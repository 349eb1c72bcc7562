"""Steps in parts, epochs in turns of steps and loader; and training in real processes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler import backends
from profiler.backends.base import Placement, Trainer
from profiler.backends.fake_clock import FakeClock
from profiler.cli.run import How
from profiler.errors import UserError
from profiler.measure import images, training
from profiler.measure.visit import Task, visit
from profiler.plan.cases import expand
from profiler.plan.read import from_flags, loads, to_toml
from profiler.records import table
from profiler.records.columns import Row
from profiler.records.reading import read
from profiler.records.types import Budget, Case, Failure, Feed
from profiler.run.batch import with_batches
from profiler.run.experiment import measure_into
from profiler.run.lab import Lab
from profiler.run.processes import LocalExecutor

PLACE = Placement()
PARTS = ("forward", "loss", "backward", "optimizer", "zero_grad")
#: Times of the parts of a step of the scripted session, in nanoseconds.
SCRIPT = {"forward": 30, "loss": 1, "backward": 60, "optimizer": 8, "zero_grad": 1}

#: A busy neighbour makes a row unstable.
MEASURED = ("ok", "unstable")


class Scripted:
    """A training session whose parts take scripted time on a fake clock, at submission or, as on a GPU, in sync."""

    def __init__(self, clock: FakeClock, *, asynchronous: bool = False, loss: float = 1.0) -> None:
        self.clock, self.asynchronous, self.pending, self.value = clock, asynchronous, 0, loss
        self.parts = {name: self._part(ns) for name, ns in SCRIPT.items()}
        self.fed: list[int] = []

    def _part(self, ns: int):
        def part() -> None:
            self.pending += ns
            if not self.asynchronous:
                self.sync()

        return part

    def run(self) -> None:
        for part in self.parts.values():
            part()

    def sync(self) -> None:
        self.clock.advance(self.pending)
        self.pending = 0

    def feed(self, images: int, labels: int) -> None:
        self.fed.append(images)

    def loss(self) -> float:
        return self.value

    def facts(self) -> dict[str, object]:
        return {}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_each_part_gets_its_own_time_also_where_work_is_only_submitted(asynchronous):
    clock = FakeClock()
    times = training.time_parts(Scripted(clock, asynchronous=asynchronous), Budget(visit_s=1e-6), clock)
    assert tuple(times) == PARTS
    assert {name: set(values) for name, values in times.items()} == {name: {ns} for name, ns in SCRIPT.items()}


@given(st.floats(1e-9, 1e-3), st.integers(1, 10))
def test_steps_end_with_the_budget_but_not_before_the_fewest(visit_s, fewest):
    clock = FakeClock()
    times = training.time_parts(Scripted(clock), Budget(visit_s=visit_s, min_samples=fewest), clock)
    assert fewest <= len(times["forward"]) <= training._PART_STEPS
    assert len(times["forward"]) == fewest or (len(times["forward"]) - 1) * sum(SCRIPT.values()) < visit_s * 0.5e9


@pytest.mark.parametrize("name", backends.NAMES)
def test_every_backend_trains_or_says_in_one_sentence_that_it_cannot(name):
    backend = backends.get(name)
    found = training.trainer(backend, PLACE)
    assert found is backend if isinstance(backend, Trainer) else name in found
    if isinstance(found, str):
        failed = visit(Task(Case("resnet50", "", 1.0, name, Placement(), mode="train"), Budget(), None, None))
        missing = backend.unavailable(Placement())
        assert (failed.status, failed.reason) == ("unsupported", missing or found)
        assert "use backend eager" in found


def test_fp16_training_is_refused_with_a_remedy():
    assert "bf16" in training.trainer(backends.get("eager"), replace(PLACE, precision="fp16"))


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_a_failure(loss):
    failed = training.nonsense(Scripted(FakeClock(), loss=loss))
    assert failed.status == "error"
    assert str(loss) in failed.reason
    assert training.nonsense(Scripted(FakeClock())) is None


class Paced:
    """Stands for a DataLoader on a fake clock: ``ns`` per batch, in this process."""

    def __init__(self, clock: FakeClock, ns: int) -> None:
        self.clock, self.ns, self.opened_times = clock, ns, 0

    @contextmanager
    def opened(self) -> Iterator[Iterator[tuple[int, int]]]:
        self.opened_times += 1
        yield self._batches()

    def _batches(self) -> Iterator[tuple[int, int]]:
        for number in itertools.count():
            self.clock.advance(self.ns)
            yield number, 0


def test_step_loader_and_both_are_timed_apart():
    clock = FakeClock()
    session, source = Scripted(clock), Paced(clock, 40)
    times = training.measure_epoch(session, source.opened, 0, Budget(visit_s=1e-6), clock)
    whole = sum(SCRIPT.values())
    assert times == tuple((ns,) * training._ROUNDS for ns in (whole, 40, whole + 40))
    assert source.opened_times == 2 * training._ROUNDS


def test_an_epoch_needs_training():
    with pytest.raises(UserError, match=r"--epoch: .*--mode train"):
        from_flags(models="resnet50", epoch=True)
    made = from_flags(models="resnet50", modes="train", epoch=True, images=10, workers=0, images_from="x")
    assert (made.passes, made.feed) == (("epoch",), Feed(10, "x", 0))
    assert loads(to_toml(made)) == made


#: A network of the user's: little to compute, 56 MB of activations per image in ``wide``; a process has 290 MB itself.
OWN = """
import torch
from torch import nn

class Wide(nn.Module):
    def __init__(self, copies):
        super().__init__()
        self.copies, self.conv, self.head = copies, nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

    def forward(self, x):
        x = self.conv(x)
        return self.head(x.repeat(1, self.copies, 1, 1).relu().mean((2, 3))[:, :8])

def small():
    return Wide(1), torch.zeros(1, 3, 32, 32)

def wide():
    return Wide(100), torch.zeros(1, 3, 96, 96)
"""


@pytest.fixture(scope="module")
def executor() -> Iterator[LocalExecutor]:
    local = LocalExecutor()
    yield local
    local.close()


class NoReference:
    """Nothing here depends on how fast the machine is, so nothing is calibrated."""

    def get(self, _: Placement) -> Failure:
        return Failure("unsupported", "")


@pytest.fixture
def swept(tmp_path, monkeypatch, executor):
    """Run a plan made from flags in real processes and return its rows."""
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)

    def sweep(memory_limit: str | None = None, **flags: object) -> list[Row]:
        made = from_flags(**flags, threads=1, visit_s="0.02s", warmup_s="0.01s", min_samples=2, rounds=1)
        limits = How(memory_limit=memory_limit).limits()
        lab = Lab(made.budget, executor, limits, NoReference(), made.feed)
        cases = with_batches(expand(made, 1), tmp_path, lab, print, resume=False)
        measure_into(tmp_path / "run", made, cases, lab, passes=made.passes)
        return table.rows(read(tmp_path / "run"))

    return sweep


def test_out_of_memory_in_training_is_a_row_and_the_sweep_goes_on(swept):
    rows = swept("640MiB", models="own:wide", backends="eager", modes="train", batches="16,1", memory=True)
    large, small = rows
    assert (large["status"], large["latency_ms"], large["peak_memory_bytes"]) == ("oom", None, None)
    assert "out of memory" in large["reason"]
    assert small["status"] in MEASURED, small["reason"]
    assert small["forward_ms"] > 0
    assert small["peak_memory_bytes"] > 50_000_000


def test_the_largest_batch_is_found_in_fresh_processes_and_the_row_says_what_was_asked(swept):
    rows = swept("640MiB", models="own:wide", backends="eager,fake:fault=raise", batches="max")
    real, broken = rows
    assert real["status"] in MEASURED, real["reason"]
    assert 1 < real["batch"] < 11
    assert {row["batch_asked"] for row in rows} == {"max"}
    assert (broken["status"], broken["batch"]) == ("error", 1)


def test_an_epoch_in_real_processes_with_a_worker(swept, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    images._make_image(folder / "a.jpg", 0)
    (row,) = swept(
        models="own:small", backends="eager", modes="train", batches=2, epoch=True, images=1000, workers=1,
        images_from=str(folder),
    )  # fmt: skip
    assert (row["epoch_images"], row["epoch_steps"], row["loader_workers"]) == (1000, 500, 1), row["reason"]
    assert row["epoch_error"] > -1
    assert row["epoch_measured_s"] > 0
    assert row["epoch_s"] >= 500 * row["loader_ms"] / 1e3 * (1 - 1e-9)
