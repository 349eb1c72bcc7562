"""A fleet that lives as long as this process: its scheduler and workers, started over ssh where they are elsewhere.

Each is told to end when its standard input does, and only this process holds the other end: however it ends, and
however a connection is lost, nothing is left behind.
"""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType

from profiler import __version__
from profiler.errors import UserError
from profiler.run.fleet import Fleet, SchedulerLostError
from profiler.run.hosts import Hosts, WorkerAt
from profiler.run.meeting import Meeting, is_loopback
from profiler.run.serving import ENDS

#: No question that nobody answers; a machine that is gone is noticed within a minute.
_SSH = ("ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=15", "--")
#: How long a machine may take to say its version, in seconds; Python reads a lot from a cold disk.
_ASK_S = 60.0
#: How often it is looked who has come, and how long a lost machine is left alone, in seconds.
_LOOK_S, _REST_S = 1.0, 10.0
#: How long what was told to end may take, in seconds: a visit ends at once, connections are closed.
_END_S = 15.0
#: How long the last words of a process are waited for, in seconds; what it left elsewhere may keep its output open.
_LAST_S = 1.0
#: What ssh itself ends with, and a shell that finds no program, or none that may run.
_NO_SSH, _NO_PROGRAM = 255, (126, 127)
#: What a Python says that is called with ``-m`` and has no such package.
_NO_MODULE = "No module named"


@dataclass
class _Started:
    """A process that was started here or over ssh."""

    said: str
    where: str
    command: Sequence[str]
    process: subprocess.Popen[str] | None = None
    last: str = ""
    #: Why its connection is lost, as it was said; empty where it is not.
    lost: str = ""
    #: Looks left until it is started again.
    rest: float = 0.0

    def start(self, events: SimpleQueue[tuple[_Started, str | None]]) -> None:
        try:
            self.process = subprocess.Popen(  # noqa: S603 - what the user named
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C is for this process, which tells them
            )
        except OSError as error:
            raise UserError(f"{self.command[0]} cannot be started here ({error.strerror}); install it") from error
        reader = threading.Thread(target=self._read, args=(self.process, events), daemon=True)
        reader.start()
        threading.Thread(target=self._wait, args=(self.process, reader, events), daemon=True).start()

    def _read(self, process: subprocess.Popen[str], events: SimpleQueue[tuple[_Started, str | None]]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip():
                events.put((self, line.strip().removesuffix(ENDS)))

    def _wait(
        self,
        process: subprocess.Popen[str],
        reader: threading.Thread,
        events: SimpleQueue[tuple[_Started, str | None]],
    ) -> None:
        process.wait()
        reader.join(_LAST_S)
        events.put((self, None))

    def tell(self) -> None:
        """Tell it to end."""
        if self.process is not None and self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()

    def ended(self, timeout_s: float) -> bool:
        """Whether it ends in time; what does not is killed."""
        if self.process is None:
            return True
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False
        return True


def _called(ssh: str, program: str, words: Sequence[str]) -> list[str]:
    """Return the command that calls the profiler on a machine; an empty ``ssh`` is this one."""
    if not ssh:
        return [sys.executable, "-m", "profiler", *words]
    return [*_SSH, ssh, f"{_as_typed(program)} {shlex.join(words)}"]


def _as_typed(program: str) -> str:
    """Return a program's path as a shell takes it; what is more, as ``python -m profiler``, is taken as it is."""
    return program if " " in program else shlex.quote(program)


def check_hosts(hosts: Hosts) -> None:
    """Ask each machine for its version of the profiler.

    Raises:
        UserError: One cannot be reached, has no profiler, or another version: a line for each.
    """
    asked = {(hosts.scheduler, hosts.program), *((w.ssh, w.program or hosts.program) for w in hosts.worker)}
    far = sorted(pair for pair in asked if pair[0])
    with ThreadPoolExecutor(len(far) or 1) as pool:
        wrong = list(filter(None, pool.map(lambda pair: _refused(*pair), far)))
    if wrong:
        raise UserError("\n".join(wrong))


def _refused(ssh: str, program: str) -> str:
    """Return why a machine cannot be used; empty where it can."""
    try:
        done = subprocess.run(  # noqa: S603 - what the user named
            _called(ssh, program, ["--version"]),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ASK_S,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{ssh} did not say its version within {_ASK_S:g} s; try `ssh {ssh} {program} --version`"
    except OSError as error:
        return f"ssh cannot be started here ({error.strerror}); install it"
    return _unlike(ssh, program, done)


def _unlike(ssh: str, program: str, done: subprocess.CompletedProcess[str]) -> str:
    """Return why what a machine answered is not this version; empty where it is."""
    said = next(
        iter(reversed((done.stderr.strip() or done.stdout.strip()).splitlines())), f"exit code {done.returncode}"
    )
    found = re.search(r"^latency-profiler (\S+)$", done.stdout, re.MULTILINE)
    if done.returncode == _NO_SSH:
        return f"{ssh} cannot be reached over ssh ({said}); try `ssh {ssh} true` until it works and asks nothing"
    if done.returncode in _NO_PROGRAM or (done.returncode and _NO_MODULE in said):
        return (
            f"{ssh} has no program {program} ({said}); install latency-profiler there, or say where it is, as "
            'program = "/opt/venv/bin/profiler"'
        )
    if found is None:
        return f"{ssh}: {program} --version says {said!r}; expected latency-profiler {__version__}"
    if found[1] != __version__:
        return f"{ssh} has latency-profiler {found[1]} and this machine {__version__}; install one version on both"
    return ""


def _processes(hosts: Hosts) -> tuple[_Started, list[_Started]]:
    """Return the scheduler and the workers, to be started."""
    tls = ["--tls", hosts.tls] if hosts.tls else []
    listen = ["scheduler", "--host", hosts.host, "--port", str(hosts.port), *tls, "--until-eof"]
    where = hosts.scheduler or "this machine"
    scheduler = _Started(f"scheduler on {where}", where, _called(hosts.scheduler, hosts.program, listen))
    return scheduler, [_worker(hosts, each, tls) for each in hosts.worker]


def _worker(hosts: Hosts, each: WorkerAt, tls: Sequence[str]) -> _Started:
    words = ["worker", "--scheduler", hosts.address, "--label", each.label, "--device", each.device, *tls]
    words += ["--together"] if each.together else []
    where = each.ssh or "this machine"
    command = _called(each.ssh, each.program or hosts.program, [*words, "--until-eof"])
    return _Started(f"{each.label} on {each.device} of {where}", where, command)


@dataclass
class _Kept:
    """What was started, and who has come."""

    hosts: Hosts
    say: Callable[[str], None]
    scheduler: _Started
    workers: list[_Started]
    events: SimpleQueue[tuple[_Started, str | None]] = field(default_factory=SimpleQueue)
    fleet: Fleet | None = None
    there: set[str] = field(default_factory=set)
    complete: bool = False

    def run(self) -> None:
        """Keep it until it is told to end."""
        for each in (self.scheduler, *self.workers):
            each.start(self.events)
        while True:
            try:
                self._hear(*self.events.get(timeout=_LOOK_S))
            except Empty:
                self._again()
                self._greet()

    def _hear(self, of: _Started, line: str | None) -> None:
        if line is not None:
            if line != of.last:  # a machine that stays away says the same each time
                of.last, of.lost = line, ""
                self.say(f"{of.said}: {line}")
            return
        code = of.process.returncode if of.process else 0
        if of is self.scheduler:
            raise UserError(f"the {of.said} has ended ({of.last or f'exit code {code}'}); the workers are stopped too")
        of.tell()  # or what it left elsewhere would not notice
        of.process = None
        if code == _NO_SSH:
            of.rest, why = _REST_S, of.last or "no word"
            if why != of.lost:
                self.say(f"{of.said}: the connection is lost ({why}); it is tried every {_REST_S:g} s")
            of.lost = why
            return
        self.say(f"{of.said}: it has ended ({of.last or f'exit code {code}'})")
        if not any(worker.process or worker.rest for worker in self.workers):
            raise UserError(f"no worker is left; the last to end was {of.said} ({of.last or f'exit code {code}'})")

    def _again(self) -> None:
        """Start again those whose connection was lost."""
        for each in self.workers:
            if each.rest:
                each.rest = max(0.0, each.rest - _LOOK_S)
                if not each.rest:
                    each.start(self.events)

    def _greet(self) -> None:
        """Say who has come, and once how to use them."""
        if self.complete:
            return
        try:
            self.fleet = self.fleet or Fleet(Meeting(self.hosts.address, tls=_folder(self.hosts.tls)))
            members = self.fleet.members()
        except (UserError, SchedulerLostError):
            self.fleet = None
            return
        for member in members:
            if member.address not in self.there:
                self.there.add(member.address)
                self.say(f"{member.said} is {f'not asked: {member.refused}' if member.refused else 'there'}")
        self.complete = len(members) >= len(self.workers)
        if self.complete:
            self.fleet.close()
            tls = f" --tls {self.hosts.tls}" if self.hosts.tls else ""
            self.say(
                f"all workers are there: profiler run PLAN --scheduler {self.hosts.address}{tls}; Ctrl-C ends them"
            )

    def stop(self) -> None:
        """End all, workers first."""
        if self.fleet is not None:
            self.fleet.close()
        for group in (self.workers, [self.scheduler]):
            for each in group:
                each.tell()
            late = [each.said for each in group if not each.ended(_END_S)]
            if late:
                self.say(f"{', '.join(late)} did not end in time and was cut off: it ends when it notices")


def _folder(text: str) -> Path | None:
    return Path(text) if text else None


def keep_fleet(hosts: Hosts, say: Callable[[str], None]) -> None:
    """Start a fleet, keep it until Ctrl-C or SIGTERM, and end it.

    Args:
        hosts: Its machines.
        say: Is told what happens.

    Raises:
        UserError: A machine cannot be used; nothing was started then. Or the scheduler or all workers have ended.
    """
    check_hosts(hosts)
    if is_loopback(hosts.host) and any(each.ssh for each in hosts.worker):
        say(f"host {hosts.host} is reached from one machine alone; give an address that the workers reach")
    scheduler, workers = _processes(hosts)
    kept = _Kept(hosts, say, scheduler, workers)
    with _stoppable():
        try:
            kept.run()
        except KeyboardInterrupt:
            say("stopping")
        finally:
            kept.stop()


@contextmanager
def _stoppable() -> Iterator[None]:
    """Take SIGTERM, and a terminal that closes, as Ctrl-C."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
