"""Networks of the zoo as a source of models: known before anything is built."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path

from profiler import models
from profiler.backends.base import Model
from profiler.backends.inputs import Inputs
from profiler.errors import UserError
from profiler.models import content
from profiler.models.arch import Arch
from profiler.models.build import WEIGHTS, build
from profiler.models.complexity import complexity
from profiler.models.examples import normal
from profiler.models.loaded import Asked, Loaded
from profiler.models.shapes import parse_shapes


def arch_of(asked: Asked) -> Arch:
    """Return the network that is asked for, at the resolution of its shape where one is given.

    Raises:
        UserError: Model, rule, factor or shape is not valid, or a file of inputs is given.
    """
    if asked.input_file:
        raise UserError(
            f"--input {asked.input_file}: {asked.model} takes the images that its resolution says; leave it out"
        )
    arch = models.resolve(asked.model, asked.scaling, asked.factor, asked.step)
    if not asked.shape:
        return arch
    sides = [shape.sizes for name, shape in parse_shapes(asked.shape).items() if name in ("height", "width")]
    if len(sides) != 2 or sides[0] != sides[1] or len(sides[0]) != 1 or asked.shape.count("=") != 2:
        raise UserError(
            f"shape {asked.shape!r} is none of {asked.model}: networks of the zoo take square images, as "
            "height=160,width=160"
        )
    return replace(arch, resolution=sides[0][0])


def content_of(arch: Arch) -> str:
    """Return the digest of a network: its architecture, and the version of the rule that draws its weights."""
    return content.of_parts(repr(arch), WEIGHTS)


@cache
def code() -> str:
    """Return the digest of the code that builds: what is kept from one session to the next follows it, too."""
    return content.of_files(sorted(Path(__file__).parent.glob("*.py")))


def load_network(asked: Asked) -> Loaded:
    """Return a network of the zoo with one standard normal image for each of the batch."""
    arch = arch_of(asked)
    digest = content_of(arch)
    model = Model(content.of_parts(digest, code(), version("torch")), lambda: build(arch), cache=asked.cache)
    inputs = Inputs((normal((asked.batch, 3, arch.resolution, arch.resolution)),))
    return Loaded(model, inputs, digest, lambda: complexity(arch), arch.resolution)
