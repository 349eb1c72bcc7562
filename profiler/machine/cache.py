"""Small facts of this machine that are measured once and kept in the user's cache: one JSON object per file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import platformdirs

from profiler.records.files import write_whole


def cache_folder() -> Path:
    """Return where exports, eager outputs and calibrations are kept between runs."""
    return Path(platformdirs.user_cache_dir("latency-profiler", appauthor=False))


def kept(file: Path) -> dict[str, dict[str, Any]]:
    """Return what is kept in ``file`` by name; nothing where it is missing or cannot be read."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def keep(file: Path, name: str, value: dict[str, Any]) -> None:
    """Keep ``value`` under ``name``; another process sees the old file or the new one, never half of it."""
    write_whole(file, json.dumps(kept(file) | {name: value}, indent=1, sort_keys=True))
