"""torch, traced and frozen: batch norm folded, Python gone from the loop.

The profiling executor watches the first run and compiles in the second. These two take 3 and 2 times as long
as the rest on EfficientNet-B0, 1.2 and 1.1 times on a 16 GF RegNet. Input shapes never change here, so no
later run is specialised again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from profiler.backends import cache, pytorch
from profiler.backends.base import Fact, Model, Placement
from profiler.backends.inputs import Inputs
from profiler.backends.pytorch import Placed, TorchSession
from profiler.backends.torch_trace import deprecation_silenced, traced, watching
from profiler.backends.torch_tree import flat

if TYPE_CHECKING:
    import torch
    from torch import nn

_FILE, _NOTE = "frozen.pt", "note.txt"


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

    def unavailable(self, placement: Placement) -> str | None:
        """Return why ``placement`` cannot be served here, with the remedy, or None when it can."""
        return self.refusal(placement) or pytorch.unservable(placement)

    @contextmanager
    def load(self, model: Model, inputs: Inputs, placement: Placement) -> Iterator[TorchSession]:
        """Load ``model`` with ``inputs``; their floats take the precision of ``placement``.

        What runs is always read from disk, whether it has just been traced or was found there.
        """

        def build(folder: Path) -> None:
            module = flat(pytorch.place(model, placement, self.name), inputs)
            note = _trace(module, tuple(Placed(inputs, placement).by_name.values()), folder / _FILE)
            (folder / _NOTE).write_text(note, encoding="utf-8")

        with pytorch.settings(placement, self):
            with cache.entry(model.cache, self._key(model, inputs, placement), build) as entry:
                frozen = _read(entry.folder / _FILE, placement.device, optimize=self.optimize)
                note = (entry.folder / _NOTE).read_text(encoding="utf-8")
            facts: dict[str, Fact] = {
                "cached": entry.cached,
                "cache_note": entry.note,
                "optimize": self.optimize,
                "trace_note": note or None,
            }
            # Traced between flat tuples: every array is an argument by position.
            placed = Placed(Inputs(tuple(inputs.arrays.values()), names=tuple(inputs.arrays)), placement)
            opened = TorchSession(frozen, placed, facts, cold=self.cold)
            del frozen, placed  # or closing the session would free nothing
            with closing(opened) as session:
                yield session

    def _key(self, model: Model, inputs: Inputs, placement: Placement) -> str | None:
        if model.key is None:
            return None
        return cache.content_name(
            form="torchscript",
            model=model.key,
            inputs=inputs.signature,
            options=asdict(self),
            placement=asdict(placement),
            torch=version("torch"),
        )


def _trace(module: nn.Module, tensors: tuple[torch.Tensor, ...], path: Path) -> str:
    """Trace, freeze and save ``module``; return what the trace fixes of it in a sentence, or nothing."""
    import torch

    with torch.no_grad(), deprecation_silenced(), watching(module, tensors) as fixed, deprecation_silenced():
        torch.jit.save(torch.jit.freeze(traced(module, tensors)), str(path))
    return fixed.note


def _read(path: Path, device: str, *, optimize: bool) -> nn.Module:
    import torch

    with deprecation_silenced():
        module = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
        return cast("nn.Module", torch.jit.optimize_for_inference(module) if optimize else module)
