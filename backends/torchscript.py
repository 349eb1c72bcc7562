"""torch, traced and frozen: batch norm folded, Python gone from the loop.

The profiling executor watches the first run and compiles in the second. These two take 3 and 2 times as long
as the rest on EfficientNet-B0, 1.2 and 1.1 times on a 16 GF RegNet. Input shapes never change here, so no
later run is specialised again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from profiler.backends import cache, pytorch
from profiler.backends.base import BackendError, Fact, Model, Placement
from profiler.backends.inputs import Inputs
from profiler.backends.pytorch import Placed, TorchSession
from profiler.backends.stages import stage
from profiler.backends.torch_trace import deprecation_silenced, first_line, save_frozen, watching
from profiler.backends.torch_tree import flat

if TYPE_CHECKING:
    import torch
    from torch import nn

_FILE, _FACTS = "script.pt", "facts.json"


@dataclass(frozen=True, slots=True)
class TorchScript(pytorch.Flags):
    """A traced, frozen module; the fields are options.

    Attributes:
        optimize: Apply ``torch.jit.optimize_for_inference`` after loading. Off, because its result cannot be
            read back from disk, so it costs up to a second in every process, and gains nothing on
            EfficientNet-B0 and 5% on a RegNet.
    """

    optimize: bool = False

    name: ClassVar[str] = "torchscript"
    reads_onnx: ClassVar[bool] = False
    exports: ClassVar[bool] = True

    def unavailable(self, placement: Placement) -> str | None:
        """Return why ``placement`` cannot be served here, with the remedy, or None when it can."""
        return self.refusal(placement) or pytorch.unservable(placement)

    @contextmanager
    def load(self, model: Model, inputs: Inputs, placement: Placement) -> Iterator[TorchSession]:
        """Load ``model`` with ``inputs``; their floats take the precision of ``placement``.

        What runs is always read from disk, whether it has just been traced or was found there.
        """

        def build(folder: Path) -> None:
            module = pytorch.place(model, placement, self.name)
            took: dict[str, Fact] = {}
            with stage("export", took):
                facts = _scripted(module, folder) if _is_script(module) else _traced(module, inputs, placement, folder)
            (folder / _FACTS).write_text(json.dumps(facts | took), encoding="utf-8")

        with pytorch.settings(placement, self):
            with cache.entry(model.cache, self._key(model, inputs, placement), build) as entry:
                read = _read(entry.folder / _FILE, placement.device, optimize=self.optimize)
                facts = json.loads((entry.folder / _FACTS).read_text(encoding="utf-8")) | {"model_bytes": entry.size}
            facts |= {"cached": entry.cached, "cache_note": entry.note, "optimize": self.optimize}
            # Traced between flat tuples: every array is an argument by position.
            flattened = Inputs(tuple(inputs.arrays.values()), names=tuple(inputs.arrays))
            placed = Placed(flattened if facts["traced"] else inputs, placement)
            opened = TorchSession(read, placed, facts, cold=self.cold)
            del read, placed  # or closing the session would free nothing
            with closing(opened) as session:
                yield session

    def _key(self, model: Model, inputs: Inputs, placement: Placement) -> str | None:
        return pytorch.form_key(model, inputs, placement, form=("torchscript", _FACTS), options=asdict(self))


def _is_script(module: nn.Module) -> bool:
    import torch

    return isinstance(module, torch.jit.ScriptModule)


def _scripted(module: nn.Module, folder: Path) -> dict[str, Fact]:
    """Save what is TorchScript already, frozen where it can be: not where it has state that a forward changes."""
    import torch

    with deprecation_silenced():
        try:
            torch.jit.save(torch.jit.freeze(cast("torch.jit.ScriptModule", module)), str(folder / _FILE))
        except RuntimeError:
            torch.jit.save(module, str(folder / _FILE))
            return {"traced": False, "frozen": False}
    return {"traced": False, "frozen": True}


def _traced(module: nn.Module, inputs: Inputs, placement: Placement, folder: Path) -> dict[str, Fact]:
    """Trace, freeze and save ``module``; the facts say what the trace fixes of it."""
    import torch

    module, tensors = flat(module, inputs), tuple(Placed(inputs, placement).by_name.values())
    with torch.no_grad(), deprecation_silenced(), watching(module, tensors) as fixed, deprecation_silenced():
        try:
            save_frozen(module, tensors, folder / _FILE)
        except RuntimeError as error:
            raise BackendError(
                f"torch.jit.trace cannot trace the model ({first_line(error)}): use eager or onnxruntime"
            ) from error
    return {"traced": True, "frozen": True, "trace_note": fixed.note or None}


def _read(path: Path, device: str, *, optimize: bool) -> nn.Module:
    import torch

    with deprecation_silenced():
        module = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
        return cast("nn.Module", torch.jit.optimize_for_inference(module) if optimize else module)
