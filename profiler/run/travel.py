"""Models travel by content: the driver sends the bytes of their files, and the worker reads them from a folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from profiler.models.naming import file_of
from profiler.records.files import write_whole
from profiler.records.types import Case
from profiler.run.errand import Parcel

#: Hexadecimal digits of a file's digest.
_DIGITS = 32


def digest_of(data: bytes) -> str:
    """Return the digest under which a file travels."""
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


class Luggage:
    """The files that models of a run are read from, by their digests; each is read once."""

    def __init__(self) -> None:
        self._digests: dict[Path, str] = {}
        self._paths: dict[str, Path] = {}

    def parcel(self, case: Case, beside: Iterable[str]) -> Parcel:
        """Return what a worker needs to read the model of ``case``.

        Args:
            case: Of a model by any name.
            beside: Files that the model is read from too, as its description tells; those outside of the folder of the
                model's own file are no part of it.

        Raises:
            OSError: A file cannot be read any more.
        """
        files: dict[str, str] = {}
        model, own = "", file_of(case.model)
        if own is not None:
            folder = Path(own).absolute().parent
            for path in {Path(own).absolute(), *map(Path, beside)}:
                if path.is_relative_to(folder):
                    files[f"model/{path.relative_to(folder).as_posix()}"] = self._digest(path)
            model = f"model/{Path(own).name}{case.model[len(own) :]}"
        given = f"input/{Path(case.input_file).name}" if case.input_file else ""
        if given:
            files[given] = self._digest(Path(case.input_file).absolute())
        return Parcel(dict(sorted(files.items())), model, given)

    def content(self, digest: str) -> bytes:
        """Return a file by its digest.

        Raises:
            OSError: It cannot be read any more, or has changed.
        """
        data = self._paths[digest].read_bytes()
        if digest_of(data) != digest:
            raise OSError(f"{self._paths[digest]} has changed since this run began")
        return data

    def _digest(self, path: Path) -> str:
        if path not in self._digests:
            self._digests[path] = digest_of(path.read_bytes())
            self._paths[self._digests[path]] = path
        return self._digests[path]


class Depot:
    """Files that were sent to a worker, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def missing(self, parcel: Parcel) -> tuple[str, ...]:
        """Return the digests of files that have not been sent."""
        return tuple(d for d in dict.fromkeys(parcel.files.values()) if not self._file(d).is_file())

    def keep(self, digest: str, data: bytes) -> None:
        """Keep a file that was sent.

        Raises:
            ValueError: It is another one.
            OSError: It cannot be written.
        """
        if digest_of(data) != digest:
            raise ValueError(f"a file arrived with content {digest_of(data)} instead of {digest}")
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._file(digest), data)

    def unpacked(self, parcel: Parcel) -> Path:
        """Return a folder with the files of ``parcel`` at their paths.

        Raises:
            ValueError: A path leads out of the folder.
        """
        folder = self._folder / digest_of(repr(sorted(parcel.files.items())).encode())
        for name, digest in parcel.files.items():
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or not self._named(digest):
                raise ValueError(f"{name!r} is no path inside of a folder")
            path = folder / name
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                os.link(self._file(digest), path)
        return folder

    def _file(self, digest: str) -> Path:
        return self._folder / digest

    @staticmethod
    def _named(digest: str) -> bool:
        return len(digest) == _DIGITS and digest.isalnum()


def moved(case: Case, parcel: Parcel, folder: Path | None) -> Case:
    """Return ``case`` as a worker reads it from where its files are."""
    if folder is None:
        return case
    model = str(folder / parcel.model) if parcel.model else case.model
    given = str(folder / parcel.input_file) if parcel.input_file else ""
    return replace(case, model=model, input_file=given)


def as_asked(text: str, names: Mapping[str, str]) -> str:
    """Return what a worker said, with the paths that the user knows instead of its own."""
    for there, here in names.items():
        text = text.replace(there, here)
    return text
