"""Whether a backend computes what eager computes."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from profiler import backends
from profiler.backends.base import Backend
from profiler.measure.network import Network
from profiler.records.files import write_whole
from profiler.records.types import Case, Failure

if TYPE_CHECKING:
    from profiler.backends.base import Array


#: Largest difference from eager that is still the same network, relative to eager's largest output.
PARITY = {"fp32": 1e-3, "fp16": 3e-2, "bf16": 1e-1}


def check_parity(backend: Backend, network: Network, case: Case, output: Array, cache: Path | None) -> float | None:
    """Return the largest difference from eager, relative to eager's largest output; None without eager."""
    own: Callable[[Array], Array] | None = getattr(backend, "expected", None)
    expected = own(network.example) if own else _expected(network, case, cache)
    if expected is None:
        return None
    return _difference(output, expected)


def _difference(output: Array, expected: Array) -> float:
    import numpy as np

    if output.shape != expected.shape:
        return float("inf")
    scale = float(np.abs(expected).max()) or 1.0
    gap = float(np.abs(output - expected).max()) / scale
    return gap if np.isfinite(gap) else float("inf")


def _expected(network: Network, case: Case, cache: Path | None) -> Array | None:
    """Return eager's fp32 output on the same device for the same input, from the cache where it is kept."""
    if network.model.module is None:
        return None
    file = None
    if cache is not None and network.model.key is not None:
        name = f"{network.model.key}-b{case.batch}-{case.placement.device_type}.npy"
        file = cache / "eager" / name
        kept = _read_array(file)
        if kept is not None:
            return kept
    placement = replace(case.placement, precision="fp32", memory_format="contiguous")
    with backends.get("eager").load(network.model, network.example, placement) as session:
        session.run()
        session.sync()
        output = session.output()
    if file is not None:
        _write_array(file, output)
    return output


def _read_array(file: Path) -> Array | None:
    import numpy as np

    try:
        kept: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = np.load(file)
    except (OSError, ValueError, EOFError):
        return None
    return kept


def _write_array(file: Path, array: Array) -> None:
    import numpy as np

    text = io.BytesIO()
    np.save(text, array)
    # A cache that cannot be written costs time, never a measurement.
    with contextlib.suppress(OSError):
        write_whole(file, text.getvalue())


def parity_failure(parity: float | None, case: Case) -> Failure | None:
    """Return the row for an output that differs from eager's by more than is allowed, None for all others."""
    allowed = PARITY[case.placement.precision]
    if parity is None or parity <= allowed:
        return None
    return Failure(
        "parity",
        f"{case.backend} computes something else than eager: outputs differ by {parity:.2g} of the largest "
        f"output, {allowed:g} is allowed for {case.placement.precision}; this is a bug of the model's export "
        "or of the runtime, and its latency would mislead",
    )
