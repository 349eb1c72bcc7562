"""``profiler doctor``: whether this machine can be measured, and whether its numbers can be believed."""

from __future__ import annotations

import json as jsonlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from rich.markup import escape
from rich.table import Table
from typer import Exit, Option

from profiler.backends.base import Placement
from profiler.cli.options import Json
from profiler.errors import UserError
from profiler.machine import host
from profiler.plan.values import check_device_name
from profiler.report.plain import standard_console
from profiler.run.examine import examine

if TYPE_CHECKING:
    from profiler.machine.finding import Finding
    from profiler.machine.nvml import GpuSettings

_MARKS = {"pass": "[green]pass[/]", "fail": "[red]fail[/]", "unverifiable": "[yellow]cannot tell[/]"}


def doctor_command(
    device: Annotated[str, Option("--device", metavar="D", help="cpu, cuda:0, ...")] = "cpu", json: Json = False
) -> None:
    """Check this machine for measuring on ``device`` and print what was found; exits 1 when a check failed.

    Raises:
        UserError: ``device`` is no name of a device.
    """
    try:
        check_device_name(device)
    except ValueError as wrong:
        raise UserError(f"--device: {wrong}") from wrong
    findings, settings = examine(Placement(device))
    (_print_json if json else _print_table)(device, findings, settings)
    raise Exit(1 if any(finding.status == "fail" for finding in findings) else 0)


def _settings_rows(gpu: GpuSettings) -> list[tuple[str, str]]:
    """Return (setting, what it is) for a reader; empty where the driver does not tell."""
    return [
        ("power limit", _told(("{:g} W", gpu.power_limit_w), ("default {:g} W", gpu.power_limit_default_w))),
        ("clock", _told(("at most {} MHz", gpu.max_clock_mhz), ("{} MHz set", gpu.application_clock_mhz))),
        ("memory clock", _told(("at most {} MHz", gpu.max_memory_clock_mhz))),
        ("held back by clocks that were set", _switch(gpu.clocks_held, "yes", "no")),
        ("persistence", _switch(gpu.persistence)),
        ("compute mode", gpu.compute_mode or ""),
        ("MIG", _switch(gpu.mig)),
        ("ECC", _switch(gpu.ecc)),
        ("PCIe generation", _told(("{}", gpu.pcie_generation), ("at most {}", gpu.pcie_generation_max))),
        ("PCIe lanes", _told(("{}", gpu.pcie_width), ("at most {}", gpu.pcie_width_max))),
    ]


def _told(*parts: tuple[str, float | None]) -> str:
    return ", ".join(text.format(value) for text, value in parts if value is not None)


def _switch(answer: bool | None, on: str = "on", off: str = "off") -> str:
    return "" if answer is None else (on if answer else off)


def _print_table(device: str, findings: Sequence[Finding], settings: GpuSettings | str | None) -> None:
    table = Table("check", "result", "found", title=f"machine {host.key()}, device {device}")
    for finding in findings:
        table.add_row(finding.check, _MARKS[finding.status], escape(finding.said))
    console = standard_console()
    console.print(table)
    if isinstance(settings, str):
        console.print(f"settings of {device} are not told: {escape(settings)}", highlight=False)
    elif settings is not None:
        listed = Table("setting", "at work", title=f"{device}, told by its driver; nothing here is required")
        for row in _settings_rows(settings):
            listed.add_row(*row)
        console.print(listed)
    counts = Counter(finding.status for finding in findings)
    console.print(
        f"{counts['pass']} passed, {counts['fail']} failed, {counts['unverifiable']} cannot be told here",
        highlight=False,
    )


def _print_json(device: str, findings: Sequence[Finding], settings: GpuSettings | str | None) -> None:
    answer = {
        "device": device,
        "host": {"key": host.key(), **host.facts()},
        "findings": [asdict(finding) for finding in findings],
        "settings": None if settings is None or isinstance(settings, str) else asdict(settings),
        "settings_note": settings if isinstance(settings, str) else None,
    }
    print(jsonlib.dumps(answer, indent=1))
