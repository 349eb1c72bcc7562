"""Pages, charts and verdicts appear whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from profiler.errors import UserError
from profiler.report import page, verdicts
from profiler.report.render import empty, write_chart
from tests.report.test_page import FACTS, table


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(page, "_drawn", lambda *_: dict)


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize(
    "written",
    [
        lambda file: page.write_page(table(), FACTS, file),
        lambda file: write_chart(empty("no reason"), file.with_suffix(".svg")),
        lambda file: verdicts.write([], None, file),
    ],
    ids=["page", "chart", "verdicts"],
)
def test_a_full_disk_is_said_and_leaves_the_earlier_file(tmp_path: Path, written: Callable[[Path], None]) -> None:
    earlier = [tmp_path / "out.html", tmp_path / "out.svg"]
    for file in earlier:
        file.write_text("earlier", encoding="utf-8")
    with pytest.raises(UserError, match=r"out\.\w+ cannot be written .No space left on device"):
        written(tmp_path / "out.html")
    assert sorted(tmp_path.iterdir()) == earlier
    assert {file.read_text(encoding="utf-8") for file in earlier} == {"earlier"}
