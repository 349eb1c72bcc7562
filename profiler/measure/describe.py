"""What is known of a model before it is measured: its content, its inputs and its counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from profiler import backends
from profiler.backends.base import Backend
from profiler.backends.inputs import shape_text
from profiler.errors import UserError
from profiler.measure import training
from profiler.models import content, naming, zoo
from profiler.models.complexity import Complexity, complexity
from profiler.models.counting import KeepsError
from profiler.models.loaded import Loaded
from profiler.models.source import load_model
from profiler.records.types import Case


@dataclass(frozen=True, slots=True)
class Description:
    """A model, in words and numbers.

    Attributes:
        content: Digest of code, weights and the values of its example.
        complexity: Counts for one example; None where they cannot be had.
        uncounted: Why they cannot; empty where they can.
        resolution: Height of the input in pixels; None where the input is no image.
        inputs: Names, types and shapes of the inputs, by batch.
        refused: Why a batch cannot be had, by batch.
        family: The user's family that it is scaled in; empty for others.
        files: Paths of what it is read from beside the file in its name: modules of the user's and external data.
    """

    content: str
    complexity: Complexity | None = None
    uncounted: str = ""
    resolution: int | None = None
    inputs: Mapping[int, str] = field(default_factory=dict)
    refused: Mapping[int, str] = field(default_factory=dict)
    family: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DescribeTask:
    """Describe the model of a case for each of ``batches``."""

    case: Case
    batches: tuple[int, ...]
    cache: Path | None = None


def of_zoo(task: DescribeTask) -> Description:
    """Describe a network of the zoo: nothing is built. Raises UserError where there is no such network."""
    arch = zoo.arch_of(task.case.asked())
    side = arch.resolution
    inputs = {batch: f"input float32 {shape_text((batch, 3, side, side))}" for batch in task.batches}
    return Description(zoo.content_of(arch), complexity(arch), resolution=side, inputs=inputs)


def describe(task: DescribeTask) -> Description:
    """Load the model of a case and describe it; to be called in a fresh process.

    Raises:
        UserError: It cannot be had.
    """
    inputs, refused = {}, {}
    one = load_model(task.case.asked(task.cache, 1))
    for batch in task.batches:
        try:
            inputs[batch] = (one if batch == 1 else load_model(task.case.asked(task.cache, batch))).said
        except UserError as error:
            refused[batch] = str(error)
    found, why = counts_or_why(one)
    files = tuple(str(path.absolute()) for path in (*one.files, *content.own_files()))
    return Description(one.content, found, why, one.resolution, inputs, refused, one.family, files)


def counts_or_why(model: Loaded) -> tuple[Complexity | None, str]:
    """Return the counts of a model and "", or None and why it has none: it can be measured all the same.

    Raises:
        KeepsError: It cannot, since it looks up what it has computed.
    """
    try:
        return model.count(), ""
    except KeepsError:
        raise
    except UserError as error:
        return None, str(error)


def unserved(cases: Iterable[Case]) -> list[str]:
    """Return why backends cannot do here what cases ask, each reason once; to be called in a fresh process."""
    reasons: dict[str, None] = {}
    for case in cases:
        backend, place = backends.get(case.backend), case.placement
        reason = backend.unavailable(place) or _unloadable(backend, case)
        if reason is None and case.mode == "train":
            trainer = training.trainer(backend, place)
            reason = trainer if isinstance(trainer, str) else None
        if reason is not None:
            reasons[f"{case.backend} on {place.device} in {place.precision}: {reason}"] = None
    return list(reasons)


def _unloadable(backend: Backend, case: Case) -> str | None:
    if naming.form(case.model) == "onnx" and not getattr(backend, "reads_onnx", True):
        return f"{backend.name} cannot load {case.model}: it runs torch modules, use onnxruntime for ONNX files"
    return None
