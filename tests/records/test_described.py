"""Every column of the table says what it is, in one place, from which the pages and the terminal have it."""

from __future__ import annotations

import importlib.util
import re

import pytest

from profiler.records import described
from profiler.records.columns import COLUMNS
from profiler.records.described import Column, columns, columns_markdown, columns_text
from tests import ROOT


def test_every_column_is_described_once_and_no_other() -> None:
    assert sorted(column.name for column in columns()) == sorted(COLUMNS)
    groups = [column.group for column in columns()]
    assert len(set(groups)) == sum(a != b for a, b in zip(groups, ["", *groups], strict=False))


@pytest.mark.parametrize("column", columns(), ids=lambda column: column.name)
def test_a_column_says_its_meaning_its_unit_what_told_it_and_when_it_is_empty(column: Column) -> None:
    assert all((column.group, column.meaning, column.source, column.empty))
    assert "|" not in "".join(column)
    ends = {"ms": "ms", "s": "s", "bytes": "bytes", "mhz": "MHz", "w": "W", "j": "J", "c": "°C"}
    unit = ends.get(column.name.rpartition("_")[2])
    assert unit is None or column.unit == {"throughput_per_s": "1/s", "stream_gb_s": "GB/s"}.get(column.name, unit)


def test_the_page_is_filled_with_them() -> None:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    page = hooks.on_page_markdown((ROOT / "docs" / "table.md").read_text(encoding="utf-8"))
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == [column.name for column in columns()]
    assert hooks.COLUMNS not in page
    # A table begins after an empty line, or it is none.
    assert columns_markdown().count("\n\n| column |") == len({column.group for column in columns()})


def test_a_terminal_has_them_in_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = columns_text(80).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0].rstrip(":") for line in lines if re.match(r"  \w", line)] == [c.name for c in columns()]
    monkeypatch.setattr(described, "columns", lambda: [Column("A group", "a_ms", "ms", "A time", "a clock", "never")])
    assert columns_text(80) == "A group\n  a_ms (ms): A time. Told by: a clock. Empty: never."
