"""AOTInductor: what torch.compile would make, compiled ahead into one package that is loaded without tracing again.

The package needs neither the module nor a compiler where it is loaded. Compiling it takes from seconds to many minutes:
its time is a fact of what is kept, ``compile_s``, beside ``export_s`` of ``torch.export``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from profiler.backends import cache, inductor, pytorch
from profiler.backends.base import BackendError, Fact, Model, Placement
from profiler.backends.inputs import Inputs
from profiler.backends.pytorch import Placed, TorchSession
from profiler.backends.stages import Stage, stage

if TYPE_CHECKING:
    from torch import nn

_PACKAGE, _FACTS = "model.pt2", "facts.json"


@dataclass(frozen=True, slots=True)
class Aoti(pytorch.Flags):
    """A package of AOTInductor; the fields are options, see ``profiler.backends.pytorch.Flags``."""

    name: ClassVar[str] = "aoti"
    reads_onnx: ClassVar[bool] = False
    exports: ClassVar[bool] = True
    ahead_s: ClassVar[float] = 3600.0

    def unavailable(self, placement: Placement) -> str | None:
        """Return why ``placement`` cannot be served here, with the remedy, or None when it can."""
        return (
            self.refusal(placement)
            or pytorch.unservable(placement)
            or inductor.compiler_missing(placement)
            or inductor.toolkit_missing(placement)
        )

    @contextmanager
    def load(self, model: Model, inputs: Inputs, placement: Placement) -> Iterator[TorchSession]:
        """Load ``model`` with ``inputs``; their floats take the precision of ``placement``.

        What runs is always loaded from the package, whether it has just been made or was found.
        """
        with pytorch.settings(placement, self):
            placed = Placed(inputs, placement)

            build = partial(_compile, lambda: pytorch.place(model, placement, self.name), placed)
            with cache.entry(model.cache, self._key(model, inputs, placement), build) as entry:
                facts: dict[str, Fact] = {"cached": entry.cached, "cache_note": entry.note, "model_bytes": entry.size}
                facts |= json.loads((entry.folder / _FACTS).read_text(encoding="utf-8"))
                call = _loaded(entry.folder / _PACKAGE, placement)
            opened = TorchSession(call, placed, facts, cold=self.cold)
            del call, placed, build  # or closing the session would free nothing
            with closing(opened) as session:
                yield session

    def _key(self, model: Model, inputs: Inputs, placement: Placement) -> str | None:
        form = ("aoti", _FACTS)
        chip = pytorch.chip(placement)
        return pytorch.form_key(model, inputs, placement, form=form, options=asdict(self), processor=chip)


def _compile(module: Callable[[], nn.Module], placed: Placed, folder: Path) -> None:
    """Write the package of what ``module`` returns, for exactly these inputs, and how long that took."""
    import torch

    facts: dict[str, Fact] = {}
    with inductor.unpacked(None), inductor.silence(), torch.no_grad():
        with _refused("export", facts):
            program = torch.export.export(module(), placed.args, placed.kwargs)
        with _refused("compile", facts):
            torch._inductor.aoti_compile_and_package(program, package_path=str(folder / _PACKAGE))  # noqa: SLF001
    (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")


@contextmanager
def _refused(name: Stage, facts: dict[str, Fact]) -> Iterator[None]:
    """Pass through a stage; turn what torch says of a model that it cannot take into the contract's one sentence."""
    try:
        with stage(name, facts):
            yield
    except (RuntimeError, TypeError, ValueError, NotImplementedError, AttributeError, AssertionError, OSError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        how = "torch.export cannot export" if name == "export" else "AOTInductor cannot compile"
        raise BackendError(f"{how} the model ({lines[0][:200].rstrip('.')}): use compile or eager") from error


def _loaded(path: Path, placement: Placement) -> Any:
    import torch

    index = placement.device_index if placement.device_type != "cpu" else -1
    with inductor.silence():
        return torch._inductor.aoti_load_package(str(path), device_index=index)  # noqa: SLF001
