"""The plugin costs runs that do not use it nothing."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
import tomllib

from profiler.testing import plugin
from tests import ROOT


def test_the_entry_point_names_the_plugin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert pkgutil.resolve_name(project["entry-points"]["pytest11"]["latency_profiler"]) is plugin


def test_the_plugin_costs_other_runs_nothing() -> None:
    code = (
        "import sys; import profiler.testing.plugin; "
        "heavy = {'numpy', 'torch', 'pydantic', 'profiler.gate.judge', 'profiler.testing.arguments'}; "
        "print(*heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
