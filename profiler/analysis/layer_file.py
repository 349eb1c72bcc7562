"""Layer costs as a file that other programs can read: measured networks, and what follows for any layer.

The file is JSON; `docs/how-to/answers.md` says what is in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from profiler.analysis.frame import plain
from profiler.analysis.layer_costs import Costed, LayerCosts, layer_costs
from profiler.errors import UserError
from profiler.records.columns import Row
from profiler.records.files import write_file
from profiler.records.outside import checked, file_bytes, json_of

#: Bumped when the meaning of a field changes.
_FORMAT = "latency-profiler layer costs 1"
#: What is the same for layers that may be priced by each other.
PLACE = ("host", "backend", "device", "precision", "memory_format", "threads", "batch", "mode")
#: Without which a row says nothing.
_NEEDED = ("model", "backend", "device", "precision", "threads", "batch")
#: What is kept of a row beside its place.
_KEPT = (
    "case",
    "model",
    "family",
    "scaling",
    "factor",
    "step",
    "resolution",
    "shape",
    "inputs",
    "content",
    "flops",
    "params",
    "acts",
    "layers",
    "padding_flops",
    "latency_ms",
    "latency_ci_low_ms",
    "latency_ci_high_ms",
    "status",
    "cpu",
    "backend_version",
    "started",
)


def kept_row(row: Row) -> Row:
    """What of a row is kept in a file of costs."""
    return {name: row[name] for name in (*PLACE, *_KEPT) if row.get(name) is not None}


def read_costs(path: Path) -> list[Costed]:
    """Read the networks of a file of layer costs.

    Raises:
        UserError: It cannot be read, or is none.
    """
    try:
        found = json_of(file_bytes(path))
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or error}); give a file that `profiler explain --costs` wrote."
        ) from error
    except ValueError as error:
        raise _no_costs(path, str(error)) from error
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise _no_costs(path, f"its format is not {_FORMAT!r}")
    try:
        networks = checked(list[Costed], found.get("networks"))
    except ValueError as error:
        raise _no_costs(path, "its networks are none") from error
    if not networks:
        raise _no_costs(path, "it has no networks")
    if not all(map(_can_be, networks)):
        raise _no_costs(path, "its networks are none")
    return networks


def _can_be(one: Costed) -> bool:
    told = (one.row.get(name) for name in (*_NEEDED, "latency_ms"))
    names = ("flops", "moved_bytes", "params", "padding_flops", "ns")
    counts = (getattr(layer, name) or 0 for layer in one.layers for name in names)
    return (
        all(value is not None for value in told)
        and all(n >= 0 for n in counts)
        and all(x.calls > 0 for x in one.layers)
    )


def _no_costs(path: Path, why: str) -> UserError:
    return UserError(f"{path} is no file of layer costs ({why}): write one with `profiler explain MODEL --costs FILE`.")


def costs_frame(networks: Iterable[Costed]) -> pd.DataFrame:
    """The measured networks as a table for fitting."""
    return pd.DataFrame([one.row for one in networks])


def brought_together(earlier: Iterable[Costed], new: Iterable[Costed]) -> list[Costed]:
    """Earlier networks and new ones; what was measured again in the same place stands once, as it is now."""
    return [*{(one.row.get("case"), one.row.get("host")): one for one in (*earlier, *new)}.values()]


def write_costs(networks: Sequence[Costed], path: Path) -> None:
    """Write networks, and what follows from them for each place.

    Raises:
        UserError: The file cannot be written.
    """
    places: dict[tuple[str, ...], list[Costed]] = {}
    for one in networks:
        places.setdefault(tuple(plain(one.row.get(key)) for key in PLACE), []).append(one)
    whole = {
        "format": _FORMAT,
        "costs": [
            {"place": dict(zip(PLACE, place, strict=True)), "networks": len(several), **_costs(layer_costs(several))}
            for place, several in places.items()
        ],
        "networks": [{"row": one.row, "layers": [_layer(layer) for layer in one.layers]} for one in networks],
    }
    write_file(path, json.dumps(whole, indent=1, allow_nan=False))


def _layer(layer: Any) -> dict[str, Any]:
    return {name: getattr(layer, name) for name in layer.__dataclass_fields__}


def _costs(costs: LayerCosts) -> dict[str, Any]:
    shapes = ({"operator": name, "shapes": shapes, "ns": ns} for (name, shapes), ns in sorted(costs.met.items()))
    return {"shapes": [*shapes], "operators": [_layer(one) for _, one in sorted(costs.operators.items())]}
