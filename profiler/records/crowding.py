"""More threads than cores: allowed, and said wherever such a latency is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from profiler.backends.base import Placement
from profiler.records.types import Case


def crowds(cases: Iterable[Case], cores: int) -> list[str]:
    """What ``outnumbered`` says of some cases on so many cores, each sentence once."""
    said = (outnumbered(case.placement, {"cores": cores}) for case in cases)
    return list(dict.fromkeys(filter(None, said)))


def outnumbered(placement: Placement, host: Mapping[str, object]) -> str:
    """Say that the threads of a placement outnumber the cores they may use; empty where they do not.

    Args:
        placement: Whose threads; on an accelerator the host's threads do not run the model.
        host: Facts of the machine, of which ``cores`` counts those that a process may use.
    """
    cores = host.get("cores")
    if placement.device_type != "cpu" or not isinstance(cores, int) or placement.threads <= cores:
        return ""
    usable = "1 usable core" if cores == 1 else f"{cores} usable cores"
    return f"{placement.threads} threads on {usable} wait for each other, and the latency holds that wait"
