"""What a bare machine lacks: named, fetched elsewhere, brought in a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.studies import prove_gpu, wheels

MIB = 1 << 20


def a_wheel(folder: Path, name: str) -> Path:
    """The least that pip installs: a module of one line."""
    folder.mkdir(exist_ok=True)
    about, wheel = f"{name}-1.0.dist-info", folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(f"{name}.py", "found = True\n")
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")
    return wheel


def test_a_package_is_used_by_a_step_or_said_to_be_unused() -> None:
    told = tomllib.loads((wheels.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    known = {name for names in wheels.GROUPS.values() for name in names} | {*wheels.UNUSED, "torch"}
    assert {wheels._plain(line) for line in told} <= known


@pytest.mark.parametrize("pip", [True, False])
def test_wheels_are_brought_beside_what_is_installed(
    pip: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    if not pip:
        monkeypatch.setattr(wheels, "_has_pip", lambda: False)
    a_wheel(tmp_path / "wheels", "brought_for_a_proof")
    assert wheels.bring(tmp_path / "wheels", tmp_path / "site") == ""
    asked = [sys.executable, "-c", "import brought_for_a_proof as it; print(it.__file__)"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.startswith(str(tmp_path / "site"))
    assert wheels._version("brought_for_a_proof") == "1.0"


def test_wheels_that_cannot_be_brought_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "holds no wheel: fetch them elsewhere with `python3 -m tests" in wheels.bring(tmp_path, tmp_path)
    torn = tmp_path / "torn-1.0-py3-none-any.whl"
    torn.write_bytes(b"no zip")
    assert "cannot be installed: ERROR" in wheels.bring(tmp_path, tmp_path / "site")
    assert wheels._unpack([torn], tmp_path / "site") == f"{torn.name}: File is not a zip file"
    monkeypatch.setattr(wheels, "LIMIT", 5)
    assert "can be brought: leave the largest out" in wheels.bring(tmp_path, tmp_path / "site")


def test_what_is_missing_is_named_with_how_to_fetch_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert wheels.unready(None, tmp_path) == ""
    monkeypatch.setitem(wheels.GROUPS, "every step", {"nothing-like-it": "nothing_like_it", "numpy": "numpy"})
    said = wheels.unready(None, tmp_path)
    assert said.startswith(
        "every step needs nothing-like-it: fetch elsewhere with `python3 -m tests.studies.wheels .whl"
    )
    assert f" --there numpy=={wheels._version('numpy')} " in said
    monkeypatch.setattr(sys, "argv", ["prove_gpu", "--out", str(tmp_path / "proof")])
    assert prove_gpu.main() == 2
    assert "nothing-like-it" in json.loads((tmp_path / "proof" / "prove.json").read_text())["error"]


def test_a_package_that_lacks_its_own_is_not_taken_for_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_there.py").write_text("import its_other_half\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(wheels.GROUPS, "every step", {"half-there": "half_there"})
    assert "half-there (ModuleNotFoundError: No module named 'its_other_half')" in wheels.unready(None, tmp_path)


#: What pip would find: versions, and what each needs.
KNOWN = {
    "numpy": ("2.4", set()),
    "pydantic": ("2.14", {"pydantic-core", "typing-extensions"}),
    "pydantic-core": ("2.50", {"typing-extensions"}),
    "typing-extensions": ("4.16", {"not-for-this-platform"}),
    "scipy": ("1.17", {"numpy"}),
}


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let pip know a few packages, of a MiB each; the names that are downloaded."""
    asked: list[str] = []

    def download(_verb: str, *words: str) -> None:
        folder = Path(words[words.index("-d") + 1])
        for name in (word for word in words if "==" in word):
            asked.append(name)
            (folder / f"{name.replace('==', '-')}-py3-none-any.whl").write_bytes(b" " * MIB)

    monkeypatch.setattr(wheels, "resolved", lambda _requirements: KNOWN)
    monkeypatch.setattr(wheels, "_pip", download)
    groups = {"every step": {"numpy": "numpy", "pydantic": "pydantic"}, "profiler run": {"scipy": "scipy"}}
    monkeypatch.setattr(wheels, "GROUPS", groups)
    return asked


def test_what_a_package_needs_comes_with_it_and_what_is_there_does_not(tmp_path: Path, pip: list[str]) -> None:
    said = wheels.fetch(tmp_path / ".whl", ["numpy==2.4"])
    assert sorted(pip) == ["pydantic-core==2.50", "pydantic==2.14", "scipy==1.17", "typing-extensions==4.16"]
    assert said == "every step: 3 wheels of 3.0 MiB\nprofiler run: 1 wheels of 1.0 MiB"
    assert len([*(tmp_path / ".whl").glob("*.whl")]) == 4
    with pytest.raises(wheels.FetchError, match="holds 4 wheels already: give an empty folder"):
        wheels.fetch(tmp_path / ".whl", [])


def test_what_does_not_fit_is_left_out_and_said(
    tmp_path: Path, pip: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "LIMIT", 4 * MIB)
    assert wheels.fetch(tmp_path / ".whl", []).splitlines() == [
        "every step: 4 wheels of 4.0 MiB",
        "profiler run: 1 wheels of 1.0 MiB, left out, as all would be 5.0 MiB and 4 can be brought",
    ]
    assert len([*(tmp_path / ".whl").glob("*.whl")]) == 4


def test_what_pip_cannot_find_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "_TARGET", ("--no-index", "--isolated", "--only-binary=:all:"))
    with pytest.raises(wheels.FetchError, match=r"^pip install cannot: ERROR: .*no-such-package"):
        wheels.resolved(["no-such-package"])
