"""A fleet over ssh, in real processes: ``ssh`` is a script that runs commands on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from profiler.records.reading import read
from tests.run.fleets import PROFILER, environment, free_port, orphans, stand_in_ssh, wait_for

pytest.importorskip("distributed")


class Started:
    def __init__(self, folder: Path) -> None:
        self.port, self.log = free_port(), folder / "log"
        program = " ".join(PROFILER)
        (folder / "hosts.toml").write_text(
            f'port = {self.port}\nprogram = "{program}"\n'
            '[[worker]]\nssh = "node-1"\nlabel = "far"\ntogether = true\n[[worker]]\nlabel = "near"\ntogether = true\n'
        )
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*PROFILER, "fleet", "--ssh", "hosts.toml"],
                cwd=folder,
                env=environment(folder),
                stdout=log,
                stderr=log,
            )
        self.wait_for("all workers are there: profiler run PLAN")

    def wait_for(self, said: str, times: int = 1) -> None:
        wait_for(lambda: self.log.read_text().count(said) >= times or self.process.poll() is not None, 60)
        assert self.log.read_text().count(said) >= times, self.log.read_text()


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Started]]:
    stand_in_ssh(tmp_path, monkeypatch)
    made: list[Started] = []

    def started() -> Started:
        made.append(Started(tmp_path))
        return made[-1]

    yield started
    for each in made:
        if each.process.poll() is None:
            each.process.kill()
        each.process.wait()
    wait_for(lambda: not orphans(tmp_path), 30)


def test_a_fleet_over_ssh_measures_and_ends_with_ctrl_c(start: Callable[[], Started], tmp_path: Path) -> None:
    fleet = start()
    where = ("--scheduler", f"tcp://127.0.0.1:{fleet.port}", "--out", str(tmp_path / "out"))
    what = ("--model", "resnet50", "--backend", "fake", "--device", "far,near", "--rounds", "1", "--visit", "10ms")
    subprocess.run([*PROFILER, "run", *what, *where], env=environment(tmp_path), check=True)
    assert {record.case.fleet_label for record in read(tmp_path / "out").records} == {"far", "near"}
    [ssh] = [p for p in psutil.Process(fleet.process.pid).children() if "node-1" in p.cmdline()]
    os.kill(ssh.pid, signal.SIGTERM)
    fleet.wait_for("far on cpu of node-1: the connection is lost")
    fleet.wait_for("far on cpu of node-1: worker far on cpu serves", 2)
    fleet.process.send_signal(signal.SIGINT)
    assert fleet.process.wait(40) == 0, fleet.log.read_text()
    assert "cut off" not in fleet.log.read_text()


def test_no_process_is_left_where_the_command_is_killed(start: Callable[[], Started]) -> None:
    start().process.kill()
