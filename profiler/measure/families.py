"""What a fresh process tells of a family of the user's: its networks along rules, without measuring any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from profiler.models import own_solve
from profiler.models.brought import Brought, Wanted
from profiler.models.own_family import NotScalableError, OwnFamily, open_family


def networks(wanted: Sequence[Wanted]) -> dict[Wanted, Brought] | str:
    """Return the networks that are wanted of one family, or why the model is none; to be called in a fresh process.

    A network that cannot be counted says why; one that is wanted by its flops must be counted.

    Raises:
        UserError: The model cannot be imported, ``scale`` fails, or no network has the flops.
    """
    try:
        with open_family(wanted[0].model) as family:
            return {one: _network(family, one) for one in wanted}
    except NotScalableError as error:
        return str(error)


def _network(family: OwnFamily, wanted: Wanted) -> Brought:
    if wanted.flops is not None:
        return own_solve.solved(family, wanted.rule, wanted.flops)
    found = family.counted(family.at(wanted.rule, wanted.factor))
    return replace(found, scaling=wanted.rule, factor=wanted.factor)
