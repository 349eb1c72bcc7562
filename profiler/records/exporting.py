"""A table as a file, in the format that its name ends in."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from profiler.errors import UserError
from profiler.records.columns import COLUMNS, Row, write_csv
from profiler.records.described import columns as described
from profiler.records.files import write_file

#: What most ask of a table, in this order.
MAIN = (
    "model",
    "family",
    "scaling",
    "factor",
    "shape",
    "backend",
    "device",
    "precision",
    "memory_format",
    "threads",
    "batch",
    "mode",
    "gap_ms",
    "host",
    "flops",
    "params",
    "acts",
    "latency_ms",
    "latency_ci_low_ms",
    "latency_ci_high_ms",
    "p90_ms",
    "p99_ms",
    "throughput_per_s",
    "peak_memory_bytes",
    "top1",
    "top1_source",
    "status",
    "reason",
)
#: Columns of numbers that a monitoring system gets, and those that tell its series apart.
_GAUGES = ("latency_ms", "latency_ci_low_ms", "latency_ci_high_ms", "p99_ms", "throughput_per_s", "peak_memory_bytes")
_LABELS = (
    "model",
    "scaling",
    "factor",
    "shape",
    "backend",
    "device",
    "precision",
    "threads",
    "batch",
    "mode",
    "gap_ms",
    "host",
)


def write_table(rows: Sequence[Row], path: Path, kind: str | None = None, *, all_columns: bool = True) -> None:
    """Write rows into ``path``; the file appears complete or not at all.

    Args:
        rows: Of ``profiler.records.table.rows``.
        path: Where to write; its folder must be there.
        kind: ``.csv``, ``.parquet``, ``.json``, ``.md`` or ``.prom``; None for what the name ends in.
        all_columns: Every column, or those of ``MAIN``.

    Raises:
        UserError: The ending is none of these, the folder is not there, or the file cannot be written.
    """
    made = _FORMATS.get(kind or path.suffix.lower())
    if made is None:
        raise UserError(f"{path}: a table is written as {', '.join(_FORMATS)}; change the end of the name")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; make it first, or name another file")
    made(rows, path, COLUMNS if all_columns else MAIN)


def _csv(rows: Sequence[Row], path: Path, columns: Sequence[str]) -> None:
    write_csv(rows, path, columns)


def _json(rows: Sequence[Row], path: Path, columns: Sequence[str]) -> None:
    chosen = [{name: row.get(name) for name in columns} for row in rows]
    write_file(path, json.dumps(chosen, indent=1, allow_nan=False) + "\n")


def _markdown(rows: Sequence[Row], path: Path, columns: Sequence[str]) -> None:
    """A table of Markdown, without the columns that are empty in all rows."""
    shown = [name for name in columns if any(row.get(name) is not None for row in rows)]
    lines = [shown, ["---"] * len(shown), *([_cell(row.get(name)) for name in shown] for row in rows)]
    write_file(path, "".join(f"| {' | '.join(line)} |\n" for line in lines))


def _cell(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)
    return " ".join(text.replace("|", "\\|").split())


def _parquet(rows: Sequence[Row], path: Path, columns: Sequence[str]) -> None:
    """Text as strings, counts as int64, others as float64; a column of empty cells has its type all the same."""
    try:
        import pyarrow as pa  # type: ignore[import-not-found, import-untyped, unused-ignore]  # no dependency
        import pyarrow.parquet as pq  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise UserError(f"{path}: Parquet needs pyarrow: pip install 'latency-profiler[parquet]'") from error
    texts = {column.name for column in described() if not column.unit}
    made = {}
    for name in columns:
        cells = [row.get(name) for row in rows]
        kinds = {type(cell) for cell in cells if cell is not None} or {str if name in texts else float}
        if str in kinds:
            made[name] = pa.array([None if cell is None else str(cell) for cell in cells], pa.string())
        elif kinds == {int}:
            made[name] = pa.array(cells, pa.int64())
        else:
            made[name] = pa.array([None if cell is None else float(cell) for cell in cells], pa.float64())
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(made), sink)
    write_file(path, sink.getvalue().to_pybytes())


def _prometheus(rows: Sequence[Row], path: Path, _columns: Sequence[str]) -> None:
    """Gauges in the text format of Prometheus, for a textfile collector."""
    lines = []
    for name in _GAUGES:
        lines.append(f"# TYPE profiler_{name} gauge\n")
        for row in rows:
            if isinstance(value := row.get(name), int | float):
                labels = ",".join(f'{label}="{_label(row.get(label))}"' for label in _LABELS)
                lines.append(f"profiler_{name}{{{labels}}} {value!r}\n")
    write_file(path, "".join(lines))


def _label(value: object) -> str:
    text = "" if value is None else str(value)
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


#: How a table is written, by the end of the file's name.
_FORMATS: Mapping[str, Callable[[Sequence[Row], Path, Sequence[str]], None]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".json": _json,
    ".md": _markdown,
    ".prom": _prometheus,
}
