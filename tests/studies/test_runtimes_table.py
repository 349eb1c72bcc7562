"""What the page on runtimes says was measured is what the study left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.studies import lab, runtimes_table


@pytest.mark.parametrize("name", runtimes_table.TABLES)
def test_the_page_has_the_table_of_the_file(name: str) -> None:
    if not runtimes_table.measured(name):
        pytest.skip("not measured yet")
    page = runtimes_table.PAGE.read_text(encoding="utf-8")
    assert f"<!-- {name} -->\n{runtimes_table.TABLES[name][0]()}\n<!-- end -->" in page


def test_a_drift_is_seen_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runtimes_compiled.csv").write_text("compilation,visit,ms,compile_s\n0,0,2,9.6\n1,0,2,8\n", "utf-8")
    monkeypatch.setattr(lab, "RESULTS", tmp_path)
    page = "before\n<!-- runtimes_compiled -->\n| old |\n<!-- end -->\n<!-- runtimes -->\nkept\n<!-- end -->\n"
    mended = runtimes_table.filled(page)
    assert "| latency over the mean of all | 1.000 | 1.000 |\n| compile_s | 10 | 8 |\n<!-- end -->" in mended
    assert "old" not in mended
    assert "<!-- runtimes -->\nkept\n<!-- end -->" in mended
    assert runtimes_table.filled(mended) == mended
