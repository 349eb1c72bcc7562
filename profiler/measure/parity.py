"""Whether a backend computes what eager computes, and the same at every forward."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from profiler import backends
from profiler.backends.base import Backend, Fact, InputHolder, Placement, Session
from profiler.backends.inputs import Inputs, shape_text
from profiler.measure.agreement import agreement
from profiler.models.content import of_inputs, of_parts
from profiler.models.loaded import Loaded
from profiler.models.onnx_file import draws_numbers
from profiler.models.torch_source import seed_all
from profiler.records.files import write_whole
from profiler.records.types import Case, Failure

if TYPE_CHECKING:
    from profiler.backends.inputs import Array

#: Outputs of a forward, floats as fp32.
Outputs = tuple["Array", ...]

#: Largest difference from eager that is still the same network: relative to the largest number of an output, or the
#: share of unequal elements where an output holds no floats.
PARITY = {"fp32": 1e-3, "tf32": 1e-2, "fp16": 3e-2, "bf16": 1e-1}

_RANDOM = "random"
_SAID = {
    "input": "the model changes its input, so that every forward begins with another one: let it work on a copy",
    "state": "the model differs between two forwards of the same input: it keeps state between calls, or is random; "
    "let a forward depend on its input alone",
    "nan": "the model computes NaN: arithmetic with it is no measure of the model; give an example input, with "
    "values for which it computes numbers",
}
_RANDOM_NOTE = "its outputs are random (two forwards agree under one seed alone) and were not compared with eager's"
_DRAWN_NOTE = "its outputs are random (the file draws numbers in each forward) and were not compared"


@dataclass(frozen=True, slots=True)
class Checked:
    """What comparing with eager says.

    Attributes:
        parity: Largest difference from eager, see ``gap``; None where there is nothing to compare with.
        failure: Why the latency would mislead, or None.
        note: What a reader of the row should know; empty for nothing.
        agreement: See ``profiler.measure.agreement``.
    """

    parity: float | None = None
    failure: Failure | None = None
    note: str = ""
    agreement: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ran:
    """A first forward: the digest of its inputs before it, see ``given_to``, and its outputs."""

    given: str
    outputs: Outputs


@dataclass(frozen=True, slots=True)
class _Seen:
    """Outputs of a first forward, and what is wrong with the model: a key of ``_SAID``, ``random``, or nothing."""

    outputs: Outputs
    fault: str = ""


def check(
    backend: Backend, loaded: Loaded, case: Case, session: Session, cache: Path | None, before: Ran | None = None
) -> Checked:
    """Compare outputs of a loaded ``session`` with each other and with eager's.

    Args:
        backend: Of the session.
        loaded: Its model.
        case: What it serves.
        session: The outputs of its latest forward are compared with those in ``before``.
        cache: Where eager's outputs are kept; None for nowhere.
        before: Of a forward before the latest; None to run two here.
    """
    usual = PARITY[_arithmetic(backend, case.placement)]
    allowed = getattr(backend, "allowed", None) or usual
    own = _watched(session, allowed) if before is None else _since(before, session, allowed)
    simulated: Callable[[Inputs], Outputs] | None = getattr(backend, "expected", None)
    expected = _Seen(simulated(loaded.inputs)) if simulated else _expected(loaded, case, cache)
    if expected is not None and expected.fault in _SAID:
        return Checked(failure=Failure("parity", _SAID[expected.fault]))
    if expected is not None and expected.fault == _RANDOM:
        return Checked(note=_RANDOM_NOTE)
    if own.fault == "state" and loaded.model.onnx is not None and draws_numbers(loaded.model.onnx):
        return Checked(note=_DRAWN_NOTE)
    if own.fault in ("input", "state") or (own.fault and expected is None):
        return Checked(failure=Failure("parity", _SAID[own.fault]))
    if expected is None:
        return Checked()
    return _compared(own.outputs, expected.outputs, case, allowed, usual=allowed == usual)


def _arithmetic(backend: Backend, placement: Placement) -> str:
    """Return the precision in which ``backend`` computes: TF32 by a precision of that name, or by its own option."""
    by_option = placement.precision == "fp32" and placement.device_type != "cpu" and getattr(backend, "tf32", False)
    return "tf32" if by_option else placement.precision


def _compared(found: Outputs, expected: Outputs, case: Case, allowed: float, *, usual: bool) -> Checked:
    parity = gap(found, expected)
    if parity <= allowed:
        return Checked(parity, agreement=agreement(found, expected))
    place = case.placement
    what = _unlike(found, expected) or (
        f"outputs differ by {parity:.2g} of the largest output, {allowed:g} is allowed for {place.precision}"
    )
    if place.precision != "fp32" and any(map(_has_nan, found)):
        said = f"the model computes NaN in {place.precision} and numbers in fp32: use another precision"
    elif not usual:
        said = (
            f"{case.backend} is further from eager than allowed: {_unlike(found, expected) or f'{parity:.2g}'} of the "
            f"largest output, {allowed:g} is allowed; raise the option tolerance, or quantise another way"
        )
    elif case.backend == "eager" and (place.precision, place.memory_format) == ("fp32", "contiguous"):
        said = _SAID["state"]  # two forwards of each session agreed by chance
    elif case.backend.partition(":")[0] == "eager":
        said = (
            f"in {place.precision} and {place.memory_format} eager computes something else than in fp32: {what}; "
            "use another precision or layout"
        )
    else:
        said = (
            f"{case.backend} computes something else than eager: {what}; this is a bug of the model's export or of "
            "the runtime, and its latency would mislead"
        )
    return Checked(parity, Failure("parity", said))


def _unlike(found: Outputs, expected: Outputs) -> str:
    """Say how outputs differ in number or shape; nothing where they do not."""
    shapes = [", ".join(shape_text(array.shape) for array in outputs) for outputs in (found, expected)]
    return f"its outputs are {shapes[0]} and eager's are {shapes[1]}" if shapes[0] != shapes[1] else ""


def gap(found: Sequence[Array], expected: Sequence[Array]) -> float:
    """Return the largest difference over outputs; infinite where their number or shapes are unlike.

    It is relative to the largest finite number of an output of floats, and the share of unequal elements of any other.
    """
    if [array.shape for array in found] != [array.shape for array in expected]:
        return float("inf")
    return max((_gap(one, other) for one, other in zip(found, expected, strict=True)), default=0.0)


def _gap(found: Array, expected: Array) -> float:
    import numpy as np

    if not found.size:
        return 0.0
    if "f" not in (found.dtype.kind, expected.dtype.kind):
        return float(np.mean(found != expected))
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    if same.all():
        return 0.0
    scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0)) or 1.0
    difference = float(np.abs(found[~same].astype(np.float64) - expected[~same]).max()) / scale
    return difference if np.isfinite(difference) else float("inf")


def _watched(session: Session, allowed: float) -> _Seen:
    """Run ``session`` twice and say what is wrong with what it computes."""
    given = given_to(session)
    before = Ran(given, _forward(session))
    _forward(session)
    return _since(before, session, allowed)


def _since(before: Ran, session: Session, allowed: float) -> _Seen:
    """Say what is wrong with what ``session`` has computed since ``before``."""
    if given_to(session) != before.given:
        return _Seen(before.outputs, "input")
    if gap(session.outputs(), before.outputs) > allowed:
        return _Seen(before.outputs, "state")
    return _Seen(before.outputs, "nan" if any(_has_nan(array) for array in before.outputs) else "")


def _forward(session: Session) -> Outputs:
    session.run()
    session.sync()
    return session.outputs()


def given_to(session: Session) -> str:
    """Return the digest of the inputs as they are now: copies of them would take memory from the forwards."""
    return of_inputs(Inputs(kwargs=session.inputs())) if isinstance(session, InputHolder) else ""


def _has_nan(array: Array) -> bool:
    import numpy as np

    return array.dtype.kind == "f" and bool(np.isnan(array).any())


def _expected(loaded: Loaded, case: Case, cache: Path | None) -> _Seen | None:
    """Return what eager computes in fp32 on the same device for the same inputs, from the cache where it is kept."""
    if loaded.model.module is None:
        return None
    placement = replace(case.placement, precision="fp32", memory_format="contiguous")
    file = None
    if cache is not None and loaded.model.key is not None:
        name = of_parts(loaded.model.key, loaded.inputs.signature, asdict(placement), version("torch"))
        file = cache / "eager" / name
        kept = _read(file)
        if kept is not None:
            return kept
    with backends.get("eager").load(loaded.model, loaded.inputs, placement) as session:
        seen = _watched(session, PARITY["fp32"])
        if seen.fault == "state" and _repeats_under_a_seed(session):
            seen = replace(seen, fault=_RANDOM)
    if file is not None:
        _write(file, seen)
    return seen


def _repeats_under_a_seed(session: Session) -> bool:
    outputs = []
    for _ in range(2):
        seed_all()
        outputs.append(_forward(session))
    return gap(outputs[1], outputs[0]) == 0


def _read(file: Path) -> _Seen | None:
    """Return what was kept; None where it is not whole."""
    import numpy as np

    try:
        digest, _, data = file.read_bytes().partition(b"\n")
        if hashlib.sha256(data).hexdigest().encode() != digest:
            return None
        with np.load(io.BytesIO(data), allow_pickle=False) as kept:
            return _Seen(tuple(kept[f"arr_{i}"] for i in range(len(kept.files) - 1)), json.loads(str(kept["fault"])))
    except (OSError, ValueError, EOFError, KeyError):
        return None


def _write(file: Path, seen: _Seen) -> None:
    import numpy as np

    text = io.BytesIO()
    np.savez(text, *seen.outputs, fault=json.dumps(seen.fault))
    data = text.getvalue()
    # A cache that cannot be written costs time, never a measurement.
    with contextlib.suppress(OSError):
        write_whole(file, hashlib.sha256(data).hexdigest().encode() + b"\n" + data)
