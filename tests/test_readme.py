"""Every command of the README runs, in its order, in one folder; long ones with a budget of next to nothing."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line[2:]
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]
#: What makes a measuring command fast: its numbers are not looked at here.
BRIEF = ["--visit", "20ms", "--rounds", "1"]


def brief(arguments: list[str]) -> list[str]:
    if arguments[:1] == ["gate"]:
        return [*arguments, "--no-self-test"]
    if arguments[:1] != ["run"] or "--dry-run" in arguments:
        return arguments
    # One runtime is enough where three, or exports of many networks, would take minutes.
    many = "quick" in arguments or "--scale" in arguments
    fewer = ["--factor", "1,2", "--threads", "1"] if "quick" in arguments else []
    return [*arguments, *BRIEF, *fewer, *(["--backend", "eager"] if many else [])]


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 15


def test_the_commands_of_the_profiler_run_in_order(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    ours = [shlex.split(command)[1:] for command in COMMANDS if command.startswith("profiler ")]
    assert ours
    for arguments in ours:
        done = subprocess.run(
            [sys.executable, "-m", "profiler", *brief(arguments)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        # A machine too noisy to measure on is for doctor to say, not for this test.
        allowed = {0, 1} if arguments[0] == "doctor" else {0}
        assert done.returncode in allowed, f"{arguments}\n{done.stdout}\n{done.stderr}"
        assert "Warning" not in done.stdout + done.stderr, arguments
    for name in ("results/quick/cases.csv", "results/quick/latency.png", "results/quick/report.html", "quick.csv"):
        assert (tmp_path / name).stat().st_size > 0, name


@pytest.mark.parametrize("command", [command for command in COMMANDS if "tox run" in command])
def test_the_environments_of_tox_exist(command: str) -> None:
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "tox.ini", encoding="utf-8")
    named = re.search(r"tox run -e (\S+)", command)
    wanted = [named[1]] if named else [name.strip() for name in config["tox"]["env_list"].split(",")]
    assert all(f"testenv:{name}" in config for name in wanted)


def test_ci_runs_the_readmes_test_command() -> None:
    assert "tox run" in COMMANDS
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().endswith("tox run")


def test_everything_else_is_an_install_command() -> None:
    rest = [c for c in COMMANDS if not c.startswith("profiler ") and "tox run" not in c]
    assert all(c.startswith("python -m pip install ") for c in rest)
    assert shutil.which("python") or sys.executable


def test_pictures_and_links_exist() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert targets
    missing = [target for target in targets if not (ROOT / target).exists()]
    assert missing == []


def test_the_suite_of_the_gate_is_read(tmp_path: Path) -> None:
    from profiler.gate import suite

    [text] = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    file = tmp_path / "gate.toml"
    file.write_text(text, encoding="utf-8")
    pairs = suite.load(file)
    assert [pair.label for pair in pairs] == [
        "old.onnx @onnxruntime -> new.onnx @onnxruntime",
        "git:origin/main detector.model:build @eager -> detector.model:build @eager",
    ]
    assert [(pair.max_slowdown, pair.max_memory_growth) for pair in pairs] == [(0.05, None), (0.03, 0.10)]


def test_the_tests_of_the_fixture_are_collected(tmp_path: Path) -> None:
    [text] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    file = tmp_path / "test_latency.py"
    file.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--setup-plan", "-q", str(file)],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.count("latency_gate") >= 3, done.stdout + done.stderr
