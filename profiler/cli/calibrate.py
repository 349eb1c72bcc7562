"""``profiler calibrate``: measure the nominal time of the reference workload again, and keep it."""

from __future__ import annotations

from typing import Annotated

from rich.table import Table
from typer import Option

from profiler.backends.base import Placement
from profiler.cli.options import Many
from profiler.errors import UserError
from profiler.machine import host
from profiler.machine.cache import cache_folder
from profiler.records.types import Failure
from profiler.report.plain import standard_console
from profiler.run.calibrations import Calibrations
from profiler.run.child import Limits
from profiler.run.processes import LocalExecutor


def calibrate_command(
    threads: Annotated[Many, Option("--threads", metavar="N,N", help="Thread counts [1, all cores].")] = None,
    device: Annotated[str, Option("--device", metavar="D", help="Device.")] = "cpu",
    precision: Annotated[str, Option("--precision", metavar="P", help="fp32, fp16 or bf16.")] = "fp32",
) -> None:
    """Calibrate for each thread count in ``threads`` (default 1 and all usable cores) and print what was found.

    Raises:
        UserError: An option is not valid, or the reference does not run there.
    """
    counts = _counts(threads)
    if precision not in ("fp32", "fp16", "bf16"):
        raise UserError(f"--precision {precision!r}: expected fp32, fp16 or bf16")
    executor = LocalExecutor()
    calibrations = Calibrations(executor, cache_folder(), lambda _placement: Limits(), redo=True)
    table = Table("device", "precision", "threads", "nominal ms", "spread %", "units", title=f"machine {host.key()}")
    try:
        for count in counts:
            made = calibrations.get(Placement(device, precision, count))  # type: ignore[arg-type]  # checked above
            if isinstance(made, Failure):
                raise UserError(f"no calibration on {device} with {precision}: {made.reason}")
            cells = (f"{made.nominal_ns / 1e6:.3f}", f"{made.spread * 100:.1f}", str(made.repeats))
            table.add_row(device, precision, str(count), *cells)
    finally:
        executor.close()
    standard_console().print(table)


def _counts(text: str | None) -> list[int]:
    cores = host.usable_cores()
    if text is None:
        return sorted({1, cores})
    try:
        counts = [int(word) or cores for word in text.split(",")]
    except ValueError:
        counts = [-1]
    if min(counts) < 1:
        raise UserError(f"--threads {text!r}: expected whole numbers from 0 (all usable cores), as 1,2")
    return counts
