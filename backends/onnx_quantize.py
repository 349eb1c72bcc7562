"""int8 in ONNX graphs: quantising one, and what its nodes compute in once it is optimised."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from profiler.backends.base import BackendError, Fact
from profiler.backends.int8 import WHOLE_BITS, counted_nodes, weight_bits

if TYPE_CHECKING:
    from profiler.backends.inputs import Array

#: ``dynamic`` measures the range of activations in each forward, ``static`` once, on the inputs that are given.
Quantized = Literal["none", "dynamic", "static"]

#: Nodes that only bring numbers from one type to another.
_CONVERTING = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast")


def quantize(source: Path, target: Path, how: Quantized, arrays: Mapping[str, Array]) -> None:
    """Write the graph ``source`` with int8 weights to ``target``; its activations as ``how`` says.

    Static quantisation begins with ONNX Runtime's own preparation, which folds and fuses what could not be fused any
    more between conversions and tells the shapes. Activations get no sign, since for those of both signs x86 has next
    to no kernels and most of the graph would stay in floats. Weights get a range for each channel; either way they have
    ``weight_bits``.

    Args:
        source: An ONNX file in fp32.
        target: Where to.
        how: ``dynamic`` or ``static``.
        arrays: What static quantisation finds the ranges of activations on, by the inputs' names.

    Raises:
        BackendError: ONNX Runtime's quantiser refuses the graph.
    """
    import onnx
    from onnxruntime import quantization

    names = [value.name for value in onnx.load(source, load_external_data=False).graph.input]

    class Once(quantization.CalibrationDataReader):  # type: ignore[misc]
        """Gives the inputs once."""

        def __init__(self) -> None:
            self._left = iter([{name: arrays[name] for name in names if name in arrays}])

        def get_next(self) -> dict[str, Array] | None:
            return next(self._left, None)

    less = weight_bits() < WHOLE_BITS
    with _silence():
        try:
            if how == "static":
                prepared = target.with_name(f"prepared-{source.name}")
                quantization.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
                quantization.quantize_static(
                    str(prepared),
                    str(target),
                    Once(),
                    activation_type=quantization.QuantType.QUInt8,
                    per_channel=True,
                    reduce_range=less,
                )
            else:
                quantization.quantize_dynamic(str(source), str(target), reduce_range=less)
        except MemoryError:
            raise
        except Exception as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
            raise BackendError(f"onnxruntime cannot quantise the model ({said}): leave quantize={how} out") from error


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the quantiser's advice, which it gives through the root logger, from the user."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def int8_nodes(path: Path) -> dict[str, Fact]:
    """Return how many nodes of an optimised graph compute in int8, in floats, or only convert, and that in words.

    Empty for a graph in which nothing is quantised.
    """
    import onnx

    kinds = Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)
    quantised = {kind: n for kind, n in kinds.items() if _in_int8(kind)}
    converting = {kind: kinds[kind] for kind in _CONVERTING if kinds[kind]}
    if not quantised and not converting.keys() & {*_CONVERTING[:3]}:
        return {}
    floats = {kind: n for kind, n in kinds.items() if kind not in {*quantised, *converting}}
    return counted_nodes(quantised, floats, converting)


def _in_int8(kind: str) -> bool:
    named = kind.startswith(("QLinear", "QGemm", "QAttention", "Dynamic")) or "Integer" in kind
    return named and kind not in _CONVERTING
