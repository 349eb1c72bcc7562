"""Images as training reads them: crops, labels, the small set that is made, and a real DataLoader."""

from __future__ import annotations

import random

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from profiler.errors import UserError
from profiler.measure import images


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers())
def test_a_crop_lies_in_the_image_with_the_area_and_aspect_asked_for(width, height, seed):
    left, top, right, bottom = images._random_crop(width, height, random.Random(seed))
    assert 0 <= left < right <= width + 1e-6
    assert 0 <= top < bottom <= height + 1e-6
    across, down = right - left, bottom - top
    whole = (across, down) == (width, height)
    assert whole or 0.08 - 1e-9 <= across * down / (width * height) <= 1 + 1e-9
    assert whole or 3 / 4 - 1e-9 <= across / down <= 4 / 3 + 1e-9


def test_a_sample_is_a_normalised_crop_always_the_same(tmp_path):
    colour = (255, 128, 0)
    Image.new("RGB", (60, 40), colour).save(tmp_path / "a.png")
    data = images.Images((tmp_path / "a.png",), 16, 10)
    pixels, label = data[13]
    expected = (np.array(colour) / 255 - images._MEAN) / images._DEVIATION
    assert pixels.shape == (3, 16, 16)
    assert label == 3
    assert torch.allclose(pixels.mean((1, 2)), torch.tensor(expected, dtype=torch.float32), atol=1e-4)


def test_half_of_the_samples_are_mirrored_and_crops_differ(tmp_path):
    ramp = np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (48, 1, 3))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    data = images.Images((tmp_path / "ramp.png",), 16, 10)
    samples = [data[index][0] for index in range(100)]
    mirrored = sum(bool(s[0, :, 0].mean() > s[0, :, -1].mean()) for s in samples)
    assert 30 < mirrored < 70
    assert len({float(s.sum()) for s in samples}) == 100
    assert torch.equal(samples[7], data[7][0])


def test_images_are_made_once_and_weigh_what_photographs_do(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_MADE", 4)
    files = images._made_images(tmp_path)
    sizes = [path.stat().st_size for path in files]
    assert len(files) == 4
    assert 60_000 < np.mean(sizes) < 180_000
    stamps = [path.stat().st_mtime_ns for path in files]
    assert [path.stat().st_mtime_ns for path in images._made_images(tmp_path)] == stamps
    assert [path.name for path in tmp_path.iterdir()] == [f"images-v{images._VERSION}"]


def test_a_folder_of_images_is_searched_and_refused_in_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"--images-from .*no such folder"):
        images._files_in(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match="no image in it"):
        images._files_in(tmp_path)
    (tmp_path / "class").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "class" / "B.JPG", "JPEG")
    assert [path.name for path in images.usable_files(str(tmp_path), None)] == ["B.JPG"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_real_data_loader_gives_batches_and_ends_its_workers(tmp_path, workers):
    Image.new("RGB", (40, 30), (9, 9, 9)).save(tmp_path / "a.jpg")
    before = {child.pid for child in psutil.Process().children()}
    with images.batches(images.Images((tmp_path / "a.jpg",), 8, 5), 3, workers, pin=False) as source:
        first, second = next(source), next(source)
        assert len({child.pid for child in psutil.Process().children()} - before) == workers
    assert first[0].shape == (3, 3, 8, 8)
    assert [first[1].tolist(), second[1].tolist()] == [[0, 1, 2], [3, 4, 0]]
    assert {child.pid for child in psutil.Process().children()} <= before


@pytest.mark.parametrize(
    ("device", "threads", "cores", "workers"), [("cpu", 1, 2, 1), ("cpu", 4, 2, 0), ("cuda:0", 1, 8, 8)]
)
def test_workers_take_the_cores_that_training_leaves(device, threads, cores, workers):
    assert images.default_workers(device, threads, cores) == workers
