"""Networks that are none of the zoo, as they are known where their code is not: by name, parameters and counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from profiler.errors import UserError
from profiler.models.arch import Arch
from profiler.models.complexity import Complexity, complexity

#: What one parameter may be.
Plain: TypeAlias = bool | int | float | str | tuple["Plain", ...] | None


class Wanted(NamedTuple):
    """A network of a family: its base, or that scaled by a rule, by a factor or to a target in flops."""

    model: str
    rule: str = ""
    factor: float = 1.0
    flops: int | None = None


@dataclass(frozen=True, slots=True)
class Brought:
    """A network that a user brought.

    Attributes:
        name: As for ``--model``.
        family: The family that it is scaled in, which is called as the model; empty for a model that is none.
        scaling: Rule this was scaled by; empty for the base network.
        factor: Scaling factor s; 1.0 for the base network.
        parameters: What the family builds it from, by name.
        resolution: Height of the input in pixels; None where the input is no image.
        counts: For one example; None where they cannot be had.
        uncounted: Why they cannot.
    """

    name: str
    family: str = ""
    scaling: str = ""
    factor: float = 1.0
    parameters: tuple[tuple[str, Plain], ...] = ()
    resolution: int | None = None
    counts: Complexity | None = None
    uncounted: str = ""

    @property
    def step(self) -> str:
        """No network of a user's family is beside its rule."""
        return ""

    @property
    def said(self) -> str:
        """The network in words: ``vit.py:vit dWr x4 (depth 14, width 704)``."""
        scaled = f"{self.name} {self.scaling} x{self.factor:.4g}" if self.scaling else self.name
        values = ", ".join(f"{name} {value}" for name, value in self.parameters)
        return f"{scaled} ({values})" if values else scaled


Network: TypeAlias = Arch | Brought


def counts_of(network: Network) -> Complexity:
    """Return flops, params and acts of a network for one example; raises UserError where they are not known."""
    if isinstance(network, Arch):
        return complexity(network)
    why = network.uncounted if network.counts is None else network.counts.uncounted
    if network.counts is None or why:
        raise UserError(f"{network.said} has no exact counts: {why}")
    return network.counts
