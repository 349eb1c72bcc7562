"""A fleet of real processes on this machine, for tests that hurt it."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from profiler.records.reading import NAME, Run, read
from tests import ROOT
from tests.run.nets import Nets

PROFILER = (sys.executable, "-m", "profiler")


Found = TypeVar("Found")
#: So long does a process live that is one of a visit, in seconds, and no other.
_SET_OUT_S = 0.2


def _of_server(process: psutil.Process) -> bool:
    """Whether this serves fresh processes, or is one of them that has not ended."""
    return "forkserver" in " ".join(process.cmdline())


def environment(folder: Path, **more: str) -> dict[str, str]:
    engine = find_spec("distributed")
    assert engine is not None
    assert engine.origin is not None
    path = os.pathsep.join([str(ROOT), str(Path(engine.origin).parents[1])])
    return os.environ | {"PYTHONPATH": path, "XDG_CACHE_HOME": str(folder / "cache")} | more


def wait_for(what: Callable[[], Found], seconds: float = 30.0) -> Found:
    """Return what ``what`` returns as soon as it is true."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


def free_port() -> str:
    """A port that no client is given: while nobody listens there, one that connects to its own would take it."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return str(port)
    raise AssertionError("no port is free")


class LocalFleet:
    """A scheduler and workers; ``folder`` has their caches and what they print; with ``net`` each label is a node."""

    def __init__(self, folder: Path, net: Nets | None = None) -> None:
        self.folder, self.net = folder, net
        self.file = folder / "scheduler.json"
        self.address = ""
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.started: list[subprocess.Popen[bytes]] = []
        try:
            self.start_scheduler()
        except BaseException:
            self.close()
            raise

    def start_scheduler(self) -> None:
        port = self.address.rpartition(":")[2] or free_port()
        host = ("--host", self.net.address) if self.net else ()
        self.file.unlink(missing_ok=True)
        self.scheduler = self.process("scheduler", *host, "--port", port, "--scheduler-file", str(self.file))
        wait_for(lambda: self.file.is_file() or self.scheduler.poll() is not None)
        assert self.file.is_file(), self.said()
        self.address = json.loads(self.file.read_text())["address"]

    def add(self, label: str, name: str = "", **more: str) -> None:
        name = name or label
        arguments = ("worker", "--scheduler", self.address, "--label", label, "--together")
        self.workers[name] = self.process(*arguments, cwd=self.folder, node=label, **more)

    def process(
        self, *arguments: str, cwd: Path | None = None, node: str = "hub", **more: str
    ) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            given, inside = environment(self.folder, **more), self.net.inside(node) if self.net else []
            made = subprocess.Popen([*inside, *PROFILER, *arguments], stdout=log, stderr=log, cwd=cwd, env=given)
        self.started.append(made)
        return made

    def run(self, out: Path, *arguments: str, cwd: Path | None = None) -> subprocess.Popen[bytes]:
        where = ("--scheduler", self.address, "--out", str(out))
        return self.process("run", *arguments, *where, "--threads", "1", cwd=cwd)

    def said(self) -> str:
        return (self.folder / "log").read_text()

    def nanny(self, name: str) -> psutil.Process:
        return psutil.Process(self.workers[name].pid)

    def engine(self, name: str) -> psutil.Process:
        """The process that makes visits, child of the one that keeps it alive."""
        return next(c for c in self.nanny(name).children() if "spawn_main" in " ".join(c.cmdline()))

    def child(self, name: str) -> psutil.Process | None:
        """The process of a visit that runs now; not one that only tells that its server has loaded."""
        try:
            server = next(c for c in self.engine(name).children() if _of_server(c))
            # Each has a session of its own; what a library starts while the server loads it has not.
            found = next(c for c in server.children() if os.getsid(c.pid) == c.pid)
            time.sleep(_SET_OUT_S)
            return found if _of_server(found) else None
        except (StopIteration, OSError, psutil.Error):
            return None

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def local_fleet(folder: Path, net: Nets | None = None) -> Iterator[LocalFleet]:
    folder.mkdir(parents=True, exist_ok=True)
    fleet = LocalFleet(folder, net)
    try:
        yield fleet
    finally:
        fleet.close()


def journal(out: Path) -> Run | None:
    return read(out) if (out / NAME).is_file() else None


def whole(out: Path, cases: int, rounds: int) -> bool:
    """Whether each visit of each case stands in the journal once."""
    found = Counter((r.case.key, r.case.fleet_label, r.round) for r in read(out).records)
    return len(found) == cases * rounds and set(found.values()) == {1}


def visits(out: Path) -> int:
    found = journal(out)
    return len(found.records) if found else 0


def orphans(folder: Path) -> list[str]:
    """Processes of a fleet in ``folder``, by its cache in their environment."""
    mark, found = str(folder / "cache"), []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("XDG_CACHE_HOME") == mark:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


_SSH = """#!/bin/sh
while [ "$1" != "--" ]; do shift; done
shift; host=$1; shift
case $host in
  gone) echo "ssh: connect to host gone port 22: No route to host" >&2; exit 255 ;;
  old) echo "latency-profiler 0.0.1"; exit 0 ;;
esac
exec 3<&0
sh -c "$*" <&3 &
trap 'exit 255' TERM
wait $!
"""


def stand_in_ssh(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put an ``ssh`` first on the path that runs commands here; it loses its connection on SIGTERM."""
    (folder / "ssh").write_text(_SSH)
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
