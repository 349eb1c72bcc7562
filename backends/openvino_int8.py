"""int8 in OpenVINO: what nncf quantises, and what the nodes of the compiled model compute in."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from typing import Any

from profiler.backends.base import BackendError, Fact
from profiler.backends.inputs import Inputs
from profiler.backends.int8 import WHOLE_BITS, counted_nodes, weight_bits

#: Layers of a compiled model that only bring numbers from one type or layout to another.
_CONVERTING = ("Convert", "FakeQuantize", "Reorder")
_INT8 = ("i8", "u8")
_UNREPORTED = "NNCF_CI"


def nncf_missing() -> str | None:
    """Return why nothing can be quantised here, with the remedy, or None."""
    if find_spec("nncf") is not None:
        return None
    return (
        "openvino:quantize=static needs nncf: pip install 'latency-profiler[openvino-int8]', or use "
        "onnxruntime:quantize=static"
    )


def quantised(graph: Any, inputs: Inputs) -> Any:
    """Return ``graph`` with weights and activations in int8, the ranges of the latter found on ``inputs``.

    Weights have ``weight_bits``, whatever kind of layer they are of.

    Raises:
        BackendError: nncf refuses the graph.
    """
    with _silence(), unreported():
        import nncf

        given = dict(inputs.arrays)
        feed = {port.get_any_name(): given[port.get_any_name()] for port in graph.inputs}
        try:
            whole = weight_bits() == WHOLE_BITS
            fix = nncf.OverflowFix.DISABLE if whole else nncf.OverflowFix.ENABLE
            how = nncf.AdvancedQuantizationParameters(overflow_fix=fix)
            return nncf.quantize(graph, nncf.Dataset([feed]), subset_size=1, advanced_parameters=how)
        except MemoryError:
            raise
        except Exception as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
            raise BackendError(f"nncf cannot quantise the model ({said}): leave quantize=static out") from error


@contextmanager
def unreported() -> Iterator[None]:
    """Keep nncf, imported inside, from reporting its use over the network: it does unless this variable is set."""
    before = os.environ.get(_UNREPORTED)
    os.environ[_UNREPORTED] = "1"
    try:
        yield
    finally:
        os.environ.pop(_UNREPORTED)
        if before is not None:
            os.environ[_UNREPORTED] = before


@contextmanager
def _silence() -> Iterator[None]:
    """Keep nncf's advice and its progress from the user."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def int8_layers(told: list[tuple[str, str]]) -> Mapping[str, Fact]:
    """Return how many layers compute in int8, in floats, or only convert, from the kind and type of each."""
    converting = Counter(kind for kind, _ in told if kind in _CONVERTING)
    computing = [(kind, number) for kind, number in told if kind not in _CONVERTING]
    in_int8 = Counter(kind for kind, number in computing if number in _INT8)
    floats = Counter(kind for kind, number in computing if number not in _INT8)
    return counted_nodes(in_int8, floats, converting)
