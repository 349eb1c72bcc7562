"""What a test hands to the fixture ``latency_gate``.

    from profiler.testing import onnx, torch_model, zoo

    def test_latency(latency_gate):
        latency_gate(onnx("new.onnx"), baseline=onnx("old.onnx"), max_slowdown=0.05)

    def test_detector(latency_gate):
        latency_gate(onnx("new.onnx"), baseline=onnx("old.onnx"), shape="height=640,width=640")

    def test_model(latency_gate):
        latency_gate(torch_model(Net(), x), baseline="git:origin/main", max_slowdown=0.05)

    def test_budget(latency_gate):
        latency_gate(torch_model(Net(), x), max_latency="12ms", max_p99="30ms")

A string in the grammar of ``profiler.gate.side`` is a model too: ``"package.module:factory @torchscript"``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from profiler import models
from profiler.backends.base import Placement, Precision
from profiler.backends.inputs import Inputs
from profiler.errors import UserError
from profiler.gate.likeness import Kind, allowed_kinds
from profiler.gate.side import EXAMPLES, Side, parse_side, sides
from profiler.models import naming
from profiler.models.examples import of_example, shaped
from profiler.models.loaded import Asked
from profiler.models.shapes import each, parse_shapes
from profiler.models.torch_source import argument_names
from profiler.records.types import Case
from profiler.units import parse_duration, parse_share


@dataclass(frozen=True, slots=True, eq=False)
class Live:
    """A torch module that exists only in the process of the test that built it.

    Attributes:
        module: The module; it is put into evaluation mode and converted to the placement's precision.
        example: What it takes: one tensor, a tuple by position, a dict by keyword, or (tuple, dict).
        backend: Name with optional settings.
        placement: Where it runs.
        revision: Git revision under whose code the test builds it; None for the code as it is now.
        shape: Shapes of its inputs, to which the example is repeated; empty for the example's own.
    """

    module: Any
    example: Any
    backend: str
    placement: Placement
    revision: str | None = None
    shape: str = ""

    @property
    def side(self) -> Side:
        """The same as a side, for reports; no other process can load it by that name."""
        name, batch = type(self.module).__name__, self.inputs.batch
        return Side(Case(name, "", 1.0, self.backend, self.placement, batch, shape=self.shape), self.revision)

    @property
    def inputs(self) -> Inputs:
        """The example as a backend takes it."""
        given = of_example(self.example, argument_names(self.module))
        asked = Asked(type(self.module).__name__, shape=self.shape)
        return shaped(given, parse_shapes(self.shape), asked) if self.shape else given

    def fed(self, shape: str, input_file: str) -> Live:
        """Return the same with inputs of a shape, where it has none of its own."""
        if input_file:
            raise UserError(
                f"input_file={input_file!r}: a torch_model has the values of its example; give those, or name the "
                "model, as 'package.module:factory'"
            )
        return replace(self, shape=self.shape or shape)

    def check(self) -> None:
        """Raise UserError where this is no module with an example of its inputs."""
        import torch

        if not isinstance(self.module, torch.nn.Module):
            raise UserError(f"torch_model got {self.module!r:.80}; expected a torch module, as torch_model(Net(), x)")
        if not self.inputs.arrays:
            raise UserError(
                f"torch_model got the example input {self.example!r:.80}; expected a tensor, a tuple of what it "
                "takes by position, or a dict of what it takes by keyword"
            )


#: What an absolute limit is of: the median, the mean or the 99th percentile of one forward.
Limited = Literal["median", "mean", "p99"]
#: What a test may give: a model by name, or a live one.
Given: TypeAlias = Side | Live


def side_of(given: Given) -> Side:
    """Return a model as a side."""
    return given.side if isinstance(given, Live) else given


def onnx(
    path: str | Path,
    backend: str = "onnxruntime",
    threads: int = 1,
    batch: int = 1,
    device: str = "cpu",
    shape: str = "",
    input_file: str = "",
) -> Side:
    """Name an ONNX file.

    Args:
        path: From the folder in which pytest was started.
        backend: A backend that reads ONNX.
        threads: Intra-op threads on the host.
        batch: Images per forward, where the file leaves it open.
        device: ``cpu``, ``cuda:0``, ...
        shape: Shapes of inputs or values of dimensions, as ``images=1x3x640x640`` or ``height=640,width=640``.
        input_file: ``.npz`` file with the values of inputs, by their names.
    """
    placement = Placement(device, threads=threads)
    case = Case(os.fspath(path), "", 1.0, backend, placement, batch, shape=_shape(shape), input_file=input_file)
    return Side(case)


def zoo(
    name: str,
    scale: str = "",
    factor: float = 1.0,
    backend: str = "eager",
    threads: int = 1,
    batch: int = 1,
    device: str = "cpu",
) -> Side:
    """Name a network that ``profiler models`` lists, scaled by ``factor`` with the rule ``scale`` where one is given.

    The other arguments are those of ``onnx``.
    """
    return Side(Case(name, scale, float(factor), backend, Placement(device, threads=threads), batch))


def torch_model(
    module: Any,  # a torch module; annotating it would import torch
    example_input: Any,
    backend: str = "eager",
    threads: int = 1,
    device: str = "cpu",
    precision: Precision = "fp32",
    shape: str = "",
) -> Live:
    """Hand over a module as it is; the test is run again in fresh processes, and each builds its own.

    Args:
        module: A torch module; what is timed is its evaluation mode.
        example_input: What it takes: one tensor, a tuple by position, a dict by keyword, or (tuple, dict).
        backend: ``eager``, ``torchscript``, ``onnxruntime``, or another that runs torch modules.
        threads: Intra-op threads on the host.
        device: ``cpu``, ``cuda:0``, ...
        precision: What weights and input are converted to.
        shape: Shapes of inputs, as ``input=1x3x320x320``: the example is repeated to fill them.
    """
    return Live(module, example_input, backend, Placement(device, precision, threads), shape=_shape(shape))


def _shape(text: str) -> str:
    """Return a shape as it is written everywhere; raises UserError where it is none, or several."""
    shapes = each([text]) if text else [""]
    if len(shapes) > 1:
        raise UserError(f"shape {text!r} is {len(shapes)} shapes, and a test has one gate: parametrise the test")
    return shapes[0]


@dataclass(frozen=True, slots=True, eq=False)
class GateCall:
    """A call of ``latency_gate``, understood and checked.

    Attributes:
        candidate: The model as it is to become.
        baseline: What it is compared with; None for an absolute budget.
        max_slowdown: The slow-down that must be caught, as a share; None leaves latency ungated.
        max_memory_growth: The growth of peak memory that fails, as a share; None leaves memory ungated.
        max_p99: The growth of the 99th percentile that must be caught, as a share; None leaves the tail ungated.
        budget_s: The absolute limits of one forward by what they limit, in seconds; none for a comparison.
        allowed: In what the sides may differ.
    """

    candidate: Given
    baseline: Given | None
    max_slowdown: float | None
    max_memory_growth: float | None
    max_p99: float | None
    budget_s: Mapping[Limited, float]
    allowed: tuple[Kind, ...]

    @classmethod
    def read(
        cls,
        candidate: str | Given,
        *,
        baseline: str | Given | None = None,
        max_slowdown: float | str | None = 0.05,
        max_memory_growth: float | str | None = None,
        max_latency: str | None = None,
        max_mean: str | None = None,
        max_p99: float | str | None = None,
        allow_different_output: bool = False,
        allow_different_inputs: bool = False,
        shape: str = "",
        input_file: str = "",
    ) -> GateCall:
        """Understand the arguments of the fixture; raises UserError with one sentence where they make no gate."""
        tail: dict[Limited, object] = {} if baseline is not None else {"p99": max_p99}
        limits: dict[Limited, object] = {"median": max_latency, "mean": max_mean, **tail}
        budget = {of: _duration(of, limit) for of, limit in limits.items() if limit is not None}
        if (baseline is None) != bool(budget):
            raise UserError(
                "latency_gate takes either baseline= (a model, or git:REF), or limits of one forward: max_latency=, "
                "max_mean= or max_p99= (as '12ms')"
            )
        inputs = _shape(shape), input_file
        asked = cls(
            candidate=_model(candidate, baseline).fed(*inputs),
            baseline=None if baseline is None else _model(baseline, candidate).fed(*inputs),
            max_slowdown=_share("max_slowdown", max_slowdown),
            max_memory_growth=_share("max_memory_growth", max_memory_growth),
            max_p99=None if baseline is None else _share("max_p99", max_p99),
            budget_s=budget,
            allowed=allowed_kinds(output=allow_different_output, inputs=allow_different_inputs),
        )
        asked._check()
        return asked

    @property
    def sides(self) -> tuple[Given, ...]:
        """The sides there are, the candidate first."""
        return (self.candidate,) if self.baseline is None else (self.candidate, self.baseline)

    @property
    def live(self) -> bool:
        """Whether a side exists only in the process of its test."""
        return any(isinstance(model, Live) for model in self.sides)

    def _check(self) -> None:
        for model in self.sides:
            _check_model(model)
        if len({_placement_of(model) for model in self.sides}) > 1:
            raise UserError(
                "baseline and candidate have different devices, threads or precisions; a gate compares models"
            )
        asked = (self.max_slowdown, self.max_memory_growth, self.max_p99)
        if not self.budget_s and asked == (None, None, None):
            raise UserError(
                "latency_gate has nothing to gate; give max_slowdown=, max_p99= or max_memory_growth=, as 0.05"
            )
        if self.max_memory_growth is not None and (self.live or self.baseline is None):
            raise UserError(
                "max_memory_growth needs a baseline and models that fresh processes can load by name: "
                "onnx(...), zoo(...) or 'package.module:factory'"
            )
        self._check_revisions()

    def _check_revisions(self) -> None:
        """A live module can be had under another revision only by running its own test there."""
        revisions = [model.revision for model in self.sides]
        if not any(revisions):
            return
        if self.baseline is None:
            raise UserError("a budget is for the code as it is; leave out the revision of the candidate")
        pure = all(isinstance(model, Live) for model in self.sides)
        if self.live and not (pure and self.candidate.revision is None):
            raise UserError(
                "a torch_model is compared with baseline='git:REF' (the same test under that revision) or with a model "
                "of the code as it is; with another model under a revision, name both: 'package.module:factory'"
            )


def _model(asked: str | Given, other: str | Given | None) -> Given:
    """Return what a test gave as a model; a string that names only a revision takes the model of the other side."""
    if isinstance(asked, Side | Live):
        return asked
    if not isinstance(asked, str):
        raise UserError(
            f"{asked!r:.80} is no model; expected onnx(...), zoo(...), torch_model(...) or a string: {EXAMPLES}"
        )
    written = parse_side(asked)
    if written.model is None:
        if other is None or (isinstance(other, str) and parse_side(other).model is None):
            raise UserError(f"{asked!r} takes the model of the other side, which names none; {EXAMPLES}")
        return _under(_model(other, None), written.revision, written.backend)
    placement, batch = (
        (Placement(), 1) if other is None or isinstance(other, str) else (_placement_of(other), _batch(other))
    )
    return sides(asked, asked, placement, None, batch)[1]


def _under(model: Given, revision: str | None, backend: str | None) -> Given:
    if isinstance(model, Live):
        return replace(model, backend=backend or model.backend, revision=revision)
    return Side(replace(model.case, backend=backend or model.case.backend), revision)


def _placement_of(model: Given) -> Placement:
    """Return where a model runs."""
    return model.placement if isinstance(model, Live) else model.case.placement


def _batch(model: Given) -> int:
    if isinstance(model, Side):
        return model.case.batch
    model.check()
    return model.inputs.batch


def _check_model(model: Given) -> None:
    if isinstance(model, Live):
        model.check()
        return
    name = model.case.model
    if model.case.factor != 1.0 and not model.case.scaling:
        raise UserError(f"zoo({name!r}, factor={model.case.factor:g}) has no scaling rule; give scale=, as 'dWr'")
    if naming.form(name) == "zoo":
        models.resolve(name, model.case.scaling, model.case.factor)


def _share(name: str, value: float | str | None) -> float | None:
    share = parse_share(value) if isinstance(value, str) else value
    if share is not None and not share > 0:
        raise UserError(f"{name}={value!r}: expected a share above 0, as 0.05 or '5%'")
    return share


def _duration(of: Limited, value: object) -> float:
    name = {"median": "max_latency", "mean": "max_mean", "p99": "max_p99"}[of]
    seconds = parse_duration(value) if isinstance(value, str) and "%" not in value else 0.0
    if not seconds > 0:
        without = "" if of != "p99" else " (a share needs a baseline)"
        raise UserError(f"{name}={value!r}: expected a duration above 0 with its unit, as '12ms'{without}")
    return seconds
