"""The names of cases in journals."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from profiler.records.types import Case

#: Fields that are younger than the first journals: without them their cases keep their keys.
_YOUNGER = ("batch_asked", "step", "shape", "input_file", "content", "fleet_label", "gap_s")

_text = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_fields = cache(asdict)


@lru_cache(maxsize=1 << 18)  # a run asks for the keys of its cases over and over
def key_of(case: Case, _factor: str) -> str:
    """Return the key of a case; 1 and 1.0 are equal, and are written unlike each other."""
    values = {name: getattr(case, name) for name in case.__slots__} | {"placement": _fields(case.placement)}
    fields = {name: value for name, value in values.items() if value or name not in _YOUNGER}
    return hashlib.sha256(_text(fields).encode()).hexdigest()[:12]
