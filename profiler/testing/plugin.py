"""The pytest plugin: the fixture ``latency_gate``, its options, and its section at the end of a run.

Every pytest run of everyone who has this package installed loads this module, so it imports little but pytest; the
first test that uses the fixture imports the rest. What a test hands to the fixture is in ``profiler.testing.arguments``.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import pytest

from profiler.testing.outcome import PROPERTY

if TYPE_CHECKING:
    from profiler.testing.fixture import Gate
    from profiler.testing.server import Server


_SERVER: pytest.StashKey[Server] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the gates."""
    group = parser.getgroup("latency gates")
    group.addoption("--latency-require", action="store_true", help="Fail on gates that are inconclusive or not run.")
    group.addoption(
        "--latency-seconds",
        metavar="S",
        type=float,
        help="A trial begins no look at its data that would end after this.",
    )
    group.addoption(
        "--latency-no-self-test",
        action="store_true",
        help="Do not compare baselines with themselves, once per machine, to see which limits it can tell.",
    )
    group.addoption("--latency-seed", metavar="N", type=int, help="Seed of the order within blocks.")
    group.addoption(
        "--latency-args",
        metavar="ARGS",
        default="",
        help="Options that a test with torch_model needs when it is run again in its own process, as '--run-slow'.",
    )
    # Given to that process only: the descriptors on which it is asked and answers.
    group.addoption("--latency-worker", metavar="READ,WRITE", help=argparse.SUPPRESS)


def pytest_configure(config: pytest.Config) -> None:
    """Register what this process is for: to serve one test of another process, or to sum up its own."""
    descriptors = config.getoption("latency_worker")
    if descriptors is None:
        config.pluginmanager.register(_Summary(), "latency-gate-summary")
        return
    from profiler.machine import allocator
    from profiler.testing.server import Server

    allocator.keep_freed()
    read, write = descriptors.split(",")
    config.stash[_SERVER] = server = Server(int(read), int(write))
    config.pluginmanager.register(server, "latency-gate-server")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Say what --benchmark-skip means for a gate; pytest-benchmark skips it before the fixture could."""
    config = item.config
    skips = config.getoption("benchmark_skip", None) and not config.getoption("benchmark_only", None)
    if not skips or "latency_gate" not in getattr(item, "fixturenames", ()):
        return
    said = "NOT GATED: --benchmark-skip leaves out what measures; run the gates without it"
    item.user_properties.append((PROPERTY, said))
    if config.getoption("latency_require"):
        pytest.fail(said, pytrace=False)
    pytest.skip(said)


@pytest.fixture
def latency_gate(request: pytest.FixtureRequest, benchmark: Any) -> Gate | Server:
    """Fail the test when a model is slower than a baseline, or than a budget, by more than is allowed.

        latency_gate(candidate, baseline=..., max_slowdown=0.05)
        latency_gate(candidate, max_latency="12ms")

    Models come from ``profiler.testing``. The samples appear among pytest-benchmark's.
    """
    server = request.config.stash.get(_SERVER, None)
    if server is not None:
        server.takes_over(benchmark)
        return server
    from profiler.testing.fixture import Gate

    return Gate(request, benchmark)


class _Summary:
    """One line per gate at the end of a run."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in getattr(report, "user_properties", ()):
            if name == PROPERTY:
                self._lines[report.nodeid] = str(value)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._lines:
            terminalreporter.write_sep("=", "latency gates")
        for test, line in self._lines.items():
            terminalreporter.write_line(f"{test}  {line}")
