"""Machines of a fleet as network namespaces of this one: a bridge, an address for each, links that can be cut."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def can_make_nets() -> bool:
    """Whether this user may make network namespaces here, and the tools are there."""
    if not all(map(shutil.which, ("ip", "nsenter", "unshare"))):
        return False
    return subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


class Nets:
    """Namespaces: ``hub`` has the bridge at ``address``, and each node a link to it."""

    address = "10.77.0.1"

    def __init__(self, nodes: Sequence[str]) -> None:
        self.nodes, self._mark = nodes, f"lp{os.getpid()}"

    def _name(self, node: str) -> str:
        return f"{self._mark}-{node}"

    def make(self) -> None:
        hub = self._name("hub")
        _ip("netns", "add", hub)
        _ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", hub, "addr", "add", f"{self.address}/24", "dev", "bridge")
        for link in ("lo", "bridge"):
            _ip("-n", hub, "link", "set", link, "up")
        for number, node in enumerate(self.nodes, 2):
            own = self._name(node)
            _ip("netns", "add", own)
            _ip("-n", hub, "link", "add", f"to-{node}", "type", "veth", "peer", "name", "out", "netns", own)
            _ip("-n", hub, "link", "set", f"to-{node}", "master", "bridge", "up")
            _ip("-n", own, "addr", "add", f"10.77.0.{number}/24", "dev", "out")
            for link in ("lo", "out"):
                _ip("-n", own, "link", "set", link, "up")

    def remove(self) -> None:
        for node in ("hub", *self.nodes):
            subprocess.run(["ip", "netns", "del", self._name(node)], capture_output=True, check=False)

    def inside(self, node: str) -> list[str]:
        """Return what stands before a command that runs on a node."""
        return ["nsenter", f"--net=/run/netns/{self._name(node)}"]

    def link(self, node: str, *, up: bool) -> None:
        _ip("-n", self._name("hub"), "link", "set", f"to-{node}", "up" if up else "down")


@contextmanager
def nets(nodes: Sequence[str]) -> Iterator[Nets | None]:
    """Make namespaces for a while; None where this user may not."""
    if not can_make_nets():
        yield None
        return
    made = Nets(nodes)
    try:
        made.make()
        yield made
    finally:
        made.remove()
