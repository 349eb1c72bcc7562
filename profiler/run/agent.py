"""The worker's side of a fleet: a visit on request, in a child process of its own, exactly as on the user's machine.

One of these is in each worker process. What it is told and what it answers is JSON.
"""

from __future__ import annotations

import errno
import os
import platform
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from profiler import __version__
from profiler.backends.base import Placement
from profiler.errors import UserError
from profiler.machine import host
from profiler.machine.cache import cache_folder
from profiler.records.nominal import Calibration
from profiler.records.types import Case, Failure, Record
from profiler.run.calibrations import Calibrations
from profiler.run.child import Limits
from profiler.run.errand import SUBJECT, Errand, Introduction, Lost, Missing, answered_text, errand_of, to_text
from profiler.run.lab import Lab, one_visit
from profiler.run.preparing import prepare_exports
from profiler.run.processes import LocalExecutor, start_server
from profiler.run.travel import Depot, as_asked, moved

#: How ``profiler worker`` tells its processes what they are.
LABEL, DEVICE, TOGETHER = "PROFILER_WORKER_LABEL", "PROFILER_WORKER_DEVICE", "PROFILER_WORKER_TOGETHER"
#: Free bytes below which a failure is the disk's and no case's; exports and logs of a visit take some.
_ROOM = 32 << 20
#: As many visits go without the reference after it could not be calibrated beside what keeps the cores busy, before
#: that is tried again: it takes longer than a visit.
_WITHOUT = 30


def node() -> str:
    """Return what names this host, also where it has several names: the boot of its kernel."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return platform.node()


@cache
def introduction() -> Introduction:
    """Return what this worker says of itself."""
    return Introduction(
        label=os.environ[LABEL],
        device=os.environ[DEVICE],
        together=os.environ.get(TOGETHER) == "1",
        node=node(),
        hostname=platform.node(),
        host=dict(host.facts()),
        key=host.key(),
        versions={"latency-profiler": __version__, **host.versions()},
    )


def introduced(_worker: object) -> str:
    """Tell the scheduler what this worker is, once; what the first visit needs is loaded meanwhile."""
    start_server()
    return to_text(introduction())


@dataclass
class _State:
    """What this process is doing, for whoever lists workers."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    folder: Path | None = None
    visits: int = 0
    now: str = ""
    calibrated: str = ""
    without: dict[Placement, int] = field(default_factory=dict)


_STATE = _State()


def told(_worker: object) -> Mapping[str, Any]:
    """Tell the scheduler what this worker does, at each heartbeat."""
    return {"now": _STATE.now, "visits": _STATE.visits, "calibrated": _STATE.calibrated}


def _depot() -> Depot:
    if _STATE.folder is None:
        _STATE.folder = Path(tempfile.mkdtemp(prefix="sent-", dir=_scratch()))
    return Depot(_STATE.folder)


def _scratch() -> str | None:
    """Return the folder that is removed with this worker; None outside of one."""
    from distributed import get_worker

    try:
        return str(get_worker().local_directory)
    except ValueError:
        return None


@cache
def _executor(isolation: Any) -> LocalExecutor:
    return LocalExecutor(isolation)


@contextmanager
def _alone() -> Iterator[None]:
    """Keep other workers of this host from measuring meanwhile; of its device alone where that was asked for."""
    known = introduction()
    shared, device = known.together, known.device.replace(":", "")
    if shared and device == "cpu":
        yield
        return
    name = f"latency-profiler-{device}.lock" if shared else "latency-profiler-host.lock"
    with FileLock(Path(tempfile.gettempdir()) / name, mode=0o666):
        yield


def keep_file(digest: str, data: bytes) -> str:
    """Keep a file that models of the run are read from; return an empty text, or why it cannot be kept."""
    try:
        _depot().keep(digest, data)
    except (OSError, ValueError) as error:
        return answered_text(Lost(_said(error)))
    return ""


def make_visit(text: str) -> str:
    """Make the visit that a driver asks for; return the record, what is missing, or why none can be made here."""
    try:
        errand = errand_of(text)
        with _STATE.lock, _alone():
            return answered_text(_visited(errand))
    except (OSError, ValueError, UserError) as error:  # none of these is of the case: its own come in its record
        return answered_text(Lost(_said(error)))


def _visited(errand: Errand) -> Record | Missing | Lost:
    depot = _depot()
    if missing := depot.missing(errand.parcel):
        return Missing(missing)
    folder = depot.unpacked(errand.parcel) if errand.parcel.files else None
    case = replace(moved(errand.case, errand.parcel, folder), fleet_label="")
    here = replace(case, placement=replace(case.placement, device=introduction().device))
    lab = _lab(errand, here.placement)
    _STATE.now = errand.case.label
    try:
        if errand.measures == "latency":  # a visit that exports would be another one than those after it
            prepare_exports([here], cache_folder(), errand.budget, lab.limits, partial(LocalExecutor, errand.isolation))
        made = one_visit(here, errand.number, lab, errand.measures)
    finally:
        _STATE.now = ""
        _STATE.visits += 1
    if errand.case.backend.partition(":")[0] != "fake" and errand.measures == "latency":
        _note(lab.calibrations.get(here.placement), here.placement)
    if isinstance(made.outcome, Failure) and (full := _full(made.outcome)):
        return Lost(full)
    return _as_asked(made, errand.case, here)


def _note(known: Calibration | Failure, placement: Placement) -> None:
    if isinstance(known, Calibration):
        _STATE.calibrated = known.created
        _STATE.without.pop(placement, None)
    else:
        _STATE.calibrated = ""
        _STATE.without[placement] = (_STATE.without.get(placement, 0) or _WITHOUT + 1) - 1


def _lab(errand: Errand, placement: Placement) -> Lab:
    executor = _executor(errand.isolation)
    cores = sorted(os.sched_getaffinity(0)) if errand.pin and hasattr(os, "sched_getaffinity") else []

    def limits(placement: Any) -> Limits:
        return Limits(tuple(cores[: placement.threads]), errand.memory_bytes)

    measure = not _STATE.without.get(placement, 0)
    calibrations = Calibrations(executor, cache_folder(), limits, measure=measure)
    return Lab(errand.budget, executor, limits, calibrations, errand.feed)


def _as_asked(made: Record, case: Case, here: Case) -> Record:
    """Return the record of the case as the driver knows it, with its paths in what failed."""
    outcome = made.outcome
    if isinstance(outcome, Failure):
        paths = {a: b for a, b in ((here.model, case.model), (here.input_file, case.input_file)) if a and a != b}
        outcome = replace(outcome, reason=as_asked(outcome.reason, paths), detail=as_asked(outcome.detail, paths))
    return replace(made, case=case, outcome=outcome, worker=f"{introduction().hostname} {introduction().device}")


def _full(failed: Failure) -> str:
    """Return that a disk is full where a visit failed for it; empty where it did not."""
    words = f"{failed.reason}\n{failed.detail}"
    places = {str(cache_folder()), tempfile.gettempdir()}
    full = [place for place in places if _free(place) < _ROOM]
    if os.strerror(errno.ENOSPC) in words or os.strerror(errno.EDQUOT) in words or full:
        where = " and ".join(full or sorted(places))
        return f"the disk of {platform.node()} is full ({where})"
    return ""


def _free(place: str) -> int:
    path = Path(place)
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"the disk of {platform.node()} is full ({error.filename or tempfile.gettempdir()})"
    return " ".join(str(error).split())[:500]


#: What a worker is started with, so that the scheduler tells of it without asking it.
STARTUP, HEARTBEAT = {SUBJECT: introduced}, {SUBJECT: told}
