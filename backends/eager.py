"""torch as it comes: one kernel after another, no compilation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from backends import pytorch
from backends.base import Model, Placement
from backends.pytorch import TorchSession

if TYPE_CHECKING:
    from backends.base import Array


@dataclass(frozen=True, slots=True)
class Eager(pytorch.Flags):
    """Eager torch in inference mode; the fields are options, see :class:`backends.pytorch.Flags`."""

    name: ClassVar[str] = "eager"

    def unavailable(self, placement: Placement) -> str | None:
        """Return why ``placement`` cannot be served here, with the remedy, or None when it can."""
        return pytorch.unavailable(placement)

    @contextmanager
    def load(self, model: Model, example: Array, placement: Placement) -> Iterator[TorchSession]:
        """Load ``model`` for input like ``example`` (fp32, host, shape (batch, channels, height, width))."""
        with pytorch.settings(placement, self):
            module, x = pytorch.place(model, placement, self.name), pytorch.upload(example, placement)
            opened = TorchSession(module, x, {"cached": False})
            del module, x  # or closing the session would free nothing
            with closing(opened) as session:
                yield session
