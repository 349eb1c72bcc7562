"""Runtimes, one module each, behind the contract of ``profiler.backends.base``.

A backend is named by a *spec*: ``eager``, or with options ``fake:duration_ms=2,fault=hang``. The options of a
backend are the fields of its dataclass. Other packages add backends through the entry point group
``profiler.backends``, whose values have the form ``package.module:Class``.
"""

from __future__ import annotations

import pkgutil
from dataclasses import fields, is_dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin, get_type_hints

from profiler.backends.base import BackendError, Bounds

if TYPE_CHECKING:
    from profiler.backends.base import Backend

GROUP = "profiler.backends"

_BUILT_IN = {
    "eager": "profiler.backends.eager:Eager",
    "torchscript": "profiler.backends.torchscript:TorchScript",
    "compile": "profiler.backends.compile:Compile",
    "aoti": "profiler.backends.aoti:Aoti",
    "onnxruntime": "profiler.backends.onnxruntime:OnnxRuntime",
    "openvino": "profiler.backends.openvino:OpenVino",
    "fake": "profiler.backends.fake:Fake",
}

NAMES = tuple(_BUILT_IN)

_BOOLEANS = {"0": False, "1": True, "false": False, "true": True}


class UnknownBackendError(BackendError, ValueError):
    """A spec names a backend, an option or a value that does not exist."""


def available() -> dict[str, str]:
    """Return name -> ``package.module:Class``: the built-in ones in order, then those of entry points."""
    plugins = {point.name: point.value for point in metadata.entry_points(group=GROUP)}
    return _BUILT_IN | {name: plugins[name] for name in sorted(plugins) if name not in _BUILT_IN}


def get(spec: str) -> Backend:
    """Return the backend that ``spec`` names, with its options set.

    Only the backend's own module is imported, never its runtime: whether that is installed is the answer of
    ``unavailable``.

    Raises:
        UnknownBackendError: There is no such backend, option or value; the message lists what there is.
    """
    name, _, text = spec.partition(":")
    kind = _kind(name)
    return cast("Backend", kind(**_options(name, kind, text)))


def _kind(name: str) -> type:
    table = _BUILT_IN if name in _BUILT_IN else available()
    if name not in table:
        raise UnknownBackendError(f"there is no backend {name!r}: choose one of {', '.join(table)}")
    try:
        kind = pkgutil.resolve_name(table[name])
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownBackendError(
            f"backend {name!r} should be at {table[name]!r} but is not ({error}): reinstall its package"
        ) from error
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise UnknownBackendError(f"backend {name!r} at {table[name]!r} is not a dataclass: tell its author")
    return kind


def _options(name: str, kind: type, text: str) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    allowed = {field.name: hints[field.name] for field in fields(kind) if field.init}
    options = {}
    for item in text.split(",") if text else ():
        key, separator, value = item.partition("=")
        if not separator or key not in allowed or key in options:
            raise UnknownBackendError(
                f"backend {name!r} cannot take {item!r}: write {name}:option=value, each option once; "
                f"its options are {', '.join(allowed) or 'none'}"
            )
        options[key] = _convert(f"option {key!r} of backend {name!r}", value, allowed[key])
    return options


def _convert(what: str, text: str, hint: Any) -> object:
    if get_origin(hint) is Literal:
        return _choose(what, text, {str(choice): choice for choice in get_args(hint)})
    if hint is bool:
        return _choose(what, text, _BOOLEANS)
    number = getattr(hint, "__origin__", hint)
    bounds = next((one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Bounds)), None)
    wrong = UnknownBackendError(f"{what} is {text[:60]!r}: expected {number.__name__} {bounds or ''}".rstrip())
    try:
        value: float = number(text)
    except ValueError:
        raise wrong from None
    if bounds is not None and not bounds.least <= value <= bounds.most:  # nan is within no bounds
        raise wrong
    return value


def _choose(what: str, text: str, choices: dict[str, Any]) -> object:
    if text not in choices:
        raise UnknownBackendError(f"{what} is {text[:60]!r}: expected one of {', '.join(choices)}")
    return choices[text]
