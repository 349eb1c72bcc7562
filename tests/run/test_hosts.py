"""The file of a fleet over ssh, and machines that cannot be used: a sentence for each, and nothing is started."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from profiler import __version__
from profiler.cli.fleet import fleet_command
from profiler.errors import UserError
from profiler.run.hosts import Hosts, WorkerAt, read_hosts
from profiler.run.remote import _called, _Kept, _Started, check_hosts
from tests.run.fleets import stand_in_ssh


def test_a_file_of_hosts_is_read(tmp_path: Path) -> None:
    file = tmp_path / "hosts.toml"
    file.write_text('host = "::1"\ntls = "certs"\n[[worker]]\nssh = "me@node"\nlabel = "h100"\ndevice = "cuda:0"\n')
    hosts = read_hosts(file)
    assert hosts == Hosts(worker=[WorkerAt(label="h100", ssh="me@node", device="cuda:0")], host="::1", tls="certs")
    assert hosts.address == "tls://[::1]:8786"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"hosts.toml: worker: .*"),
        ("worker = []", "at least 1 item"),
        ("[[worker]]\nssh = 'a'", r"worker\[0\].label: "),
        ("[[worker]]\nlabel = 'cpu'", "is no label of machines"),
        ("[[worker]]\nlabel = 'a'\nssh = '-oProxyCommand=x'", r"worker\[0\].ssh: '-oProxyCommand=x' is no name"),
        ("[[worker]]\nlabel = 'a'\ndevice = 'tpu'", "unknown device 'tpu'"),
        ("[[worker]]\nlabel = 'a'\nhots = 'b'", r"unknown key; expected one of label, ssh"),
        ("port = 0\n[[worker]]\nlabel = 'a'", "port: 0 is wrong"),
        ("port = ", "not valid TOML"),
    ],
)
def test_what_is_wrong_in_it_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "hosts.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=said):
        read_hosts(file)


def test_a_file_that_is_not_there_and_two_wishes_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No such file or directory; expected a TOML file"):
        fleet_command(ssh=tmp_path / "none.toml")
    for wishes in ({}, {"ssh": tmp_path, "make_certs": tmp_path}):
        with pytest.raises(UserError, match=r"expected one of --ssh HOSTS\.toml"):
            fleet_command(**wishes)


def test_each_machine_that_cannot_be_used_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_ssh(tmp_path, monkeypatch)
    machines = {"gone": "profiler", "old": "profiler", "bare": "no-such-profiler", "odd": "echo hello", "fine": "good"}
    machines["plain"] = "echo python: No module named profiler; false"
    (tmp_path / "good").write_text(f"#!/bin/sh\necho a banner\necho latency-profiler {__version__}\n")
    (tmp_path / "good").chmod(0o755)
    workers = [WorkerAt(label="a", ssh=ssh, program=program) for ssh, program in machines.items()]
    with pytest.raises(UserError) as refused:
        check_hosts(Hosts(worker=workers))
    said = dict(line.split(" ", 1) for line in str(refused.value).splitlines())
    assert said.keys() == {"gone", "old", "bare", "odd:", "plain"}
    assert "cannot be reached over ssh (ssh: connect to host gone port 22: No route to host); try" in said["gone"]
    assert "`ssh gone true` until it works and asks nothing" in said["gone"]
    assert f"has latency-profiler 0.0.1 and this machine {__version__}; install one version" in said["old"]
    assert "has no program no-such-profiler (" in said["bare"]
    assert 'program = "/opt/venv/bin/profiler"' in said["bare"]
    assert "No module named profiler); install latency-profiler there" in said["plain"]
    assert "echo hello --version says 'hello --version'; expected latency-profiler" in said["odd:"]
    check_hosts(Hosts(worker=[each for each in workers if each.ssh == "fine"]))


def test_a_machine_without_ssh_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="ssh cannot be started here"):
        check_hosts(Hosts(worker=[WorkerAt(label="a", ssh="node")]))


def test_what_a_shell_would_take_apart_is_quoted() -> None:
    *_, command = _called("node", "/opt/my venv/bin/profiler", ["worker", "--tls", "a b"])
    assert command == "/opt/my venv/bin/profiler worker --tls 'a b'"
    assert os.sep not in _called("", "profiler", ["worker"])[-1]


def test_a_machine_that_stays_away_is_told_once() -> None:
    away = "ssh: connect to host node port 22: No route to host"
    said: list[str] = []
    worker = _Started("h100 on cuda:0 of node", "node", [])
    kept = _Kept(Hosts(worker=[WorkerAt(label="h100", ssh="node")]), said.append, _Started("s", "", []), [worker])

    def hear(line: str | None) -> None:
        if line is None:
            worker.process = subprocess.Popen(["sh", "-c", "exit 255"], stdin=subprocess.DEVNULL, text=True)
            worker.process.wait()
        kept._hear(worker, line)

    for line in ("serves", "Timeout, server node not responding.", None, *(away, None) * 5, "serves", away, None):
        hear(line)
    found = [each.removeprefix(f"{worker.said}: ").partition(" (")[0] for each in said]
    lost = "the connection is lost"
    assert found == ["serves", "Timeout, server node not responding.", lost, away, lost, "serves", away, lost]
