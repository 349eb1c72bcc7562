"""Certificates of a fleet: members know each other by them, and nobody else gets in."""

from __future__ import annotations

import re
import ssl
import stat
from pathlib import Path

import pytest
import yaml

from profiler.errors import UserError
from profiler.run.certificates import make_certificates
from profiler.run.meeting import Meeting, host_of, is_loopback
from profiler.run.serving import CA, CERTIFICATE, KEY, security_of
from tests import ROOT
from tests.test_docs import parse

pytest.importorskip("cryptography")


def context(folder: Path | None, purpose: ssl.Purpose, ca: Path) -> ssl.SSLContext:
    made = ssl.create_default_context(purpose, cafile=str(ca))
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    if folder is not None:
        made.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    return made


def shake(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """Let a client and a server meet in memory; raises ssl.SSLError where one does not trust the other."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [server.wrap_bio(to_server, to_client, server_side=True), client.wrap_bio(to_client, to_server)]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
                end.read()
            except ssl.SSLWantReadError:
                continue


def test_members_meet_and_strangers_do_not(tmp_path: Path) -> None:
    ours, others = tmp_path / "ours", tmp_path / "others"
    for folder in (ours, others):
        assert [path.name for path in make_certificates(folder)] == [CA, CERTIFICATE, KEY]
        assert all(stat.S_IMODE((folder / name).stat().st_mode) == 0o600 for name in (CA, CERTIFICATE, KEY))
    server = context(ours, ssl.Purpose.CLIENT_AUTH, ours / CA)
    shake(server, context(ours, ssl.Purpose.SERVER_AUTH, ours / CA))
    for folder, ca in ((others, ours / CA), (None, ours / CA), (ours, others / CA)):
        with pytest.raises(ssl.SSLError):
            shake(server, context(folder, ssl.Purpose.SERVER_AUTH, ca))


def test_certificates_are_not_overwritten_and_what_is_missing_is_named(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    with pytest.raises(UserError, match=r"already holds ca.pem, certificate.pem, key.pem"):
        make_certificates(tmp_path)
    (tmp_path / KEY).unlink()
    pytest.importorskip("distributed")
    with pytest.raises(UserError, match=r"key.pem is missing there; make it with: profiler fleet --make-certs"):
        security_of(tmp_path)
    assert security_of(None) is None


@pytest.mark.parametrize(
    ("host", "only_here"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("node", False)],
)
def test_what_only_this_machine_reaches(host: str, only_here: bool) -> None:
    assert is_loopback(host) is only_here
    assert host_of(Meeting(f"tcp://{f'[{host}]' if ':' in host else host}:1").found()) == host


def test_the_commands_of_the_manifest_and_of_the_slurm_recipe_parse() -> None:
    manifest = list(yaml.safe_load_all((ROOT / "docs/how-to/fleet.yaml").read_text()))
    containers = [
        c for each in manifest if "template" in each["spec"] for c in each["spec"]["template"]["spec"]["containers"]
    ]
    commands = [" ".join(container["command"]) for container in containers]
    [slurm] = re.findall(r"```text\n(sbatch.*?)```", (ROOT / "docs/how-to/fleet.md").read_text(), re.DOTALL)
    commands += re.findall(r"profiler [^'\n]+", slurm)
    assert len(commands) == 5
    for command in commands:
        parse(command.removeprefix("profiler ").replace("$(hostname -i)", "10.0.0.1"))
