"""The journal: one append-only file of JSON lines in a run folder, from which every table is derived.

A line is either a *session* (facts of one start of ``profiler run``) or a *visit* (one
``Record``). A visit is on the disk before the next one starts, so whatever kills a
run costs at most the visit that was under way.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import BaseFileLock, FileLock, Timeout

from profiler.errors import UserError
from profiler.records.outside import toml_table
from profiler.records.reading import NAME, Heard, Run, read
from profiler.records.types import SCHEMA, Measurement, Record

_LOCK = ".lock"
#: The next step where a folder cannot be had.
_ELSEWHERE = "choose another folder with --out (`profiler latency`: --save)"


@dataclass(slots=True)
class Journal:
    """A run folder opened for appending, by this process alone. Use it as a context manager.

    Attributes:
        path: The journal.
        earlier: What the folder held before this command; empty for a new run.
    """

    path: Path
    earlier: Run
    _fd: int
    _lock: BaseFileLock
    _size: int
    _kept: int = field(default=0)

    @classmethod
    def open(
        cls, folder: Path, facts: Mapping[str, Any], *, resume: bool = False, heard: Heard | None = None
    ) -> Journal:
        """Create or continue the run in ``folder`` and write the session's line.

        Args:
            folder: Created with its parents when it does not exist.
            facts: Facts of the session; dataclasses in it (cases, budget) are written as objects.
            resume: Continue a run of the same plan on the same machine. Without a journal in ``folder`` this
                starts one.
            heard: Is given the visits that the folder holds, which are then not kept in memory.

        Raises:
            UserError: Another process runs here; the folder holds a run and ``resume`` is False; the run in
            it
                has another plan or machine; the folder cannot be written.
        """
        path = folder / NAME
        lock = _locked(folder)
        try:
            earlier = _continued(path, facts, resume, heard)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            # A torn last line would swallow the next one: cut it off before anything is appended.
            os.ftruncate(fd, earlier.size)
            _sync_folder(folder)
        except OSError as error:
            lock.release()
            raise _unwritable(path, error) from error
        except UserError:
            lock.release()
            raise
        journal = cls(path, earlier, fd, lock, earlier.size, earlier.made)
        try:
            journal._write({"kind": "session", "schema": SCHEMA, "pid": os.getpid(), "facts": facts})
        except UserError:
            journal.close()
            raise
        return journal

    def append(self, record: Record) -> int:
        """Add one visit, which is then on the disk; return the byte at which its line starts.

        Raises:
            UserError: The disk is full or fails. The journal then ends with the last whole line.
        """
        start = self._size
        self._write({"kind": "visit", "record": record})
        self._kept += 1
        return start

    def close(self) -> None:
        """Give the folder back. Closing twice does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        text = json.dumps(line, ensure_ascii=False, separators=(",", ":"), default=_plain)
        # Output of a crashed process may hold bytes that are no text; they must not cost the line.
        data = (text + "\n").encode(errors="replace")
        try:
            _write_all(self._fd, data)
            os.fsync(self._fd)
        except OSError as error:
            self._cut()
            raise self._full(error) from error
        self._size += len(data)

    def _cut(self) -> None:
        """Remove what a failed write left behind; where even that fails, reading and resuming recover it."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            return

    def _full(self, error: OSError) -> UserError:
        what = "the disk is full" if error.errno in {errno.ENOSPC, errno.EDQUOT} else str(error.strerror)
        if not self._size and not self._kept:
            return UserError(f"{self.path}: {what}, so that nothing was measured. Make room, or {_ELSEWHERE}.")
        return UserError(
            f"{self.path}: {what}, so the last visit was not saved; the {self._kept} before it are safe. "
            "Make room and repeat the command with --resume (`profiler run`), or begin anew in another folder."
        )


def _locked(folder: Path) -> BaseFileLock:
    lock = FileLock(folder / _LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{folder} is in use by another run{_holder(folder)}; wait for it to end, or {_ELSEWHERE}."
        ) from None
    except OSError as error:
        raise _unwritable(folder, error) from error
    return lock


def _holder(folder: Path) -> str:
    """Who holds the lock, as far as the journal tells; it may not have written its line yet."""
    try:
        return f" (process {read(folder).sessions[-1].pid})"
    except (UserError, IndexError):
        return ""


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be written ({error.strerror}); {_ELSEWHERE}, or check its permissions.")


def _continued(path: Path, facts: Mapping[str, Any], resume: bool, heard: Heard | None) -> Run:
    """What there is to continue; refuses to mix it with a run that is not the same."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no file (a pipe, a device or a folder); {_ELSEWHERE}.")
    if not path.exists() or path.stat().st_size == 0:
        return Run(path)
    if not resume:
        return _begun_anew(path)
    earlier = read(path, heard)
    _refuse_unknown(earlier)
    for session in earlier.sessions[-1:]:
        _refuse_other_plan(path, session.facts, facts)
        _refuse_other_machine(path, session.host, facts.get("host", {}))
    return earlier


def _begun_anew(path: Path) -> Run:
    """Nothing, for a run that was stopped before its first visit; refuses to replace any other."""
    earlier = read(path)
    whole = not (earlier.newer or earlier.notices or earlier.adrift)
    if whole and earlier.sessions and not earlier.records:
        return Run(path)
    if whole and not any(isinstance(record.outcome, Measurement) for record in earlier.records):
        raise UserError(
            f"{path.parent} holds a run in which nothing could be measured, and failures are not repeated: remove that "
            f"folder to begin anew, or {_ELSEWHERE}."
        )
    raise UserError(f"{path.parent} already holds a run; continue it with --resume (`profiler run`), or {_ELSEWHERE}.")


def _refuse_unknown(earlier: Run) -> None:
    """Continue nothing of which the plan, the machine or the format is not known."""
    if earlier.newer:
        raise UserError(earlier.newer)
    if earlier.adrift or (earlier.size and not earlier.sessions):
        said = earlier.notices[0].removeprefix(f"{earlier.path}:") if earlier.notices else "its line is missing"
        raise UserError(
            f"{earlier.path} does not say of which plan and machine {earlier.adrift} of its visits are: no session "
            f"before them can be read ({said.rstrip('.')}); export what they measured (profiler export), and measure "
            "into another folder with --out."
        )


def _refuse_other_plan(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    if old.get("digest") == new.get("digest"):
        return
    there, here = ({k: v for k, v in _flat(one.get("plan")).items() if k != "time"} for one in (old, new))
    changes = "; ".join(_changes(there, here)) or "the plan's digest"
    raise UserError(
        f"{path.parent} holds a run of another plan ({changes}); "
        "resume it with its own plan, or choose another folder with --out."
    )


def _refuse_other_machine(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    if old.get("key") == new.get("key"):
        return
    changes = "; ".join(_changes(old, new))
    raise UserError(
        f"{path.parent} holds a run of another machine ({changes}); "
        "results of unlike machines are not mixed: choose another folder with --out."
    )


def _flat(toml: object) -> dict[str, Any]:
    """Keys of a plan's text, those of its tables as ``sweep[1].models``; empty for anything unreadable."""
    try:
        return dict(_leaves("", toml_table(toml if isinstance(toml, str) else "")))
    except ValueError:
        return {}


def _leaves(prefix: str, node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(f"{prefix}{key}.", value)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for i, item in enumerate(value):
                yield from _leaves(f"{prefix}{key}[{i}].", item)
        else:
            yield prefix + key, value


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    keys = [*old, *(key for key in new if key not in old)]
    return [f"{k}: {_said(old, k)} there, {_said(new, k)} here" for k in keys if old.get(k) != new.get(k)]


def _said(facts: Mapping[str, Any], key: str) -> str:
    return json.dumps(facts[key], default=str) if key in facts else "nothing"


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written to the journal")


def _write_all(fd: int, data: bytes) -> None:
    """Write every byte: on a nearly full disk ``os.write`` stores a part and reports no error."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _sync_folder(folder: Path) -> None:
    """Make the name of a new file as durable as its bytes."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
