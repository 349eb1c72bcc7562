"""A plan says what to measure; ``expand`` turns it into cases. Pure: nothing is built, run or timed here.

A plan is a TOML file, or the same keys as flags. Keys at the top hold for every ``[[sweep]]``, and a sweep
may replace them::

    backends = ["eager", "onnxruntime"]
    scalings = ["w", "dwr", "dWr"]

    [[sweep]]
    models = "efficientnet_b0"
    factors = [1, 2, 4]

    [[sweep]]
    models = "regnety_4.0gf"
    flops = ["8GF", "16GF"]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from profiler.backends.base import MemoryFormat, Precision
from profiler.plan.values import (
    FULL,
    LIST,
    BackendSpec,
    Batch,
    Count,
    DeviceName,
    Factor,
    Flops,
    Gap,
    ModelName,
    RuleName,
    Seconds,
    Shapes,
    Share,
)
from profiler.records.types import IMAGENET, Budget, Feed, Mode, Pass

_STRICT_KEYS = ConfigDict(extra="forbid", frozen=True)

_BUDGET = Budget()
#: Of three visits an interval is a third of what it is of two.
_ON_TIME = replace(_BUDGET, precision=None, rounds=10**9, min_rounds=3)
_FIXED = replace(_BUDGET, precision=None, rounds=_BUDGET.min_rounds)


class BudgetKeys(BaseModel):
    """The table ``[budget]``, as ``Budget``; durations and shares may be text.

    What is None depends on whether a run ends on time, see ``Plan.budget``.
    """

    model_config = _STRICT_KEYS

    visit_s: Seconds = _BUDGET.visit_s
    min_samples: Count = _BUDGET.min_samples
    warmup_s: Seconds = _BUDGET.warmup_s
    rounds: Count | None = None
    min_rounds: Count | None = None
    precision: Share | None = None
    timeout_s: Seconds = _BUDGET.timeout_s


class Sweep(BaseModel):
    """A product of cases; ``factors`` and ``flops`` exclude each other; 0 threads are all usable cores.

    ``gaps`` are how long a case idles before each timed forward; none is back to back.
    ``shapes`` are of the models' inputs, see ``profiler.models.shapes``; none leaves every model its own.
    """

    model_config = _STRICT_KEYS

    models: Annotated[tuple[ModelName, ...], *FULL] = ()
    scalings: Annotated[tuple[RuleName, ...], *LIST] = ()
    factors: Annotated[tuple[Factor, ...], *LIST] = ()
    flops: Annotated[tuple[Flops, ...], *LIST] = ()
    backends: Annotated[tuple[BackendSpec, ...], *FULL] = ("eager", "torchscript", "onnxruntime")
    devices: Annotated[tuple[DeviceName, ...], *FULL] = ("cpu",)
    precisions: Annotated[tuple[Precision, ...], *FULL] = ("fp32",)
    threads: Annotated[tuple[Annotated[int, Field(ge=0, le=10_000)], ...], *FULL] = (0,)
    batches: Annotated[tuple[Batch, ...], *FULL] = (1,)
    modes: Annotated[tuple[Mode, ...], *FULL] = ("infer",)
    memory_formats: Annotated[tuple[MemoryFormat, ...], *FULL] = ("contiguous",)
    shapes: Shapes = ()
    input_file: str = ""
    gaps: Annotated[tuple[Gap, ...], *LIST] = ()


class Plan(Sweep):
    """What to measure and how well.

    The keys inherited from ``Sweep`` are defaults for every sweep, or the only sweep where there is
    none.
    """

    name: str = ""
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    time: Seconds | None = None
    memory: bool = False
    epoch: bool = False
    images: Count = IMAGENET
    images_from: str | None = None
    workers: Annotated[int, Field(ge=0, le=10_000)] | None = None
    budget_keys: BudgetKeys = Field(default=BudgetKeys(), alias="budget")
    sweep: tuple[Sweep, ...] = ()

    @property
    def budget(self) -> Budget:
        """The budget as the rest of the program takes it; no case needs more rounds than it may have.

        A run with a ``time`` ends on time. One with a precision goes on until that is reached, for 12 rounds at most.
        One that asks for neither makes a fixed number of rounds.
        """
        given = self.budget_keys.model_dump(exclude_none=True)
        default = _ON_TIME if self.time is not None else _BUDGET if "precision" in given else _FIXED
        keys = asdict(default) | given
        return Budget(**keys | {"min_rounds": min(keys["min_rounds"], keys["rounds"])})

    @property
    def passes(self) -> tuple[Pass, ...]:
        """What is measured beside latency, each in visits of its own. They may be added when a run is resumed."""
        asked: dict[Pass, bool] = {"memory": self.memory, "epoch": self.epoch}
        return tuple(name for name, wanted in asked.items() if wanted)

    @property
    def feed(self) -> Feed:
        """The epoch asked about, and where its images come from."""
        return Feed(self.images, self.images_from, self.workers)

    @property
    def sweeps(self) -> tuple[Sweep, ...]:
        """The sweeps with the plan's defaults filled in."""
        shared = _given(self, Sweep.model_fields)
        # Values are validated already; construct keeps them as they are.
        return tuple(
            Sweep.model_construct(**merged(shared, _given(sweep, Sweep.model_fields)))
            for sweep in self.sweep or (Sweep.model_construct(),)
        )


def _given(keys: BaseModel, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(keys, name) for name in names if name in keys.model_fields_set}


def merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of a sweep over those it inherits; saying factors withdraws inherited flops, and the reverse."""
    withdrawn = {"factors": "flops", "flops": "factors"}
    dropped = {withdrawn[key] for key in own if key in withdrawn}
    return {key: value for key, value in shared.items() if key not in dropped} | dict(own)
