"""What a shell offers where a value is typed; imports nothing that takes long."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path

#: Files that are models, by their ending.
_MODELS = (".onnx", ".pt", ".pt2", ".jit", ".ts", ".py")
#: Where runs lie that nobody put elsewhere.
_RESULTS = "results"


def backend_names(incomplete: str) -> list[str]:
    """Return backends, for the last of several values between commas."""
    return _last(incomplete, importlib.import_module("profiler.backends").available())


def model_names(incomplete: str) -> list[str]:
    """Return networks and files of models, for the last of several values between commas."""
    last = incomplete.rpartition(",")[2]
    files = (path for path in _entries(last) if path.endswith(("/", *_MODELS)))
    return _last(incomplete, (*importlib.import_module("profiler.models.families").names(), *files))


def plan_names(incomplete: str) -> list[str]:
    """Return built-in plans and TOML files."""
    folder = Path(__file__).parents[1] / "plan" / "built_in"
    plans = sorted(path.stem for path in folder.glob("*.toml"))
    return _last(incomplete, (*plans, *(path for path in _entries(incomplete) if path.endswith(("/", ".toml")))))


def run_names(incomplete: str) -> list[str]:
    """Return the folders of runs, and tables."""
    kept = Path(_RESULTS)
    runs = [str(path.parent) for depth in ("*", "*/*") for path in sorted(kept.glob(f"{depth}/journal.jsonl"))]
    tables = [str(path) for depth in ("*", "*/*") for path in sorted(kept.glob(f"{depth}/cases.csv"))]
    tables = [path for path in tables if str(Path(path).parent) not in runs]
    others = [path for path in _entries(incomplete) if path.endswith(("/", ".csv", ".jsonl", ".json"))]
    return list(dict.fromkeys(_last(incomplete, (*runs, *tables, *others))))


def _last(incomplete: str, values: Iterable[str]) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{value}" for value in values if value.startswith(last)]


def _entries(incomplete: str) -> Iterator[str]:
    """Yield what a folder holds whose path begins so, folders with a slash behind them."""
    folder, slash, name = incomplete.rpartition("/")
    place = Path(folder + slash)
    try:
        found = sorted(path for path in place.iterdir() if path.name.startswith(name) and path.name[:1] != ".")
    except OSError:
        return
    for path in found:
        yield f"{folder}{slash}{path.name}{'/' if path.is_dir() else ''}"
