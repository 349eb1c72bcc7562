"""torch.compile with Inductor: compiled before anything is timed, kept by content, and read back in each visit.

Compiling takes from seconds to many minutes. Its time is a fact of what is kept, ``compile_s``; a session that found it
kept only traces the model again and reads the code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from profiler.backends import cache, inductor, inductor_layers, pytorch
from profiler.backends.base import BackendError, Fact, LayerTrace, Model, Placement
from profiler.backends.eager import Eager
from profiler.backends.inputs import Inputs
from profiler.backends.pytorch import Placed, TorchSession

if TYPE_CHECKING:
    from torch import nn

_WARM = 3  # forwards before those whose kernels are timed


@dataclass(frozen=True, slots=True)
class Compile(pytorch.Flags):
    """torch.compile; the fields are options, see ``profiler.backends.pytorch.Flags``.

    Attributes:
        mode: torch.compile's own: ``default``, ``reduce-overhead`` (CUDA graphs) or ``max-autotune`` (tries kernels).
        dynamic: Compile for shapes that may change, as a service that sees several does.
    """

    mode: Literal["default", "reduce-overhead", "max-autotune"] = "default"
    dynamic: bool = False

    name: ClassVar[str] = "compile"
    reads_onnx: ClassVar[bool] = False
    exports: ClassVar[bool] = True
    ahead_s: ClassVar[float] = 3600.0

    def unavailable(self, placement: Placement) -> str | None:
        """Return why ``placement`` cannot be served here, with the remedy, or None when it can."""
        if self.mode == "reduce-overhead" and placement.device_type != "cuda":
            return (
                f"mode=reduce-overhead replays CUDA graphs and the device is {placement.device!r}: use mode=default, "
                "which is the same there"
            )
        return self.refusal(placement) or pytorch.unservable(placement) or inductor.compiler_missing(placement)

    def layer_times(self, model: Model, inputs: Inputs, placement: Placement, calls: int) -> LayerTrace:
        """Return the times of kernels by torch's profiler; compiled apart, since only marked kernels are told."""
        if placement.device_type != "cpu":
            raise BackendError(f"torch.compile tells no kernels on {placement.device}: use --device cpu, or eager")
        products = inductor_layers.Products()
        with Eager().watched(model, inputs, placement) as watched:
            watched(products)
        with inductor_layers.kernels_marked(), self._loaded(model, inputs, placement, kernels=True) as session:
            return inductor_layers.traced_kernels(session.run, _WARM, calls, products)

    @contextmanager
    def load(self, model: Model, inputs: Inputs, placement: Placement) -> Iterator[TorchSession]:
        """Load ``model`` with ``inputs``; their floats take the precision of ``placement``."""
        with self._loaded(model, inputs, placement) as session:
            yield session

    @contextmanager
    def _loaded(
        self, model: Model, inputs: Inputs, placement: Placement, *, kernels: bool = False
    ) -> Iterator[TorchSession]:
        with pytorch.settings(placement, self):
            module, placed = pytorch.place(model, placement, self.name), Placed(inputs, placement)
            key = self._key(model, inputs, placement, kernels=kernels)
            build = partial(inductor.keep, self._call(module), placed)
            with (
                cache.entry(model.cache, key, build) as entry,
                inductor.unpacked(entry.folder / inductor.ARCHIVE),
            ):
                facts: dict[str, Fact] = {"cached": entry.cached, "cache_note": entry.note, "mode": self.mode}
                facts["model_bytes"] = entry.size
                facts |= json.loads((entry.folder / inductor.FACTS).read_text(encoding="utf-8"))
                call = self._call(module)
                inductor.first_call(call, placed)
                facts |= inductor.told()
                launched = inductor.not_replayed()
                if self.mode == "reduce-overhead" and launched:
                    raise BackendError(
                        f"torch.compile replays {launched} of the model's {facts['graphs']} graphs as no CUDA graph "
                        "(TORCH_LOGS=cudagraphs says why): use mode=default"
                    )
                facts["cuda_graph"] = self.mode != "default" and placement.device_type == "cuda" and not launched
                opened = TorchSession(call, placed, facts, cold=self.cold)
                del module, call, placed, build  # or closing the session would free nothing
                with closing(opened) as session:
                    yield session

    def _call(self, module: nn.Module) -> Callable[..., object]:
        return inductor.compiled(module, None if self.mode == "default" else self.mode, dynamic=self.dynamic)

    def _key(self, model: Model, inputs: Inputs, placement: Placement, *, kernels: bool) -> str | None:
        form = ("compile", inductor.FACTS, *(["kernels"] if kernels else []))
        chip = pytorch.chip(placement)
        return pytorch.form_key(model, inputs, placement, form=form, options=asdict(self), processor=chip)
