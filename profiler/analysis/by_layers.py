"""Whether a network is foretold better layer by layer or as a whole, and the better of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from profiler.analysis.frame import network_names, plain
from profiler.analysis.layer_costs import Costed, in_place, layer_costs, said_by_others
from profiler.analysis.layer_file import costs_frame
from profiler.analysis.nonnegative import mape, margin_of
from profiler.analysis.predict import Prediction
from profiler.analysis.regression import Floats
from profiler.backends.base import Placement
from profiler.errors import UserError
from profiler.measure.layers import Layer
from profiler.models.brought import Network
from profiler.records.columns import Row
from profiler.records.outside import checked
from profiler.records.types import Case
from profiler.run.explaining import layers_of
from profiler.run.processes import Executor, LocalExecutor


def layered_errors(networks: Sequence[Costed], *, by_family: bool = False) -> tuple[Floats, Floats]:
    """What the layers of others said of each network left out, and what was measured, both in ms, shape (n,)."""
    names = dict(zip(map(id, networks), network_names(costs_frame(networks)), strict=True))
    said = said_by_others(networks, lambda one: plain(one.row.get("family")) if by_family else names[id(one)])
    return said, np.array([float(one.row["latency_ms"] or math.nan) for one in networks])


def closer(whole: Prediction, networks: Sequence[Costed], layers: Sequence[Layer], family: str = "") -> Prediction:
    """The prediction of those two ways that had the smaller error on networks left out, and in words why.

    Args:
        whole: By whole networks, fitted to the same ``networks``.
        networks: Of its group, four or more.
        layers: Of the network that is asked about, as the backend runs them; their times are not looked at.
        family: Of that network.
    """
    strange = bool(family) and family not in {plain(one.row.get("family")) for one in networks}
    said, measured = layered_errors(networks, by_family=strange)
    if not np.isfinite(said).all():
        return replace(whole, basis=f"{whole.basis}; layer by layer nothing was left to learn from")
    error = mape(said, measured)
    if error >= whole.error:
        return replace(whole, basis=f"{whole.basis}; layer by layer {error:.1%}")
    costs = layer_costs(networks)
    value, ratio = costs.network_ms(layers), math.exp(margin_of(np.log(measured / said)))
    left = "family" if strange else "network"
    basis = (
        f"{len(networks)} networks layer by layer, {costs.share_met(layers):.0%} of it in shapes that were met; error "
        f"on a {left} left out {error:.1%}, by whole networks {whole.error:.1%}"
    )
    return replace(whole, value=value, interval=(value / ratio, value * ratio), basis=basis, error=error)


def layer_by_layer(
    made: Sequence[Prediction], networks: Sequence[Costed], arch: Network, shape: str = "", input_file: str = ""
) -> list[Prediction]:
    """Replace predictions of latencies by those of layers where these had the smaller error.

    The network is run once in each backend, in a fresh process, to know its layers; where that cannot be, the basis of
    the prediction says so.

    Args:
        made: By whole networks, from the rows of ``networks``.
        networks: Of a file of layer costs.
        arch: The network that is asked about.
        shape: Of its inputs, where they are not its own.
        input_file: The same.
    """
    executor = LocalExecutor()
    try:
        return [_by_layers(one, networks, arch, (shape, input_file), executor) for one in made]
    finally:
        executor.close()


def _by_layers(
    one: Prediction, networks: Sequence[Costed], arch: Network, fed: tuple[str, str], executor: Executor
) -> Prediction:
    if one.y != "latency_ms":
        return one
    there = in_place(networks, one.group)
    row = there[0].row
    place = _placement(row)
    case = Case(
        arch.name, arch.scaling, arch.factor, str(row["backend"]), place, int(row["batch"] or 1),
        step=arch.step, shape=fed[0], input_file=fed[1],
    )  # fmt: skip
    try:
        layers = layers_of(case, executor)
    except UserError as error:
        return replace(one, basis=f"{one.basis}; not layer by layer: {error}")
    return closer(one, there, layers, arch.family)


def _placement(row: Row) -> Placement:
    """Where a row was measured, on one thread; raises UserError where its values are none of a placement."""
    told = {"device": row["device"], "precision": row["precision"], "memory_format": row.get("memory_format") or ""}
    try:
        return checked(Placement, {name: value for name, value in told.items() if value} | {"threads": 1})
    except ValueError as error:
        raise UserError(f"no place to run in is {told}: correct the file, or explain its networks again") from error
