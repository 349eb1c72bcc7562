"""Read journals, those cut short or damaged included."""

from __future__ import annotations

import gc
import hashlib
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, overload

import pydantic

from profiler.errors import UserError
from profiler.records.lines import NewerError, RunSession, entry_of
from profiler.records.outside import is_folder, open_file, problem
from profiler.records.types import Budget, Case, Record

NAME = "journal.jsonl"

#: Damaged lines that are named one by one.
_NAMED = 5
#: Bytes of a journal whose records are kept in memory, where they take several times as much.
_HELD = 64 << 20
#: What some editors put before a text.
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Run:
    """All that a journal says.

    Attributes:
        path: The journal.
        sessions: In the order of their start.
        records: In the order in which they were measured, each once; those of a large journal are read when asked for.
        notices: One sentence for each line that could not be read, as far as they are few.
        size: Bytes up to the end of the last whole line; what follows is torn.
        adrift: Visits before the first session: nothing says of which plan and machine they are.
        newer: The sentence for the first line that a newer version wrote; empty where none did.
        made: How many visits there are, also where somebody else was given them.
    """

    path: Path
    sessions: tuple[RunSession, ...] = ()
    records: Sequence[Record] = ()
    notices: tuple[str, ...] = ()
    size: int = 0
    adrift: int = 0
    newer: str = ""
    made: int = 0

    @property
    def by_case(self) -> Mapping[str, Sequence[Record]]:
        """Visits of each case under its key, cases in the order of their first visit."""
        if isinstance(self.records, Stored):
            return self.records.by_case()
        groups: dict[str, list[Record]] = {}
        for record in self.records:
            groups.setdefault(record.case.key, []).append(record)
        return {key: tuple(group) for key, group in groups.items()}

    @property
    def planned(self) -> tuple[Case, ...]:
        """Cases of the last session, in plan order, measured or not."""
        return self.sessions[-1].cases if self.sessions else ()

    @property
    def budget(self) -> Budget:
        """The budget of the last session."""
        return self.sessions[-1].budget if self.sessions else Budget()


def visits_at(journal: Path, starts: Iterable[int]) -> Iterator[Record]:
    """Yield visits of a journal by the bytes at which their lines start, in the order of ``starts``.

    Raises:
        UserError: The journal cannot be read any more, or has changed.
    """
    try:
        with open_file(journal) as file:
            for start in starts:
                file.seek(start)
                yield _visit(file.readline())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it has changed since it was opened"
        raise UserError(f"{journal} cannot be read again ({why}); repeat the command") from error


def _visit(line: bytes) -> Record:
    entry = entry_of(line.removeprefix(_MARK).removesuffix(b"\n"))
    if not isinstance(entry, Record):
        raise ValueError("no visit")  # noqa: TRY004 - changed data
    return entry


class Stored(Sequence[Record]):
    """The records of a large journal: each is read again whenever it is asked for.

    Args:
        journal: Where they are.
        starts: Bytes at which their lines start.
        cases: The same for each case, by its key.
    """

    def __init__(self, journal: Path, starts: array[int], cases: Mapping[str, array[int]]) -> None:
        self._journal, self._starts, self._cases = journal, starts, cases

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, at: int) -> Record: ...
    @overload
    def __getitem__(self, at: slice) -> Stored: ...
    def __getitem__(self, at: int | slice) -> Record | Stored:
        if isinstance(at, slice):
            return Stored(self._journal, self._starts[at], {})
        return next(visits_at(self._journal, [self._starts[at]]))

    def __iter__(self) -> Iterator[Record]:
        return visits_at(self._journal, self._starts)

    def by_case(self) -> dict[str, Sequence[Record]]:
        """Those of each case under its key."""
        return {key: Stored(self._journal, starts, {}) for key, starts in self._cases.items()}


def _journal_path(path: Path) -> Path:
    """The journal of a run, given its folder or the file itself.

    Raises:
        UserError: There is none.
    """
    journal = path / NAME if is_folder(path) else path
    try:
        journal.stat()
    except OSError as error:
        raise UserError(
            f"{path} holds no run: expected a folder with {NAME} in it, as `profiler run` leaves one."
        ) from error
    return journal


#: Hears of a visit, and of the byte at which its line starts.
Heard = Callable[[Record, int], None]


def read(path: Path, heard: Heard | None = None) -> Run:
    """Read a run while it grows or after it ended; takes no lock.

    A torn last line is left out, and so is a line in the middle that cannot be read; each gives a notice. A line that
    of a visit that stands there twice counts once.

    Args:
        path: The folder of the run, or its journal.
        heard: Is given the records, of which the run then has none.

    Raises:
        UserError: There is no journal, it cannot be read, or it is all of a newer version.
    """
    journal = _journal_path(path)
    try:
        with open_file(journal) as file:
            lines = _Lines(journal, os.fstat(file.fileno()).st_size > _HELD, heard)
            with _uncollected():
                return lines.all(file)
    except OSError as error:
        raise UserError(f"{journal} cannot be read ({error.strerror}); expected a run's journal.") from error


@contextmanager
def _uncollected() -> Iterator[None]:
    """Do without the collector of cycles for a while: records have none, and it would look at all of them again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Lines:
    """The lines of one journal, on their way to a ``Run``."""

    def __init__(self, journal: Path, stored: bool, heard: Heard | None) -> None:
        self._journal, self._stored, self._heard = journal, stored, heard
        self._sessions: list[RunSession] = []
        self._records: list[Record] = []
        self._starts = array("q")
        self._cases: dict[str, array[int]] = {}
        self._seen: set[bytes] = set()
        self._twice = 0
        self._damaged: list[str] = []
        self._newer = ""
        self._adrift = 0

    def all(self, file: BinaryIO) -> Run:
        """Read all lines.

        Raises:
            UserError: There is nothing but what a newer version wrote.
        """
        size = torn = 0
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                torn = len(line)
                break
            text = line.removesuffix(b"\n")
            self._add(text.removeprefix(_MARK) if number == 1 else text, size, f"{self._journal}:{number}")
            size += len(line)
        if self._newer and not (self._sessions or self._seen):
            raise UserError(self._newer)
        records = Stored(self._journal, self._starts, self._cases) if self._starts else tuple(self._records)
        made = len(self._seen)
        notices = tuple(self._notices(torn))
        return Run(self._journal, tuple(self._sessions), records, notices, size, self._adrift, self._newer, made)

    def _notices(self, torn: int) -> Iterator[str]:
        yield from self._damaged[:_NAMED]
        if len(self._damaged) > _NAMED:
            yield f"{self._journal}: {len(self._damaged) - _NAMED} further lines are damaged and were skipped."
        if self._twice:
            yield f"{self._journal}: {self._twice} visits stand there twice, and count once."
        if torn:
            yield f"{self._journal}: the last line was cut off after {torn} bytes and was left out."

    def _add(self, line: bytes, start: int, where: str) -> None:
        try:
            entry = entry_of(line)
        except NewerError as error:
            self._newer = self._newer or f"{where} {error}"
            self._damaged.append(f"{where} {error}")
        except ValueError as error:
            self._damaged.append(f"{where}: this line is damaged and was skipped ({_first_line(error)}).")
        else:
            if isinstance(entry, RunSession):
                self._sessions.append(self._shared(entry))
            elif (digest := hashlib.blake2b(line, digest_size=16).digest()) in self._seen:
                self._twice += 1
            else:
                self._seen.add(digest)
                self._keep(entry, start)
                self._adrift += not self._sessions

    def _shared(self, session: RunSession) -> RunSession:
        """Return a session that has its cases in common with the one before it, where they are equal."""
        last = self._sessions[-1].cases if self._sessions else ()
        return replace(session, facts={**session.facts, "cases": last}) if last and session.cases == last else session

    def _keep(self, record: Record, start: int) -> None:
        if self._heard is not None:
            self._heard(record, start)
        elif not self._stored:
            self._records.append(record)
        else:
            self._starts.append(start)
            self._cases.setdefault(record.case.key, array("q")).append(start)


def _first_line(error: ValueError) -> str:
    return problem(error) if isinstance(error, pydantic.ValidationError) else str(error).partition("\n")[0]
