"""What the gate compares: a model, on a backend, perhaps under another version of the code.

regnety_400mf dWr x4 @torchscript     a network of the zoo, scaled, on a backend
package.module:factory @eager         a function that returns a torch module, or (module, example input)
path/file.py:factory                  the same, in a file
model.onnx                            an ONNX file; ONNX Runtime unless a backend is named
'my model.onnx' @onnxruntime          blanks in a path are quoted as in a shell, where no such file lies here
git:main                              the other side's model, under the code of a git revision
git:v1.2 package.module:factory       another model, under that revision

The forms of MODEL are those of ``profiler.models.naming``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from profiler import backends, models
from profiler.backends.base import BackendError, Placement
from profiler.errors import UserError
from profiler.gate.likeness import Kind, allowed_kinds
from profiler.models import naming
from profiler.models.scaling import factors_of
from profiler.records.types import Case
from profiler.units import parse_flops

#: The sides of a pair, by the names of its fields.
SIDES = ("baseline", "candidate")

#: A backend stands last.
_BACKEND = re.compile(r"(|.*\s)@([^\s'\"]+)", re.DOTALL)
#: Runtimes of files that only one can read; eager where nothing else is said.
_RUNTIMES: Mapping[naming.Form, str] = {"onnx": "onnxruntime", "torchscript": "torchscript"}

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
        model = self.case.model
        network = self.case.network.replace(model, _quoted(model), 1)
        return f"{where}{network} @{self.case.backend}"

    @property
    def written(self) -> str:
        """The same without its inputs, which options beside it name."""
        return replace(self, case=replace(self.case, shape="", input_file="")).label

    def missing_in(self, folder: Path) -> str | None:
        """Return why the file of its model cannot be read from ``folder``, in one sentence; None where it can."""
        file = naming.file_of(self.case.model)
        if file is None or (folder / file).is_file():
            return None
        return f"model {self.case.model!r}: there is no file {file!r}; expected a path from the current folder"

    def fed(self, shape: str, input_file: str) -> Side:
        """Return the same side with inputs of a shape and of a file, where it has none of its own.

        A revision gets the file that lies here, too.
        """
        file = self.case.input_file or input_file
        file = str(Path(file).absolute()) if file and self.revision is not None else file
        return replace(self, case=replace(self.case, shape=self.case.shape or shape, input_file=file))


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sides and what the second may cost.

    Attributes:
        baseline: As it was.
        candidate: As it is to become.
        max_slowdown: The slow-down that must be caught, as a share; None leaves latency ungated.
        max_memory_growth: The growth of peak memory that fails, as a share; None leaves memory ungated.
        name: For reports; both labels where none is given.
        max_p99: The growth of the 99th percentile that must be caught, as a share; None leaves the tail ungated.
        allow_different_output: Whether the candidate may compute something else.
        allow_different_inputs: Whether the sides may take inputs of other names, types or shapes.
    """

    baseline: Side
    candidate: Side
    max_slowdown: float | None = 0.05
    max_memory_growth: float | None = None
    name: str = ""
    max_p99: float | None = None
    allow_different_output: bool = False
    allow_different_inputs: bool = False

    @property
    def label(self) -> str:
        """The name, or both sides."""
        return self.name or f"{self.baseline.label} -> {self.candidate.label}"

    @property
    def allowed(self) -> tuple[Kind, ...]:
        """In what the sides may differ."""
        return allowed_kinds(output=self.allow_different_output, inputs=self.allow_different_inputs)


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
    asked, revision, backend = text.strip(), None, None
    if asked.startswith("git:"):
        revision, asked = [*re.split(r"\s+", asked.removeprefix("git:"), maxsplit=1), ""][:2]
        if not revision:
            raise UserError(f"{text!r} names no revision; {EXAMPLES}")
    named = None if _lies_here(asked) else _BACKEND.fullmatch(asked)
    if named is not None:
        asked, backend = named[1].rstrip(), named[2]
    words = [asked] if _lies_here(asked) else _words(asked)
    _refuse_joined(words)
    if not words and revision is None:
        raise UserError(f"{text!r} names no model; {EXAMPLES}")
    if len(words) not in (0, 1, 3) or (len(words) == 3 and not _is_scaling(words[2])):
        raise UserError(f"{text!r} is not a model; {EXAMPLES}{_blanks(asked)}")
    model, scaling, factor = [*words, "", "", ""][:3]
    return _Spec(model or None, scaling, factor, backend, revision)


def _refuse_joined(words: Sequence[str]) -> None:
    """Say that a blank is missing where a backend follows a model at once."""
    for word in words:
        model, at, backend = word.rpartition("@")
        if at and model and backend.partition(":")[0] in backends.available():
            raise UserError(f"{word!r} is not a model: a blank stands before a backend, as '{model} @{backend}'")


def _lies_here(model: str) -> bool:
    file = naming.file_of(model)
    return file is not None and Path(file).is_file()


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # an apostrophe
        return text.split()


def _blanks(text: str) -> str:
    file = naming.file_of(text)
    return f"; there is no file {file!r} here, and elsewhere blanks in a path need quotes" if file else ""


def _quoted(model: str) -> str:
    """Return a model as ``parse_side`` reads it back, whether its file lies here or not."""
    plain = not re.search(r"[\s'\"\\]", model) and not model.startswith(("git:", "@"))
    return model if plain else shlex.quote(model)


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
    found = naming.form(model)
    if found == "zoo":
        model = models.get(model).name
    name = spec.backend or backend or _RUNTIMES.get(found, "eager")
    try:
        backends.get(name)
    except BackendError as error:
        raise UserError(str(error)) from error
    factor, target, step = _scaled(spec)
    case = Case(model, spec.scaling, factor, name, placement, batch, target_flops=target, step=step)
    return Side(case, spec.revision)


def _scaled(spec: _Spec) -> tuple[float, int | None, str]:
    """Return (factor, target flops, step beside the rule) of a spec, checked."""
    model = spec.model or ""
    own = naming.is_brought(model)
    if not spec.scaling:
        return 1.0, None, ""
    if own and not naming.may_be_family(model):
        raise UserError(f"{model!r} cannot be scaled: only networks that `profiler models` lists and families can")
    if not spec.factor.startswith("x"):
        target = parse_flops(spec.factor)
        if own:
            raise UserError(
                f"{spec.factor!r} cannot be solved for {model!r} here, since each side has code of its own; give a "
                f"factor, as x4: `profiler complexity {model} --scale {spec.scaling} --flops {spec.factor}` finds it"
            )
        found = models.scale_to_flops(models.get(model), spec.scaling, target)
        return found.factor, target, found.step
    try:
        factor = float(spec.factor[1:])
    except ValueError:
        raise UserError(f"{spec.factor!r} is no scaling factor; expected as x4 or x0.5") from None
    if own:
        factors_of(spec.scaling, factor)
    else:
        models.resolve(model, spec.scaling, factor)
    return factor, None, ""
