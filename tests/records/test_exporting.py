"""A table in the formats that other programs read."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from profiler.errors import UserError
from profiler.records.columns import COLUMNS, Row
from profiler.records.exporting import MAIN, write_table


def row(**values: object) -> Row:
    return dict.fromkeys(COLUMNS) | {"model": "a|b\nc", "latency_ms": 12.3456789, "status": "ok", **values}  # type: ignore[return-value]


def written(path: Path, *rows: Row, **options: bool) -> str:
    write_table(rows, path, **options)
    return path.read_text(encoding="utf-8")


def test_the_main_columns_are_columns() -> None:
    assert set(MAIN) < set(COLUMNS)


def test_json_keeps_what_is_not_known_as_null(tmp_path: Path) -> None:
    (found,) = json.loads(written(tmp_path / "t.json", row()))
    assert found["latency_ms"] == 12.3456789
    assert found["p99_ms"] is None
    assert list(found) == list(COLUMNS)
    (found,) = json.loads(written(tmp_path / "t.json", row(), all_columns=False))
    assert list(found) == list(MAIN)


def test_markdown_has_a_line_for_each_row_and_no_empty_column(tmp_path: Path) -> None:
    head, _, line = written(tmp_path / "t.md", row()).splitlines()
    assert head == "| model | latency_ms | status |"
    assert line == "| a\\|b c | 12.3457 | ok |"


def test_prometheus_quotes_labels_and_leaves_out_what_is_not_known(tmp_path: Path) -> None:
    lines = written(tmp_path / "t.prom", row(model='say "hi"\n')).splitlines()
    (sample,) = (line for line in lines if not line.startswith("#"))
    assert sample.startswith('profiler_latency_ms{model="say \\"hi\\"\\n",')
    assert sample.endswith(" 12.3456789")


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")
def test_parquet_is_read_back(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    rows = [row(visits=3, factor=1), row(latency_ms=None, status="oom", visits=2**60, factor=1.5)]
    write_table(rows, tmp_path / "t.parquet")
    found = pq.read_table(tmp_path / "t.parquet")
    assert found.to_pylist() == rows
    kinds = {name: str(found.schema.field(name).type) for name in COLUMNS}
    assert kinds["visits"] == "int64"
    assert {kinds[name] for name in ("latency_ms", "factor", "device_ms")} == {"double"}
    assert {kinds[name] for name in ("model", "reason")} <= {"string", "large_string"}
    write_table([], tmp_path / "none.parquet", all_columns=False)
    assert pq.read_table(tmp_path / "none.parquet").column_names == list(MAIN)


def test_what_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name, said in {
        "t.xls": "written as .csv, .parquet, .json, .md, .prom",
        "none/t.csv": "there is no folder",
        "t.parquet": r"pip install 'latency-profiler\[parquet\]'",
    }.items():
        with pytest.raises(UserError, match=said):
            write_table([row()], tmp_path / name)
    assert not list(tmp_path.iterdir())
