"""The extra ``report``: altair and vl-convert, which draw charts. Everything else works without them."""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec

NO_CHARTS = "No charts: what draws them is not installed; pip install 'latency-profiler[report]' brings it."


def can_draw() -> bool:
    """Whether charts can be drawn here; where not, ``NO_CHARTS`` says how to get them."""
    with suppress(ImportError):
        return all(find_spec(name) for name in ("altair", "vl_convert"))
    return False
