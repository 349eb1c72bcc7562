"""Hold the clocks of GPUs while something is measured, where the driver permits it.

A process of its own holds them: ``python -m profiler.machine.locking MHZ UUID...`` sets them, says which, and resets
them when its standard input ends. So they are reset however the command ends that asked for it, killed or not.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pynvml

from profiler.machine import gpus, host, nvml
from profiler.machine.beside import run_beside

#: What there is to do where the driver does not permit it.
_INSTEAD = (
    "clocks are as they are: set them as root (nvidia-smi --lock-gpu-clocks), or leave --lock-clocks out and look at "
    "probe_clock_mhz"
)
#: Seconds in which a clock that was set is reset.
_RESET_S = 30.0


@contextmanager
def locked_clocks(uuids: Sequence[str], mhz: int, warn: Callable[[str], object]) -> Iterator[None]:
    """Hold the multiprocessors of the GPUs with ``uuids`` at ``mhz`` for the duration of the context.

    A partition (MIG) has the clock of its GPU. ``warn`` is told in a sentence what the driver does not permit, setting
    or resetting. The host's facts tell the clocks meanwhile.
    """
    with run_beside(__name__, str(mhz), *uuids) as process:
        assert process.stdout is not None  # it is a pipe
        locked, refused = _told(process.stdout.readline())
        for said in refused:
            warn(f"{said}; {_INSTEAD}")
        gpus.LOCKED_MHZ.update(dict.fromkeys(locked, mhz))
        host.facts.cache_clear()
        try:
            yield
        finally:
            gpus.LOCKED_MHZ.clear()
            host.facts.cache_clear()
            if locked:
                for said in _told(_last_word(process))[1]:
                    warn(f"{said}: reset it with nvidia-smi --reset-gpu-clocks")


def _told(line: bytes) -> tuple[list[str], list[str]]:
    """Return which GPUs a line says are locked, by UUID, and what it says went wrong."""
    try:
        told = json.loads(line)
    except ValueError:
        return [], ["the process that holds the clock ended without a word"]
    return told["locked"], told["said"]


def _last_word(process: subprocess.Popen[bytes]) -> bytes:
    try:
        return process.communicate(timeout=_RESET_S)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return b""


def _hold(mhz: int, uuids: Sequence[str]) -> None:
    """Lock, say so in a line, wait for the end of standard input, reset, and say that in another."""
    locked: list[str] = []
    try:
        with nvml.library():
            wholes = [nvml.identify(uuid).whole for uuid in uuids]
            found = {nvml.query("nvmlDeviceGetUUID", whole): whole for whole in wholes}
            said = [_lock(uuid, whole, mhz) for uuid, whole in found.items()]
            locked = [uuid for uuid, refused in zip(found, said, strict=True) if not refused]
            _tell(locked, said)
            sys.stdin.read()
            _tell(locked, [_reset(uuid, found[uuid]) for uuid in locked])
    except (nvml.NvmlError, pynvml.NVMLError) as error:
        _tell(locked, [str(error)])


def _tell(locked: Sequence[str], said: Sequence[str]) -> None:
    print(json.dumps({"locked": locked, "said": [sentence for sentence in said if sentence]}), flush=True)


def _lock(uuid: str, found: object, mhz: int) -> str:
    """Lock one GPU; return why not, in a sentence."""
    try:
        pynvml.nvmlDeviceSetGpuLockedClocks(found, mhz, mhz)
    except pynvml.NVMLError as error:
        return f"the clock of {uuid} cannot be locked at {mhz} MHz ({str(error).lower()})"
    return ""


def _reset(uuid: str, found: object) -> str:
    try:
        pynvml.nvmlDeviceResetGpuLockedClocks(found)
    except pynvml.NVMLError as error:
        return f"the clock of {uuid} cannot be reset ({str(error).lower()})"
    return ""


if __name__ == "__main__":
    _hold(int(sys.argv[1]), sys.argv[2:])
