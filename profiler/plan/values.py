"""The types of a plan's values, each with what it accepts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from profiler import backends, models, units
from profiler.backends.base import BackendError
from profiler.errors import UserError
from profiler.models import naming, shapes

#: More of anything than can be had; in s, 30 years.
_MOST = 10**9
_DEVICE = re.compile(r"cpu|mps|(cuda|xpu)(:\d+)?")
#: Machines of a fleet, as their workers are labelled.
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


def _some(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("the list is empty; expected at least one value")
    return values


def closest(name: str, known: Iterable[str], number: int = 3) -> str:
    """Return up to ``number`` of the ``known`` names that are like ``name``, as the end of a sentence, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=number, cutoff=0.5)
    return f"; closest: {', '.join(near)}" if near else ""


def _model(name: str) -> str:
    try:
        return models.get(name).name if naming.form(name) == "zoo" else name
    except UserError as error:
        raise ValueError(str(error)) from error


def _rule(text: str) -> str:
    try:
        return models.parse_rule(text).text
    except UserError as error:
        raise ValueError(str(error)) from error


def _backend(spec: str) -> str:
    try:
        backends.get(spec)
    except BackendError as error:
        name, known = spec.partition(":")[0], backends.available()
        raise ValueError(f"{error}{'' if name in known else closest(name, known)}") from error
    return spec


def check_label(name: str) -> str:
    """Return the label of machines of a fleet; raises ValueError for what is none."""
    if _LABEL.fullmatch(name) and not _DEVICE.fullmatch(name):
        return name
    raise ValueError(
        f"{name[:64]!r} is no label of machines; expected letters, digits and _ . - that name no device, such as h100"
    )


def _device(name: str, info: ValidationInfo) -> str:
    labels = isinstance(info.context, Mapping) and info.context.get("place") == "fleet"
    return check_label(name) if labels else check_device_name(name)


def check_device_name(name: str) -> str:
    """Return the name of a device; raises ValueError for what is none."""
    if _DEVICE.fullmatch(name):
        return name
    raise ValueError(f"unknown device {name!r}; expected cpu, cuda, cuda:N, xpu, xpu:N or mps")


def _batch(value: object, check: ValidatorFunctionWrapHandler) -> int:
    return 0 if value == "max" else int(check(value))


def _parsed(parse: Callable[[str], float]) -> BeforeValidator:
    """Text goes through ``parse``; numbers are already in the unit."""

    def read(value: object) -> object:
        try:
            return parse(value) if isinstance(value, str) else value
        except UserError as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(read)


def _below_one(share: float) -> float:
    if 0 < share < 1:
        return share
    meant = f"; for {share:g}% write {share:g}%" if 1 <= share < 100 else ""
    raise ValueError(f"{share:g} is {share:.0%}; expected a share above 0 and below 100%{meant}")


def _shapes(value: object) -> list[str]:
    listed = _listed(value)
    texts = [text for text in listed if isinstance(text, str)] if isinstance(listed, list | tuple) else []
    if len(texts) != len(listed if isinstance(listed, list | tuple) else ()):
        raise ValueError(f"expected texts such as 'height=320,width=320', got {value!r}")
    try:
        return shapes.each(texts)
    except UserError as error:
        raise ValueError(str(error)) from error


#: Nobody idles longer between two calls, in seconds.
LONGEST_GAP = 60.0
LIST = (BeforeValidator(_listed), AfterValidator(_distinct))
FULL = (*LIST, AfterValidator(_some))
ModelName = Annotated[str, AfterValidator(_model)]
RuleName = Annotated[str, AfterValidator(_rule)]
BackendSpec = Annotated[str, AfterValidator(_backend)]
DeviceName = Annotated[str, AfterValidator(_device)]
#: Shapes of inputs, each a case of its own.
Shapes = Annotated[tuple[str, ...], BeforeValidator(_shapes)]
Factor = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Flops = Annotated[int, Field(gt=0), _parsed(units.parse_flops)]
Seconds = Annotated[float, Field(gt=0, le=_MOST, allow_inf_nan=False), _parsed(units.parse_duration)]
Gap = Annotated[float, Field(ge=0, le=LONGEST_GAP, allow_inf_nan=False), _parsed(units.parse_duration)]
Share = Annotated[float, AfterValidator(_below_one), _parsed(units.parse_share)]
Count = Annotated[int, Field(ge=1, le=_MOST)]
#: Images per forward; ``max``, the largest batch that fits, is 0.
Batch = Annotated[int, Field(ge=1, le=_MOST), WrapValidator(_batch), PlainSerializer(lambda batch: batch or "max")]
