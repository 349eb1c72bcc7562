"""The scheduler and the workers of a fleet, as processes that serve until they are stopped.

Dask places visits and carries records; nothing of it runs in the process of a visit. A worker is quiet beside what is
measured: it wakes about once a second, and says every few that it is there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import warnings
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.errors import UserError
from profiler.run import agent
from profiler.run.meeting import Meeting, host_of, is_loopback, told_in

if TYPE_CHECKING:
    from distributed.security import Security

#: What the engine does on its own beside its work, or would.
_QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.worker.daemon": False,  # else its process may start none for a visit
    "distributed.admin.tick.interval": "10s",
    "distributed.admin.tick.cycle": "10s",
    "distributed.admin.tick.limit": "60s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.admin.system-monitor.disk": False,
    "distributed.admin.system-monitor.host-cpu": False,
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.scheduler.worker-ttl": "60s",
    "distributed.worker.multiprocessing-method": "spawn",
    # Else one thread for OpenMP and another allocator: a visit has the environment that `profiler worker` was given.
    "distributed.nanny.pre-spawn-environ": {"PYTHONHASHSEED": "random"},
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.admin.large-graph-warning-threshold": "1TB",  # files of models travel as arguments
}
#: The engine's web server, which cannot be turned off: it has no pages, and only this machine reaches it.
_NO_PAGES = "127.0.0.1:0"
#: How long messages are gathered before they are sent, in seconds; the engine's own 5 and 10 ms are most of an errand.
GATHERED_S = 0.001
#: How often a worker says that it is there, in seconds; twice a second, as the engine asks, is most of what it costs.
_BEAT_S = 5.0
#: How long a worker whose scheduler cannot be reached waits before it tries again, in seconds.
_AGAIN_S = 3.0
#: What `profiler fleet --make-certs` leaves in a folder.
CA, CERTIFICATE, KEY = "ca.pem", "certificate.pem", "key.pem"
#: How what is said at a start ends.
ENDS = "; Ctrl-C ends it"


def engine() -> Any:
    """Return Dask's module, quiet and tuned; raises UserError where it is not installed."""
    try:
        import dask
        import distributed
    except ImportError as error:
        raise UserError(
            f"a fleet runs on Dask, which is not installed ({error.name}); "
            "install it with: pip install 'latency-profiler[fleet]'"
        ) from error
    os.environ["DASK_LOGGING__DISTRIBUTED"] = "critical"  # of processes that it starts
    dask.config.set(_QUIET)
    # Beside no way out of a cluster; where a scheduler is reached is said by it.
    warnings.filterwarnings("ignore", "Couldn't detect a suitable IP address", RuntimeWarning)
    for name in ("distributed", *logging.root.manager.loggerDict):
        if name.partition(".")[0] in {"distributed", "tornado"}:
            # What goes wrong is said here in a sentence; the engine's own words are tracebacks.
            logging.getLogger(name).setLevel(logging.CRITICAL + 10)
    return distributed


def security_of(folder: Path | None) -> Security | None:
    """Return how to encrypt and whom to trust, from a folder with certificates; None for neither.

    Raises:
        UserError: A file is missing.
    """
    if folder is None:
        return None
    engine()
    from distributed.security import Security

    missing = [name for name in (CA, CERTIFICATE, KEY) if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"--tls {folder}: {', '.join(missing)} is missing there; make it with: profiler fleet --make-certs {folder}"
        )
    ca, certificate, key = (str(folder / name) for name in (CA, CERTIFICATE, KEY))
    who = {
        f"tls_{role}_{what}": path
        for role in ("client", "worker", "scheduler")
        for what, path in (("cert", certificate), ("key", key))
    }
    secured: Security = Security(tls_ca_file=ca, require_encryption=True, **who)  # type: ignore[no-untyped-call, unused-ignore]
    return secured


def serve_scheduler(
    host: str, port: int, file: Path | None, tls: Path | None, say: Callable[[str], None], *, until_eof: bool = False
) -> None:
    """Run a scheduler until it is stopped, with ``until_eof`` until its standard input ends too.

    Raises:
        UserError: It cannot listen there.
    """
    distributed, security = engine(), security_of(tls)
    scheme = "tls" if security else "tcp"

    async def served(_told: asyncio.Event) -> None:
        scheduler = _calm(distributed.Scheduler)(
            host=f"{scheme}://{host}",
            port=port,
            dashboard=False,
            dashboard_address=_NO_PAGES,
            security=security,
        )
        async with scheduler:
            with told_in(file, scheduler.identity()):
                say(f"scheduler at {scheduler.address}{ENDS}")
                if not is_loopback(host) and security is None:
                    say(_OPEN.format(scheduler.address))
                await scheduler.finished()

    try:
        _until_stopped(served, until_eof)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"no scheduler can listen at {host}:{port} ({words_of(error)}); choose another --host or --port"
        ) from error


def _calm(scheduler: Any) -> Any:
    """Return the engine's scheduler, but one that hears of each worker less often, and tells it at once what to do."""

    class Calm(scheduler):  # type: ignore[misc]
        def heartbeat_worker(self, **said: Any) -> dict[str, Any]:
            answer: dict[str, Any] = super().heartbeat_worker(**said)
            if (stream := self.stream_comms.get(said.get("address"))) is not None:
                stream.interval = GATHERED_S
            if "heartbeat-interval" in answer:
                answer["heartbeat-interval"] = max(_BEAT_S, answer["heartbeat-interval"])
            return answer

    return Calm


_OPEN = (
    "anyone who reaches {} can run programs here and on its workers: keep it in a private network, or use --tls "
    "(profiler fleet --make-certs)"
)


def words_of(error: BaseException) -> str:
    """Return what an error of the engine says: what the system said, where that is its cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(said.split())[:200]


def serve_worker(
    meeting: Meeting, label: str, device: str, together: bool, say: Callable[[str], None], *, until_eof: bool = False
) -> None:
    """Run a worker until it is stopped, as ``serve_scheduler``; where its scheduler is gone, wait for it.

    Raises:
        UserError: The address is none, or a certificate is missing.
    """
    distributed, security = engine(), security_of(meeting.tls)
    meeting.found() if meeting.address else None
    os.environ |= {agent.LABEL: label, agent.DEVICE: device, agent.TOGETHER: "1" if together else "0"}
    waiting = False

    async def served(told: asyncio.Event) -> None:
        nonlocal waiting
        while not told.is_set():
            try:
                async with _nanny(distributed, meeting, label, device, security) as nanny:
                    say(f"worker {label} on {device} serves {meeting.found()}{ENDS}")
                    waiting = False
                    await nanny.finished()
                    if told.is_set():  # the engine, where it is closing, may keep to itself that it was cancelled
                        return
            except (OSError, RuntimeError, TimeoutError, UserError) as error:
                if not waiting:
                    say(f"no scheduler at {meeting.said} ({words_of(error)}); waiting for it")
            else:
                say(f"the scheduler at {meeting.said} is gone; waiting for it")
            waiting = True
            await asyncio.sleep(_AGAIN_S)

    _until_stopped(served, until_eof)


def _nanny(distributed: Any, meeting: Meeting, label: str, device: str, security: Any) -> Any:
    address = meeting.found()
    host = "127.0.0.1" if is_loopback(host_of(address)) else None
    return distributed.Nanny(
        address,
        nthreads=1,
        memory_limit=0,
        host=host,
        protocol=address.partition("://")[0],
        security=security,
        dashboard=False,
        dashboard_address=_NO_PAGES,
        silence_logs=logging.CRITICAL + 10,
        resources={label: 1},
        name=f"{label}-{device}-{os.getpid()}@{agent.introduction().hostname}",
        startup_information=agent.STARTUP,
        metrics=agent.HEARTBEAT,
        env={name: os.environ[name] for name in (agent.LABEL, agent.DEVICE, agent.TOGETHER)},
    )


def _until_stopped(served: Callable[[asyncio.Event], Awaitable[None]], until_eof: bool) -> None:
    """Run until the process is told to end, which ``served`` is cancelled by and may see; all has ended afterwards."""

    async def main() -> None:
        told = asyncio.Event()
        task = asyncio.ensure_future(served(told))
        loop = asyncio.get_running_loop()

        def end() -> None:
            told.set()
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end)
        if until_eof:
            _watch_input(loop, end)
        with suppress(asyncio.CancelledError):
            await task
            if not told.is_set():
                return
        print("stopped", file=sys.stderr)

    asyncio.run(main())


def _watch_input(loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
    """Call ``end`` when standard input ends, as that of a process does whose connection is lost."""

    def read() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            end()

    try:
        loop.add_reader(0, read)
    except OSError as error:
        end()
        raise UserError(f"--until-eof: standard input is no pipe and no terminal ({words_of(error)})") from error
