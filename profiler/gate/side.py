"""What the gate compares: a model, on a backend, perhaps under another version of the code.

regnety_400mf dWr x4 @torchscript     a network of the zoo, scaled, on a backend
package.module:factory @eager         a function that returns a torch module, or (module, example input)
model.onnx                            an ONNX file; ONNX Runtime unless a backend is named
git:main                              the other side's model, under the code of a git revision
git:v1.2 package.module:factory       another model, under that revision
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from profiler import backends
from profiler.backends.base import BackendError, Placement
from profiler.errors import UserError
from profiler.records.types import Case
from profiler.units import parse_flops

#: The sides of a pair, by the names of its fields.
SIDES = ("baseline", "candidate")

EXAMPLES = "expected MODEL [RULE xS] [@BACKEND], as 'regnety_400mf dWr x4 @eager', or git:REF [MODEL ...]"


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison.

    Attributes:
        case: What runs.
        revision: Git revision whose code runs it; None for the code as it is now.
    """

    case: Case
    revision: str | None = None

    @property
    def label(self) -> str:
        """As a user would write it."""
        where = f"git:{self.revision} " if self.revision else ""
        return f"{where}{self.case.network} @{self.case.backend}"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sides and what the second may cost.

    Attributes:
        baseline: As it was.
        candidate: As it is to become.
        max_slowdown: The slow-down that must be caught, as a share; None leaves latency ungated.
        max_memory_growth: The growth of peak memory that fails, as a share; None leaves memory ungated.
        name: For reports; both labels where none is given.
    """

    baseline: Side
    candidate: Side
    max_slowdown: float | None = 0.05
    max_memory_growth: float | None = None
    name: str = ""

    @property
    def label(self) -> str:
        """The name, or both sides."""
        return self.name or f"{self.baseline.label} -> {self.candidate.label}"


@dataclass(frozen=True, slots=True)
class _Spec:
    """A side as it was written; what it leaves out comes from the other side or from the defaults."""

    model: str | None
    scaling: str = ""
    factor: str = ""
    backend: str | None = None
    revision: str | None = None


def parse_side(text: str) -> _Spec:
    """Read one side; raises UserError with one sentence when it cannot be one."""
    words = text.split()
    revision = backend = None
    if words and words[0].startswith("git:"):
        revision = words.pop(0).removeprefix("git:")
        if not revision:
            raise UserError(f"{text!r} names no revision; {EXAMPLES}")
    if words and words[-1].startswith("@"):
        backend = words.pop().removeprefix("@")
    if not words and revision is None:
        raise UserError(f"{text!r} names no model; {EXAMPLES}")
    if len(words) not in (0, 1, 3) or (len(words) == 3 and not _is_scaling(words[2])):
        raise UserError(f"{text!r} is not a model; {EXAMPLES}")
    model, scaling, factor = [*words, "", "", ""][:3]
    return _Spec(model or None, scaling, factor, backend, revision)


def _is_scaling(word: str) -> bool:
    return word.startswith("x") or word[-2:].upper() in ("MF", "GF", "TF")


def sides(baseline: str, candidate: str, placement: Placement, backend: str | None, batch: int) -> tuple[Side, Side]:
    """Return both sides; one that names only a revision takes the model of the other."""
    old, new = parse_side(baseline), parse_side(candidate)
    if old.model is None and new.model is None:
        raise UserError(f"neither {baseline!r} nor {candidate!r} names a model; {EXAMPLES}")
    old, new = _completed(old, new), _completed(new, old)
    return _side(old, placement, backend, batch), _side(new, placement, backend, batch)


def _completed(spec: _Spec, other: _Spec) -> _Spec:
    if spec.model is not None:
        return spec
    return replace(other, revision=spec.revision, backend=spec.backend or other.backend)


def _side(spec: _Spec, placement: Placement, backend: str | None, batch: int) -> Side:
    model = spec.model or ""
    name = spec.backend or backend or ("onnxruntime" if model.endswith(".onnx") else "eager")
    try:
        backends.get(name)
    except BackendError as error:
        raise UserError(str(error)) from error
    factor, target, step = _scaled(spec)
    case = Case(model, spec.scaling, factor, name, placement, batch, target_flops=target, step=step)
    return Side(case, spec.revision)


def _scaled(spec: _Spec) -> tuple[float, int | None, str]:
    """Return (factor, target flops, step beside the rule) of a spec, checked."""
    from profiler import models

    model = spec.model or ""
    if ":" in model or model.endswith(".onnx"):
        if spec.scaling:
            raise UserError(f"{model!r} cannot be scaled: only networks that `profiler models` lists can")
        return 1.0, None, ""
    if not spec.scaling:
        models.get(model)
        return 1.0, None, ""
    if not spec.factor.startswith("x"):
        target = parse_flops(spec.factor)
        found = models.scale_to_flops(models.get(model), spec.scaling, target)
        return found.factor, target, found.step
    try:
        factor = float(spec.factor[1:])
    except ValueError:
        raise UserError(f"{spec.factor!r} is no scaling factor; expected as x4 or x0.5") from None
    models.resolve(model, spec.scaling, factor)
    return factor, None, ""
