"""What a source makes of a model's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from profiler.backends.base import Model
from profiler.backends.inputs import Inputs
from profiler.models.complexity import Complexity


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a source.

    Attributes:
        model: Name, in one of the forms of ``profiler.models.naming``.
        scaling: Rule, for a network of the zoo or of a family of the user's; empty for none.
        factor: Scaling factor.
        step: Step beside the rule, see ``profiler.models.stepped``; empty for none.
        batch: Examples per forward.
        shape: Shapes of inputs, or values of dimensions, as ``profiler.models.shapes`` reads them; empty for the
            model's own.
        input_file: ``.npz`` file with arrays by the names of inputs; empty for the model's own.
        cache: Folder for exported forms; None keeps nothing.
    """

    model: str
    scaling: str = ""
    factor: float = 1.0
    step: str = ""
    batch: int = 1
    shape: str = ""
    input_file: str = ""
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model and its inputs, ready for a backend.

    Attributes:
        model: As a backend takes it; its key is the digest of the content.
        inputs: Of one forward, on the host.
        content: Digest of code, weights and the values of one example.
        count: Counts for one example; called where counts are wanted, since it may run the model.
        resolution: Height of the input in pixels; None where the input is no image.
        drawn: From which range the values of an input were drawn, by its name, where they are no normal numbers.
        family: What it is scaled in; empty for a model that no rule scales.
        files: That it is read from, beside the one in its name and modules that it imports.
        kept: In which ``precision`` and ``memory_format`` it was brought, where that is none of fp32 and contiguous.
    """

    model: Model
    inputs: Inputs
    content: str
    count: Callable[[], Complexity]
    resolution: int | None = None
    drawn: Mapping[str, str] = field(default_factory=dict)
    family: str = ""
    files: tuple[Path, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """The inputs in words: ``ids int64 1x128 in 0..1, x float32 1x3x224x224``."""
        arrays = {name: Inputs(kwargs={name: array}).signature for name, array in self.inputs.arrays.items()}
        said = [f"{one} in {self.drawn[name]}" if name in self.drawn else one for name, one in arrays.items()]
        return ", ".join([*said, *filter(None, [Inputs(kwargs=self.inputs.constants).signature])]) or "nothing"
