"""What is asked of the engine reaches it: names of its settings, how often it speaks, the environment of a visit.

The engine ignores what it does not know, so each of these fails where it calls something by another name.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from profiler.run import serving
from profiler.run.fleet import Fleet
from profiler.run.meeting import Meeting
from tests.run.fleets import local_fleet, wait_for

pytest.importorskip("distributed")

_OURS = {
    "PROFILER_WORKER_LABEL",
    "PROFILER_WORKER_DEVICE",
    "PROFILER_WORKER_TOGETHER",
    "DASK_LOGGING__DISTRIBUTED",
    "__DASK_PARENT_PID",
}


@pytest.mark.parametrize("name", serving._QUIET)
def test_the_engine_has_each_setting(name: str) -> None:
    serving.engine()
    import dask

    known: Any = dask.config.merge(*dask.config.defaults)
    for part in name.split("."):
        assert part in known, f"{name}: {sorted(known)}"
        known = known[part]
    assert dask.config.get(name) == serving._QUIET[name]
    assert name not in dask.config.deprecations


def test_a_worker_speaks_seldom_and_is_spoken_to_at_once() -> None:
    distributed = serving.engine()

    async def meet() -> tuple[float, set[float]]:
        scheduler = serving._calm(distributed.Scheduler)(
            host="127.0.0.1", port=0, dashboard=False, dashboard_address=serving._NO_PAGES
        )
        async with (
            scheduler,
            distributed.Worker(
                scheduler.address, nthreads=1, memory_limit=0, host="127.0.0.1", dashboard_address=serving._NO_PAGES
            ) as worker,
        ):
            await worker.heartbeat()
            said = {scheduler.stream_comms[worker.address].interval}
            return worker.periodic_callbacks["heartbeat"].callback_time / 1e3, said

    beat_s, gathered_s = asyncio.run(meet())
    assert beat_s == serving._BEAT_S
    assert gathered_s == {serving.GATHERED_S}


def test_a_worker_leaves_its_visits_the_environment_that_it_has(tmp_path: Path) -> None:
    with local_fleet(tmp_path) as fleet, Fleet(Meeting(fleet.address)) as driver:
        assert driver._client.scheduler_comm.interval == serving.GATHERED_S
        fleet.add("a")
        wait_for(driver.members, 240)
        given = fleet.nanny("a").environ()
        theirs = fleet.engine("a").environ()
    differ = {name for name in given.keys() | theirs if given.get(name) != theirs.get(name)}
    assert differ <= _OURS | {"PYTHONHASHSEED"}
    assert theirs["PYTHONHASHSEED"] == given.get("PYTHONHASHSEED", "random")
