"""torchvision beside a torch for which its operators were not built: a package of that name that behaves the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

#: As torchvision's own: no operator is there, and declaring one fails while it is imported.
FILES = {
    "__init__.py": "from torchvision import extension, _meta_registrations, ops\n",
    "extension.py": "def _assert_has_ops():\n    raise RuntimeError('five causes')\n",
    "_meta_registrations.py": "raise RuntimeError('{said}')\n",
    "ops.py": "from torchvision.extension import _assert_has_ops\n\ndef nms():\n    _assert_has_ops()\n",
}
TRIED = """
import sys
from profiler.models.torchvision_import import import_without_operators
import_without_operators()
import_without_operators()
print(sum(type(finder).__module__.startswith("profiler") for finder in sys.meta_path))
import torchvision
try:
    torchvision.ops.nms()
except Exception as error:
    print(type(error).__name__, error)
"""


def tried(folder: Path, said: str) -> subprocess.CompletedProcess[str]:
    package = folder / "torchvision"
    package.mkdir()
    for name, text in FILES.items():
        (package / name).write_text(text.replace("{said}", said))
    return subprocess.run(
        [sys.executable, "-c", TRIED],
        cwd=folder,
        env={"PYTHONPATH": f"{folder}:{ROOT}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_imports_and_a_model_that_needs_an_operator_says_so(tmp_path: Path) -> None:
    done = tried(tmp_path, "operator torchvision::nms does not exist")
    count, _, sentence = done.stdout.strip().partition("\n")
    assert count == "1", done.stderr
    assert sentence.startswith("UserError the model calls an operator that torchvision compiles (nms, ")


def test_another_failure_is_not_hidden(tmp_path: Path) -> None:
    done = tried(tmp_path, "libcudart is too old")
    assert "RuntimeError: libcudart is too old" in done.stderr


@pytest.mark.parametrize("name", ["torchvision", "json"])
def test_other_modules_are_left_to_python(name: str) -> None:
    from profiler.models.torchvision_import import _Finder

    assert _Finder().find_spec(name, None) is None
