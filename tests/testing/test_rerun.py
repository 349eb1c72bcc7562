"""How a test is run again, also under another version of the code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from profiler.testing.rerun import Rerun


def at(top: Path, **changes: Any) -> Rerun:
    given = {
        "file": top / "tests/test_it.py",
        "test": "test_it[a::b]",
        "rootdir": top,
        "folder": top / "tests",
        "ini": top / "pytest.ini",
        "path": (top / "lib", Path(sys.prefix) / "lib", Path("/elsewhere")),
        "options": (),
    }
    return Rerun(**given | changes)


def test_another_version_runs_the_same_file_from_its_own_folders(tmp_path: Path) -> None:
    top, code = tmp_path / "now", tmp_path / "then"
    (top / "tests").mkdir(parents=True)
    (top / "tests/test_it.py").write_text("now")
    code.mkdir()
    moved = at(top).under(code, top, "git:x")
    assert moved.file == code / "tests/test_it.py"
    assert moved.file.read_text() == "now"
    assert (moved.rootdir, moved.folder, moved.name) == (code, code / "tests", "git:x")
    assert moved.ini is None
    assert moved.path == (
        code, code / "src", code / "lib", Path(sys.prefix) / "lib", Path("/elsewhere")
    )  # fmt: skip
