"""The columns of a table, and a table as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from profiler.records.files import write_file

Value: TypeAlias = str | int | float | None
Row: TypeAlias = dict[str, Value]

#: Columns in their order. flops, params and acts are of one image; latencies of one forward of the whole
#: batch.
COLUMNS = (
    "model",
    "family",
    "scaling",
    "factor",
    "resolution",
    "flops",
    "params",
    "acts",
    "backend",
    "device",
    "precision",
    "threads",
    "batch",
    "mode",
    "latency_ms",
    "latency_raw_ms",
    "latency_ci_low_ms",
    "latency_ci_high_ms",
    "p10_ms",
    "p90_ms",
    "visits",
    "samples",
    "throughput_per_s",
    "parity",
    "status",
    "reason",
    "p99_ms",
    "precision_reached",
    "disturbance",
    "steady_visits",
    "quiet_visits",
    "effective_samples",
    "marked_samples",
    "waited_s",
    "relative_error",
    "cosine",
    "top1_agreement",
    "top1_inputs",
    "speed_up",
    "speed_up_ci_low",
    "speed_up_ci_high",
    "speed_up_over",
    "export_s",
    "compile_s",
    "load_s",
    "first_ms",
    "steady_after",
    "model_bytes",
    "load_from",
    "involuntary_switches",
    "steal_s",
    "stall_s",
    "throttled_s",
    "device_ms",
    "device_ci_low_ms",
    "device_ci_high_ms",
    "launch_bound",
    "input_ms",
    "output_ms",
    "probe_clock_mhz",
    "stream_gb_s",
    "gpu_clock_mhz",
    "gpu_temperature_c",
    "gpu_power_w",
    "energy_j",
    "gpu_foreign_processes",
    "gpu_slowdown",
    "simulated",
    "peak_memory_bytes",
    "load_memory_bytes",
    "run_memory_bytes",
    "memory_source",
    "process_peak_bytes",
    "allocated_peak_bytes",
    "reserved_peak_bytes",
    "driver_memory_bytes",
    "device_memory_bytes",
    "arena_peak_bytes",
    "forward_ms",
    "loss_ms",
    "backward_ms",
    "optimizer_ms",
    "zero_grad_ms",
    "optimizer",
    "epoch_images",
    "epoch_steps",
    "epoch_compute_s",
    "epoch_s",
    "epoch_measured_s",
    "epoch_error",
    "loader_ms",
    "loader_workers",
    "batch_asked",
    "memory_format",
    "target_flops",
    "step",
    "layers",
    "padding_flops",
    "uncounted",
    "top1",
    "top1_source",
    "inputs",
    "shape",
    "content",
    "case",
    "backend_version",
    "torch_version",
    "onnxruntime_version",
    "provider",
    "host",
    "cpu",
    "os",
    "python",
    "started",
    "fleet_label",
    "gap_ms",
    "nominal_ms",
    "reference_version",
)


#: How a text begins that a spreadsheet takes for a formula; an apostrophe before it says that it is none.
FORMULA = re.compile(r"'*[=+\-@\t\r]")


def interval_columns(y: str) -> tuple[str, str]:
    """The columns that hold the ends of the 95% interval of ``y``, where a table has them."""
    stem, _, unit = y.rpartition("_")
    return f"{stem}_ci_low_{unit}", f"{stem}_ci_high_{unit}"


def write_csv(table: Iterable[Row], path: Path, columns: Sequence[str] = COLUMNS) -> None:
    """Write rows with ``columns``; the file appears complete or not at all.

    Milliseconds get six significant digits, other numbers all of theirs; None is empty. A text that a spreadsheet would
    take for a formula gets an apostrophe before it, which ``profiler.records.sheets.read_csv`` takes away.

    Raises:
        UserError: The file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(column, row.get(column)) for column in columns] for row in table)
    write_file(path, text.getvalue())


def _cell(column: str, value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}" if column.endswith("_ms") else repr(value)
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else str(value)
