"""Images as training reads them: JPEG files, decoded, cropped at random, flipped, normalised, collated by a DataLoader.

The files come from a folder of the user's, or from a small set of the size of ImageNet's that is made once and kept.
Either is read over and over, so that it comes from memory: what is measured is decoding and transforming, not a disk.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Pixels = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})

#: Mean and standard deviation of ImageNet's channels, for pixels from 0 to 1.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Area and aspect ratio of a random crop (Szegedy et al., "Going deeper with convolutions", section 6).
_AREA, _ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)

#: Bumped when the images that are made change.
_VERSION = 1
#: ImageNet's images are 470 x 390 on average, the most common size is 500 x 375, and a file has 110 kB.
_MADE, _WIDTH, _HEIGHT, _QUALITY = 64, 500, 375, 92
#: Batches that each worker makes ahead.
AHEAD = 2

_Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Images:
    """Endless samples over a few files; satisfies what torch's DataLoader asks of a map-style data set.

    Attributes:
        files: Read in turn, over and over.
        size: Height and width of a sample, in pixels.
        classes: Labels go round from 0 to this.
    """

    files: tuple[Path, ...]
    size: int
    classes: int

    def __len__(self) -> int:
        """Return more than any epoch has."""
        return 1 << 40

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return sample ``index``, always the same, shape (3, size, size), and its label."""
        import torch

        draw = random.Random(index)  # noqa: S311 - a crop, not a secret
        pixels = _transformed(self.files[index % len(self.files)], self.size, draw)
        return torch.from_numpy(pixels), index % self.classes


def _transformed(path: Path, size: int, draw: random.Random) -> Pixels:
    """Return a random crop of an image, perhaps mirrored, normalised; fp32, shape (3, size, size)."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        whole = image.convert("RGB")
    crop = whole.resize((size, size), Image.Resampling.BILINEAR, box=_random_crop(whole.width, whole.height, draw))
    if draw.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = np.asarray(crop, np.float32) / 255
    normalised = (pixels - np.array(_MEAN, np.float32)) / np.array(_DEVIATION, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1))


def _random_crop(width: int, height: int, draw: random.Random) -> _Box:
    """Return a random rectangle (left, top, right, bottom) inside an image.

    Its area is uniform in ``_AREA`` of the image's, the logarithm of its aspect uniform in ``_ASPECT``. After
    ten that do not fit it is the whole image.
    """
    for _ in range(10):
        area = width * height * draw.uniform(*_AREA)
        aspect = math.exp(draw.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
        across, down = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if across <= width and down <= height:
            left, top = draw.uniform(0, width - across), draw.uniform(0, height - down)
            return left, top, left + across, top + down
    return 0.0, 0.0, float(width), float(height)


def _files_in(folder: Path) -> tuple[Path, ...]:
    """Return the image files under ``folder``, in the order of their names.

    Raises:
        UserError: There is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise UserError(f"--images-from {folder}: no such folder; expected one with images in it")
    found = tuple(sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES))
    if not found:
        raise UserError(
            f"--images-from {folder}: no image in it; expected files ending in {', '.join(sorted(_SUFFIXES))}"
        )
    return found


def _made_images(cache: Path | None) -> tuple[Path, ...]:
    """Return the small set of images that stands in for a data set, made when ``cache`` does not hold it yet."""
    root = cache if cache is not None else Path(tempfile.gettempdir())
    folder = root / f"images-v{_VERSION}"
    if not folder.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=root, prefix=".images-"))
        for number in range(_MADE):
            _make_image(scratch / f"{number:03}.jpg", number)
        _publish(scratch, folder)
    return _files_in(folder)


def _publish(scratch: Path, folder: Path) -> None:
    try:
        scratch.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(scratch, ignore_errors=True)  # another process was faster


def _make_image(path: Path, seed: int) -> None:
    """Write one JPEG that costs as much to decode as a photograph.

    Noise of halving grain is enlarged and added, with an amplitude that falls with the grain. How steeply was chosen so
    that a file has 95 kB, near ImageNet's 110: what decoding costs follows from pixels and bytes.
    """
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(seed)
    total = np.full((_HEIGHT, _WIDTH, 3), 128.0, np.float32)
    for grain in (128, 64, 32, 16, 8, 4, 2, 1):
        shape = (math.ceil(_HEIGHT / grain), math.ceil(_WIDTH / grain), 3)
        noise = Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8))
        enlarged = np.asarray(noise.resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC), np.float32)
        total += (enlarged - 127.5) * (0.8 * (grain / 128) ** 0.4)
    Image.fromarray(total.clip(0, 255).astype(np.uint8)).save(path, quality=_QUALITY)


def default_workers(device: str, threads: int, cores: int) -> int:
    """Return the workers that load when nobody said how many: the cores that training on ``device`` leaves."""
    return max(0, cores - threads) if device.partition(":")[0] == "cpu" else cores


@contextmanager
def batches(images: Images, batch: int, workers: int, *, pin: bool) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
    """Give the batches of a DataLoader without end; its workers start with the context and end with it.

    Args:
        images: Read in their order: a random one costs nothing, and crops are random already.
        batch: Images per batch.
        workers: Processes that load; 0 loads in this one.
        pin: Put batches into pinned memory, for copies to an accelerator.
    """
    from torch.utils.data import DataLoader

    # A visit's process may have no children unless it says so; the parent ends them all with it.
    multiprocessing.current_process().daemon = False
    loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
        images,  # type: ignore[arg-type]  # it has what a map-style data set needs
        batch_size=batch,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        # In a visit the default is to ask a fork server, which there would have to be started and import torch first.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        pin_memory=pin,
    )
    iterator = iter(loader)
    try:
        yield iterator
    finally:
        shut_down = getattr(iterator, "_shutdown_workers", None)
        if shut_down is not None:
            shut_down()


def usable_files(folder: str | None, cache: Path | None) -> tuple[Path, ...]:
    """Return the files of the user's ``folder``, or the small set that is made where there is none."""
    return _files_in(Path(os.path.expandvars(folder)).expanduser()) if folder else _made_images(cache)
