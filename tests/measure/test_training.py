"""Steps in parts, epochs from steps and loader, images as training reads them; and training in real processes."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from profiler import backends
from profiler.backends.base import BackendError, Model, Placement, Trainer
from profiler.backends.fake import FakeClock
from profiler.cli.run import _How
from profiler.errors import UserError
from profiler.measure import images as loader
from profiler.measure import training
from profiler.measure.visit import Task, visit
from profiler.plan.cases import expand
from profiler.plan.read import from_flags, loads, to_toml
from profiler.records import journal as store
from profiler.records import table
from profiler.records.columns import Row
from profiler.records.epoch import epoch_time, predict_ns, steps_per_epoch
from profiler.records.reading import dump, parse, read
from profiler.records.types import Budget, Case, Conditions, Epoch, Failure, Feed, Measurement, Record, Warmup
from profiler.run.batch import with_batches
from profiler.run.experiment import measure_into
from profiler.run.lab import Lab
from profiler.run.processes import LocalExecutor
from tests import ROOT

PLACE = Placement()
PARTS = ("forward", "loss", "backward", "optimizer", "zero_grad")
#: Times of the parts of a step of the scripted session, in nanoseconds.
SCRIPT = {"forward": 30, "loss": 1, "backward": 60, "optimizer": 8, "zero_grad": 1}


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return Tiny()


def images(batch: int = 4) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, 3, 16, 16), dtype=np.float32)


@contextmanager
def trained(placement: Placement = PLACE, spec: str = "eager", module=tiny) -> Iterator:
    with backends.get(spec).train(Model(None, module), images(), placement) as session:
        yield session


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


# --- parts ------------------------------------------------------------


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
    assert fewest <= len(times["forward"]) <= training.PART_STEPS
    assert len(times["forward"]) == fewest or (len(times["forward"]) - 1) * sum(SCRIPT.values()) < visit_s * 0.5e9


def test_the_parts_are_one_step_and_the_whole_is_all_parts():
    with trained() as whole, trained() as parted:
        for _ in range(3):
            whole.run()
            for part in parted.parts.values():
                part()
        assert tuple(parted.parts) == PARTS
        assert whole.loss() == parted.loss()


# --- a step in torch ------------------------------------------------------------


def test_training_lowers_the_loss_in_train_mode_and_leaves_no_gradients():
    made: list[nn.Module] = []
    with trained(module=lambda: made.append(tiny()) or made[0]) as session:
        assert made[0].training
        mean = made[0].norm.running_mean.clone()
        session.run()
        first = session.loss()
        for _ in range(200):
            session.run()
        assert session.loss() < first
        assert not torch.equal(made[0].norm.running_mean, mean)
        assert all(parameter.grad is None for parameter in made[0].parameters())


def test_the_loss_is_smoothed_cross_entropy():
    made: list[nn.Module] = []
    with trained(module=lambda: made.append(tiny()) or made[0]) as session:
        x, labels = torch.from_numpy(images()), torch.tensor([0, 1, 2, 3])
        session.feed(x, labels)
        logs = torch.log_softmax(made[0](x).detach(), 1)
        expected = -(0.9 * logs[range(4), labels] + 0.1 * logs.mean(1)).mean()
        session.run()
        assert session.loss() == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(("spec", "name"), [("eager", "sgd"), ("eager:optimizer=adamw", "adamw")])
def test_facts_say_optimizer_classes_and_precision(spec, name):
    with trained(spec=spec) as session:
        facts = session.facts()
    assert (facts["optimizer"], facts["classes"], facts["label_smoothing"], facts["autocast"]) == (name, 5, 0.1, None)


def test_bf16_is_autocast_over_fp32_weights_and_changes_the_loss_a_little():
    made: list[nn.Module] = []
    with trained(replace(PLACE, precision="bf16"), module=lambda: made.append(tiny()) or made[0]) as half:
        half.run()
        low = half.loss()
        assert half.facts()["autocast"] == "bf16"
        assert {parameter.dtype for parameter in made[0].parameters()} == {torch.float32}
    with trained() as full:
        full.run()
        assert 0 < abs(full.loss() - low) < 0.02 * full.loss()


def test_channels_last_holds_for_the_images_that_are_fed_too():
    with trained(replace(PLACE, memory_format="channels_last")) as session:
        assert session.facts()["memory_format"] == "channels_last"
        session.feed(torch.from_numpy(images()), torch.zeros(4, dtype=torch.long))
        assert session._images.is_contiguous(memory_format=torch.channels_last)
        session.run()


def test_a_closed_session_refuses_and_a_model_without_classes_is_no_classifier():
    with trained() as session, pytest.raises(BackendError, match="run"):
        session.loss()
    with pytest.raises(BackendError, match="closed"):
        session.run()
    with pytest.raises(BackendError, match="classifier"), trained(module=lambda: nn.Conv2d(3, 4, 3)):
        pass


@pytest.mark.parametrize("name", backends.NAMES)
def test_every_backend_trains_or_says_in_one_sentence_that_it_cannot(name):
    backend = backends.get(name)
    found = training.trainer(backend, PLACE)
    assert found is backend if isinstance(backend, Trainer) else name in found
    if isinstance(found, str):
        reply = visit(Task(Case("resnet50", "", 1.0, name, Placement(), mode="train"), Budget(), None, None))
        assert (reply.outcome.status, reply.outcome.reason) == ("unsupported", found)
        assert "use backend eager" in found


def test_fp16_training_is_refused_with_a_remedy():
    assert "bf16" in training.trainer(backends.get("eager"), replace(PLACE, precision="fp16"))


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_a_failure(loss):
    failed = training.nonsense(Scripted(FakeClock(), loss=loss))
    assert failed.status == "error"
    assert str(loss) in failed.reason
    assert training.nonsense(Scripted(FakeClock())) is None


# --- epochs ------------------------------------------------------------


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
    assert predict_ns(step, load, workers, threads, cores) == expected


@given(st.integers(1, 10**7), st.integers(1, 10**4))
def test_steps_cover_every_image_once(count, size):
    steps = steps_per_epoch(count, size)
    assert (steps - 1) * size < count <= steps * size


class Paced:
    """Stands for a DataLoader on a fake clock: ``ns`` per batch, in this process."""

    def __init__(self, clock: FakeClock, ns: int) -> None:
        self.clock, self.ns, self.workers, self.opened_times = clock, ns, 0, 0

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
    times = training.measure_epoch(session, source, Budget(visit_s=1e-6), clock)
    whole = sum(SCRIPT.values())
    assert times == tuple((ns,) * training.ROUNDS for ns in (whole, 40, whole + 40))
    assert source.opened_times == 2 * training.ROUNDS


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


# --- images ------------------------------------------------------------


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers())
def test_a_crop_lies_in_the_image_with_the_area_and_aspect_asked_for(width, height, seed):
    left, top, right, bottom = loader.random_crop(width, height, random.Random(seed))
    assert 0 <= left < right <= width + 1e-6
    assert 0 <= top < bottom <= height + 1e-6
    across, down = right - left, bottom - top
    whole = (across, down) == (width, height)
    assert whole or 0.08 - 1e-9 <= across * down / (width * height) <= 1 + 1e-9
    assert whole or 3 / 4 - 1e-9 <= across / down <= 4 / 3 + 1e-9


def test_a_sample_is_a_normalised_crop_always_the_same(tmp_path):
    colour = (255, 128, 0)
    Image.new("RGB", (60, 40), colour).save(tmp_path / "a.png")
    data = loader.Images((tmp_path / "a.png",), 16, 10)
    pixels, label = data[13]
    expected = (np.array(colour) / 255 - loader.MEAN) / loader.DEVIATION
    assert pixels.shape == (3, 16, 16)
    assert label == 3
    assert torch.allclose(pixels.mean((1, 2)), torch.tensor(expected, dtype=torch.float32), atol=1e-4)


def test_half_of_the_samples_are_mirrored_and_crops_differ(tmp_path):
    ramp = np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (48, 1, 3))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    data = loader.Images((tmp_path / "ramp.png",), 16, 10)
    samples = [data[index][0] for index in range(100)]
    mirrored = sum(bool(s[0, :, 0].mean() > s[0, :, -1].mean()) for s in samples)
    assert 30 < mirrored < 70
    assert len({float(s.sum()) for s in samples}) == 100
    assert torch.equal(samples[7], data[7][0])


def test_images_are_made_once_and_weigh_what_photographs_do(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "MADE", 4)
    files = loader.made_images(tmp_path)
    sizes = [path.stat().st_size for path in files]
    assert len(files) == 4
    assert 60_000 < np.mean(sizes) < 180_000
    stamps = [path.stat().st_mtime_ns for path in files]
    assert [path.stat().st_mtime_ns for path in loader.made_images(tmp_path)] == stamps
    assert [path.name for path in tmp_path.iterdir()] == [f"images-v{loader.VERSION}"]


def test_a_folder_of_images_is_searched_and_refused_in_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"--images-from .*no such folder"):
        loader.files_in(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match="no image in it"):
        loader.files_in(tmp_path)
    (tmp_path / "class").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "class" / "B.JPG", "JPEG")
    assert [path.name for path in loader.usable_files(str(tmp_path), None)] == ["B.JPG"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_real_data_loader_gives_batches_and_ends_its_workers(tmp_path, workers):
    import psutil

    Image.new("RGB", (40, 30), (9, 9, 9)).save(tmp_path / "a.jpg")
    before = {child.pid for child in psutil.Process().children()}
    with loader.batches(loader.Images((tmp_path / "a.jpg",), 8, 5), 3, workers, pin=False) as source:
        first, second = next(source), next(source)
        assert len({child.pid for child in psutil.Process().children()} - before) == workers
    assert first[0].shape == (3, 3, 8, 8)
    assert [first[1].tolist(), second[1].tolist()] == [[0, 1, 2], [3, 4, 0]]
    assert {child.pid for child in psutil.Process().children()} <= before


@pytest.mark.parametrize(
    ("device", "threads", "cores", "workers"), [("cpu", 1, 2, 1), ("cpu", 4, 2, 0), ("cuda:0", 1, 8, 8)]
)
def test_workers_take_the_cores_that_training_leaves(device, threads, cores, workers):
    assert loader.default_workers(device, threads, cores) == workers


# --- plans and rows ------------------------------------------------------------


def test_an_epoch_needs_training():
    with pytest.raises(UserError, match=r"--epoch: .*--mode train"):
        from_flags(models="resnet50", epoch=True)
    made = from_flags(models="resnet50", modes="train", epoch=True, images=10, workers=0, images_from="x")
    assert (made.passes, made.feed) == (("epoch",), Feed(10, "x", 0))
    assert loads(to_toml(made)) == made


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
    with store.Journal.open(tmp_path / "run", {"cases": [CASE]}) as journal:
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
    assert parse(dump(original)) == original


# --- real processes ------------------------------------------------------------


#: A network of the user's: little to compute, 50 MB of activations per image in ``wide``.
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
    return Wide(100), torch.zeros(1, 3, 128, 128)
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
        limits = _How(memory_limit=memory_limit).limits()
        lab = Lab(made.budget, executor, limits, NoReference(), made.feed)
        cases = with_batches(expand(made, 1), tmp_path, lab, print, resume=False)
        measure_into(tmp_path / "run", made, cases, lab)
        return table.rows(read(tmp_path / "run"))

    return sweep


def test_out_of_memory_in_training_is_a_row_and_the_sweep_goes_on(swept):
    rows = swept("1GiB", models="own:wide", backends="eager", modes="train", batches="16,1", memory=True)
    large, small = rows
    assert (large["status"], large["latency_ms"], large["peak_memory_bytes"]) == ("oom", None, None)
    assert "out of memory" in large["reason"]
    assert small["status"] == "unstable", small["reason"]
    assert small["forward_ms"] > 0
    assert small["peak_memory_bytes"] > 50_000_000


def test_the_largest_batch_is_found_in_fresh_processes_and_the_row_says_what_was_asked(swept):
    rows = swept("1GiB", models="own:wide", backends="eager,fake:fault=raise", batches="max")
    real, broken = rows
    assert real["status"] == "unstable", real["reason"]
    assert 1 < real["batch"] < 11
    assert {row["batch_asked"] for row in rows} == {"max"}
    assert (broken["status"], broken["batch"]) == ("error", 1)


def test_an_epoch_in_real_processes_with_a_worker(swept, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    loader.make_image(folder / "a.jpg", 0)
    (row,) = swept(
        models="own:small", backends="eager", modes="train", batches=2, epoch=True, images=1000, workers=1,
        images_from=str(folder),
    )  # fmt: skip
    assert (row["epoch_images"], row["epoch_steps"], row["loader_workers"]) == (1000, 500, 1), row["reason"]
    assert row["epoch_error"] > -1
    assert row["epoch_measured_s"] > 0
    assert row["epoch_s"] >= 500 * row["loader_ms"] / 1e3 * (1 - 1e-9)


def test_the_flags_reach_the_plan():
    flags = "--mode train --batch max --memory --epoch --images 10 --workers 0 --images-from . --dry-run"
    done = subprocess.run(
        [sys.executable, "-m", "profiler", "run", "--model", "resnet50", "--backend", "eager", *flags.split()],
        check=True, cwd=ROOT, text=True, capture_output=True, timeout=120,
    )  # fmt: skip
    assert "eager train" in done.stdout
    assert "b1 (max)" in done.stdout


def test_a_training_case_that_crashes_is_not_hidden_by_other_passes(tmp_path):
    failed = Failure("oom", "no room")
    made = row(tmp_path, failed)
    assert (made["status"], made["reason"], made["epoch_compute_s"]) == ("oom", "no room", None)
