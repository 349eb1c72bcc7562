"""Packages that a bare machine lacks, fetched where there is a network and brought to it in a folder of wheels.

Where there is a network: ``python -m tests.studies.wheels FOLDER --there NAME==VERSION ...`` works out with pip what
the proof of ``prove_gpu.py`` needs in a Python 3.12 on x86-64, beside what is there already, and downloads it. It
imports the standard library alone.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
#: The most that wheels may weigh together, as they travel to the machine with the checkout.
LIMIT = 64 * MIB
#: Packages with the module of each, by what wants them; what is worth most stands first.
GROUPS = {
    "every step": {
        "numpy": "numpy", "onnx": "onnx", "pydantic": "pydantic", "nvidia-ml-py": "pynvml", "filelock": "filelock",
        "platformdirs": "platformdirs", "rich": "rich", "typer": "typer",
    },
    "the tests for GPUs": {"pytest": "pytest", "pytest-benchmark": "pytest_benchmark", "hypothesis": "hypothesis"},
    "profiler run": {"pandas": "pandas", "scipy": "scipy"},
}  # fmt: skip
#: Packages of pyproject.toml that no step uses: they draw pages and read images.
UNUSED = ("jinja2", "pillow")
#: ONNX Runtime for CUDA weighs four times the limit: it is there, or its steps say that it is not.
TOO_LARGE = "onnxruntime-gpu"

_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
_TARGET = ("--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp")
#: Imports each module named in its arguments, and prints what is wrong with those that it cannot.
_IMPORTS = """
import importlib, json, sys
wrong = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        wrong[name] = f"{type(error).__name__}: {error}"
print("\\n" + json.dumps(wrong))
"""


class FetchError(Exception):
    """Wheels cannot be fetched; the message says why."""


def missing(group: str) -> list[str]:
    """Return which packages of a group are not here."""
    return [name for name, module in GROUPS[group].items() if find_spec(module) is None]


def broken(group: str) -> dict[str, str]:
    """Return which packages of a group a fresh process cannot import, with what is wrong with each."""
    names = GROUPS[group]
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS, *names.values()], cwd=ROOT, capture_output=True, text=True, check=False
    )
    wrong = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else dict.fromkeys(names.values(), "crash")
    return {name: wrong[module] for name, module in names.items() if module in wrong}


def lacking() -> list[str]:
    """Return every package that a step uses and that is not here, ONNX Runtime among them."""
    found = [name for group in GROUPS for name in missing(group)]
    return found if find_spec("onnxruntime") else [*found, TOO_LARGE]


def command() -> str:
    """Return how to fetch what is missing here, elsewhere."""
    there = [f"{name}=={told}" for names in GROUPS.values() for name in names if (told := _version(name))]
    return " ".join(["python3 -m tests.studies.wheels .whl", *(["--there", *there] if there else [])])


def _version(name: str) -> str | None:
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None


def unready(folder: Path | None, site: Path) -> str:
    """Bring the wheels of ``folder`` to ``site``; return why nothing can be proved yet, or nothing."""
    if folder is not None and (wrong := bring(folder, site)):
        return wrong
    wrong_ones = broken("every step")
    gone = missing("every step")
    told = ", ".join(name if name in gone else f"{name} ({error})" for name, error in wrong_ones.items())
    return f"every step needs {told}: fetch elsewhere with `{command()}`, and give --wheels .whl" if told else ""


def bring(folder: Path, site: Path) -> str:
    """Install the wheels of ``folder`` into ``site``, for this process and its children; return what is wrong."""
    files = sorted(folder.glob("*.whl"))
    size = sum(file.stat().st_size for file in files)
    if not files:
        return f"--wheels {folder} holds no wheel: fetch them elsewhere with `{command()}`"
    if size > LIMIT:
        most = LIMIT // MIB
        return f"--wheels {folder} holds {size / MIB:.0f} MiB, {most} can be brought: leave the largest out"
    if wrong := _install(files, site):
        return f"--wheels {folder} cannot be installed: {wrong}"
    sys.path.insert(0, str(site))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    return ""


def _has_pip() -> bool:
    """Whether pip is here; asked of its files, as looking for the module changes which distutils setuptools takes."""
    return any(True for _ in metadata.distributions(name="pip"))


def _install(files: list[Path], site: Path) -> str:
    if not _has_pip():
        return _unpack(files, site)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile", "--target"]
    done = subprocess.run([*pip, str(site), *map(str, files)], capture_output=True, text=True, check=False)
    return " ".join(done.stderr.split())[-500:] if done.returncode else ""


def _unpack(files: list[Path], site: Path) -> str:
    """Unpack wheels as they are, where there is no pip: what they import lies at their top."""
    for file in files:
        try:
            with zipfile.ZipFile(file) as wheel:
                wheel.extractall(site)
        except zipfile.BadZipFile as error:
            return f"{file.name}: {error}"
    return ""


# --- where there is a network


def fetch(folder: Path, there: Iterable[str]) -> str:
    """Download what a machine needs that has ``there``, a group at a time while it fits; return what was done.

    Raises:
        FetchError: pip finds no versions that go together, or cannot download them.
    """
    pins = {_plain(pin): pin for pin in there}
    known = resolved([*wanted(), *pins.values()])
    folder.mkdir(parents=True, exist_ok=True)
    said, had = [], {file.name for file in folder.glob("*.whl")}
    if had:
        raise FetchError(f"{folder} holds {len(had)} wheels already: give an empty folder")
    for group, names in GROUPS.items():
        needed = closure([name for name in names if name not in pins], known) - pins.keys()
        if not needed:
            continue
        with tempfile.TemporaryDirectory(dir=folder) as partial:
            _pip("download", "-q", "--no-deps", "-d", partial, *(f"{name}=={known[name][0]}" for name in needed))
            files = [file for file in Path(partial).glob("*.whl") if not (folder / file.name).exists()]
            size = sum(file.stat().st_size for file in files)
            whole = size + sum(file.stat().st_size for file in folder.glob("*.whl"))
            fits = whole <= LIMIT
            for file in files if fits else ():
                file.replace(folder / file.name)
        more = f"{group}: {len(files)} wheels of {size / MIB:.1f} MiB"
        over = f", left out, as all would be {whole / MIB:.1f} MiB and {LIMIT // MIB} can be brought"
        said.append(more if fits else more + over)
    return "\n".join(said)


def wanted() -> list[str]:
    """Return the packages of all groups, with the versions that pyproject.toml asks for."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    asked = {_plain(line): line for line in told}
    return [asked.get(name, name) for names in GROUPS.values() for name in names]


def resolved(requirements: list[str]) -> dict[str, tuple[str, set[str]]]:
    """Return each package that ``requirements`` bring, by pip: its version, and what it needs itself."""
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.json"
        dry = ("install", "-q", "--dry-run", "--ignore-installed", "--target", place, "--report", str(report))
        _pip(*dry, *requirements)
        told = [item["metadata"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
    return {_plain(one["name"]): (one["version"], _needs(one)) for one in told}


def _needs(told: dict[str, Any]) -> set[str]:
    return {_plain(line) for line in told.get("requires_dist", []) if "extra ==" not in line}


def closure(names: Iterable[str], known: dict[str, tuple[str, set[str]]]) -> set[str]:
    """Return ``names`` and all that they need, as far as ``known`` has it."""
    found: set[str] = set()
    new = set(names)
    while new:
        found |= new
        new = {need for name in new for need in known[name][1] if need in known} - found
    return found


def _plain(requirement: str) -> str:
    """Return the name of a requirement as packages are compared, ``ml_dtypes>=0.5`` as ``ml-dtypes``."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0]).lower()


def _pip(verb: str, *words: str) -> None:
    target = [*_TARGET, *(word for tag in _PLATFORMS for word in ("--platform", tag))]
    pip = [sys.executable, "-m", "pip", verb, *target, *words]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines()[-1:]
        raise FetchError(f"pip {verb} cannot: {' '.join(errors)[:800]}")


def main() -> int:
    """Fetch what the command line asks for."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("folder", type=Path)
    asked.add_argument("--there", nargs="*", default=[], metavar="NAME==VERSION", help="what the machine has already")
    given = asked.parse_args()
    try:
        print(fetch(given.folder, given.there))
    except FetchError as wrong:
        print(wrong, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
