"""Families of networks that a user writes, and single models that a function makes.

A family is an object, a class or a module with two functions::

    def scale(depth, width, group_width, resolution): ...  # factors, each 1.0 for the base network -> parameters
    def build(parameters): ...                             # -> torch module, or (module, example input)
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from profiler.backends.torch_tree import evaluated
from profiler.errors import UserError
from profiler.models import content, factory
from profiler.models.brought import Brought, Plain
from profiler.models.counting import count
from profiler.models.examples import arranged, image_height
from profiler.models.loaded import Asked, Loaded
from profiler.models.scaling import Factors, factors_of
from profiler.models.shapes import parse_shapes
from profiler.models.torch_source import called, from_module

if TYPE_CHECKING:
    from profiler.models.complexity import Complexity

_EXPECTED = "expected scale(depth, width, group_width, resolution), which returns parameters, and build(parameters)"


class Family(Protocol):
    """What a user writes so that rules can scale networks of their own."""

    def scale(self, depth: float, width: float, group_width: float, resolution: float) -> Any:
        """Return the parameters of a network: a dict, dataclass or named tuple of plain numbers.

        Equal factors give equal parameters; rounding is the family's.

        Args:
            depth: What the number of layers of the base network is multiplied by.
            width: The same of its widths; work grows with the square.
            group_width: The same of the widths of its groups or heads.
            resolution: The same of a side of its input; the number of pixels or tokens grows with the square.
        """

    def build(self, parameters: Any) -> Any:
        """Return what ``scale`` returned parameters for: a torch module, or (module, example of its inputs)."""


def load_own(asked: Asked) -> Loaded:
    """Return the network of a family, or what a function makes; raises UserError with one sentence when it cannot be.

    A shape whose name is a parameter takes its place.
    """
    with factory.users_modules_first():
        made = _instance(factory.named(asked.model), asked.model)
        if why := _unscalable(made):
            if asked.scaling:
                raise UserError(f"model {asked.model!r} cannot be scaled: {why}")
            return factory.made_by(made, asked)
        family = OwnFamily(asked.model, made)
        parameters = family.scaled(asked.scaling, asked.factor)
        given = _given(asked, dict(family.plain(parameters)))
        parameters = _replaced(parameters, given)
        said = repr(family.plain(parameters))
        module, example = family.built(parameters, asked.scaling, asked.factor)
        code = content.of_parts(content.of_code(), said)
        loaded = from_module(module, example, asked, code, tuple(dict(family.plain(parameters))))
    return dataclasses.replace(loaded, family=asked.model)


class NotScalableError(UserError):
    """A model is no family; the message is the reason alone."""


@contextmanager
def open_family(name: str) -> Iterator[OwnFamily]:
    """Import a family for as long as its functions are called.

    Raises:
        NotScalableError: The model is none.
        UserError: It cannot be imported.
    """
    with factory.users_modules_first():
        made = _instance(factory.named(name), name)
        if why := _unscalable(made):
            raise NotScalableError(why)
        yield OwnFamily(name, made)


def _instance(made: Any, name: str) -> Any:
    """Return an object of a class that is a family; whatever else as it is."""
    if not isinstance(made, type) or _unscalable(made):
        return made
    try:
        return made()
    except Exception as error:
        raise UserError(f"model {name!r}: {made.__name__}() fails with {_said(error)}; {_EXPECTED}") from error


def _unscalable(made: Any) -> str:
    """Return why something is no family; empty where it is one."""
    import torch

    module = issubclass(made, torch.nn.Module) if isinstance(made, type) else isinstance(made, torch.nn.Module)
    missing = [name for name in ("scale", "build") if module or not callable(getattr(made, name, None))]
    return f"it has no {' and no '.join(missing)}; {_EXPECTED}" if missing else ""


class OwnFamily:
    """A family whose code is imported here; networks are counted once, on the meta device where they can be.

    Attributes:
        name: As for ``--model``; the family is called the same.
    """

    def __init__(self, name: str, made: Family) -> None:
        self.name = name
        self._made = made
        self._device = "meta"
        self._known: dict[object, tuple[Complexity | None, int | None, str]] = {}

    def at(self, rule: str = "", factor: float = 1.0) -> Brought:
        """Return a network without counts; an empty rule is the base network.

        Raises:
            UserError: The rule or the factor is not valid, or ``scale`` does not return parameters.
        """
        return Brought(self.name, self.name, rule, factor, self.plain(self.scaled(rule, factor)))

    def counted(self, network: Brought) -> Brought:
        """Return a network with counts and resolution, or with why it could not be counted."""
        if network.parameters not in self._known:
            try:
                counts, height, why = *self._counts(network), ""
            except UserError as error:
                counts, height, why = None, None, str(error)
            self._known[network.parameters] = counts, height, why
        counts, height, why = self._known[network.parameters]
        return dataclasses.replace(network, counts=counts, resolution=height, uncounted=why)

    @property
    def refusals(self) -> list[str]:
        """Why networks that were looked at could not be counted."""
        return [why for _, _, why in self._known.values() if why]

    def scaled(self, rule: str, factor: float) -> Any:
        """Return what ``scale`` returns, see ``at``."""
        factors = factors_of(rule, factor) if rule else Factors()
        try:
            return self._made.scale(**factors._asdict())
        except (Exception, SystemExit) as error:
            self._check_call("scale", **factors._asdict())
            given = ", ".join(f"{name}={value:.4g}" for name, value in factors._asdict().items())
            raise UserError(f"model {self.name!r}: scale({given}) fails with {_said(error)}") from error

    def plain(self, parameters: Any) -> tuple[tuple[str, Plain], ...]:
        """Return parameters as names and values; raises UserError where they are none."""
        found = _named_values(parameters)
        if not found:
            raise UserError(
                f"model {self.name!r}: scale returned {parameters!r:.80}; expected parameters as a dict, a dataclass "
                "or a named tuple of plain numbers"
            )
        return tuple((name, self._plain_value(name, value)) for name, value in found.items())

    def built(self, parameters: Any, rule: str = "", factor: float = 1.0) -> tuple[Any, object]:
        """Return the module that ``build`` makes, and its example; raises UserError where it makes none."""
        said = Brought(self.name, self.name, rule, factor, self.plain(parameters)).said
        self._check_call("build", parameters)
        return factory.module_of(called(lambda: self._made.build(parameters), said), said)

    def _check_call(self, function: str, *args: Any, **kwargs: Any) -> None:
        try:
            inspect.signature(getattr(self._made, function)).bind(*args, **kwargs)
        except ValueError:  # it does not tell what it takes
            return
        except TypeError as error:
            raise UserError(f"model {self.name!r}: its {function} cannot be called: {error}; {_EXPECTED}") from error

    def _plain_value(self, name: str, value: Any) -> Plain:
        if isinstance(value, list | tuple):
            return tuple(self._plain_value(name, part) for part in value)
        if value is None or isinstance(value, str | bool):
            return value
        if isinstance(value, numbers.Integral):
            return int(value)
        if isinstance(value, numbers.Real) and math.isfinite(value):
            return float(value)
        raise UserError(
            f"model {self.name!r}: scale returned {name}={value!r:.60}; expected a plain number for each parameter"
        )

    def _counts(self, network: Brought) -> tuple[Complexity, int | None]:
        parameters = self.scaled(network.scaling, network.factor)
        if (again := self.plain(parameters)) != network.parameters:
            raise UserError(
                f"model {self.name!r}: scale returned {dict(network.parameters)!r:.80} and then, for the same factors, "
                f"{dict(again)!r:.80}; expected equal parameters"
            )
        if self._device == "meta":
            try:
                return self._counts_on("meta", parameters, network)
            except UserError:  # it may need the values of tensors, or be wrong: the host tells
                counted = self._counts_on("cpu", parameters, network)
                self._device = "cpu"
                return counted
        return self._counts_on("cpu", parameters, network)

    def _counts_on(self, device: str, parameters: Any, network: Brought) -> tuple[Complexity, int | None]:
        """Build a network on a device and count it there; on the meta device that costs neither memory nor work."""
        import numpy as np
        import torch
        from torch.utils._pytree import tree_leaves, tree_map

        def there(value: Any) -> Any:
            return torch.as_tensor(value).to(device) if isinstance(value, torch.Tensor | np.ndarray) else value

        with torch.device(device):
            module, example = self.built(parameters, network.scaling, network.factor)
            args, kwargs = tree_map(there, arranged(example))
            tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            return count(evaluated(module).to(device), args, kwargs), image_height([tuple(t.shape) for t in tensors])


def _said(error: BaseException) -> str:
    """Return an error in words, with the line of the user's code that failed."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    where = "" if at.filename == __file__ else f" ({at.filename}:{at.lineno})"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{where}"


def _named_values(parameters: Any) -> Mapping[str, Any]:
    if dataclasses.is_dataclass(parameters) and not isinstance(parameters, type):
        return {field.name: getattr(parameters, field.name) for field in dataclasses.fields(parameters)}
    if hasattr(parameters, "_asdict"):
        return dict(parameters._asdict())
    return {str(name): value for name, value in parameters.items()} if isinstance(parameters, Mapping) else {}


def _given(asked: Asked, known: Mapping[str, Plain]) -> dict[str, int]:
    """Return the sizes among the shapes asked for that are parameters."""
    shapes = parse_shapes(asked.shape) if asked.shape else {}
    return {name: shape.sizes[0] for name, shape in shapes.items() if name in known and len(shape.sizes) == 1}


def _replaced(parameters: Any, given: Mapping[str, int]) -> Any:
    if not given:
        return parameters
    if isinstance(parameters, Mapping):
        return {**parameters, **given}
    return parameters._replace(**given) if hasattr(parameters, "_replace") else dataclasses.replace(parameters, **given)
