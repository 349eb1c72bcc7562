"""The backend of a third party that the pages show, installed as its package would be, on models that are measured."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.breadth.catalogue import HERE

PAGE = HERE.parents[1] / "docs" / "how-to" / "extend.md"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with the example of the page, and with what installing it leaves."""
    page = PAGE.read_text(encoding="utf-8")
    [code] = re.findall(r"^```python\n# ncnn_backend\.py\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    [points] = re.findall(r"^```toml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "ncnn_backend.py").write_text(code, encoding="utf-8")
    info = tmp_path / "ncnn_backend-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ncnn-backend\nVersion: 1\n", encoding="utf-8")
    value = tomllib.loads(points)["project"]["entry-points"]["profiler.backends"]["ncnn"]
    (info / "entry_points.txt").write_text(f"[profiler.backends]\nncnn = {value}\n", encoding="utf-8")
    return tmp_path


def test_the_example_is_a_backend_like_any_other(installed: Path) -> None:
    pytest.importorskip("ncnn")
    pytest.importorskip("pnnx")
    models = [f"{HERE / 'plain.py'}:audio", "regnety_200mf"]
    path = os.pathsep.join([str(installed), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = ["run", "--model", ",".join(models), "--backend", "eager,ncnn", "--threads", "1,2", "--batch", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "profiler", *command, "--rounds", "2", "--visit", "20ms", "--out", "run"],
        cwd=installed, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    with (installed / "run" / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    for row in rows:
        assert row["status"] in ("ok", "unstable"), row["reason"]
        assert float(row["parity"]) < 1e-3
        if row["backend"] == "ncnn":
            assert row["backend_version"][0].isdigit()


def test_it_says_what_it_cannot_do_in_a_sentence(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ncnn")
    from profiler import backends
    from profiler.backends.base import BackendError, Model, Placement
    from profiler.backends.inputs import Inputs

    monkeypatch.syspath_prepend(installed)
    backend = backends.get("ncnn")
    assert "use --device cpu" in str(backend.unavailable(Placement(precision="bf16")))
    with pytest.raises(BackendError, match="use onnxruntime"), backend.load(Model(None, None), Inputs(), Placement()):
        pass
