"""A worker that is told to end ends, whatever the engine is at when it hears that."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from profiler.run import serving
from profiler.run.meeting import Meeting

pytest.importorskip("distributed")


class Closing:
    """A nanny that is closing as its scheduler is gone, and then does not hear that it is told to end."""

    entered = 0

    async def __aenter__(self) -> Closing:
        Closing.entered += 1
        assert Closing.entered == 1, "it was told to end and went on"
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
        return self

    async def finished(self) -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return

    async def __aexit__(self, *_: Any) -> None:
        pass


def test_a_worker_that_is_told_to_end_while_its_scheduler_goes_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serving, "_nanny", lambda *_: Closing())
    monkeypatch.setattr(serving, "_AGAIN_S", 0.0)
    for name in (serving.agent.LABEL, serving.agent.DEVICE, serving.agent.TOGETHER):
        monkeypatch.setenv(name, "")
    said: list[str] = []
    serving.serve_worker(Meeting("tcp://127.0.0.1:1"), "a", "cpu", together=False, say=said.append)
    assert len(said) == 1
    assert capsys.readouterr().err == "stopped\n"
