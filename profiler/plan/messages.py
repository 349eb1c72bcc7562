"""What is wrong with a plan, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from profiler.plan.values import closest
from profiler.records.outside import shown

#: What was expected where pydantic finds one of these.
_EXPECTED = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "more than {gt:.15g}",
    "greater_than_equal": "{ge:.15g} or more",
    "less_than": "less than {lt:.15g}",
    "less_than_equal": "{le:.15g} at most",
}
_KnownKeys = Callable[[Sequence[int | str]], list[str]]


def sentences(error: ValidationError, place: Callable[[str], str], known: _KnownKeys) -> list[str]:
    """Return one line for each wrong key, in the order of the file.

    Args:
        error: What pydantic found.
        place: Says where a key such as ``sweep[0].models[1]`` stands.
        known: Returns the keys that may stand at a location.
    """
    found: dict[tuple[int | str, ...], ErrorDetails] = {}
    for each in error.errors():
        # One of several types that a value may have is named by what has brackets; the first says most.
        loc = tuple(part for part in each["loc"] if isinstance(part, int) or not part.endswith("]"))
        found.setdefault(loc, each)
    return list(dict.fromkeys(f"{place(_key(loc))}: {_problem(each, known)}" for loc, each in found.items()))


def _key(loc: Sequence[int | str]) -> str:
    """A place as TOML would say it: ``sweep[0].models[1]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def _problem(error: ErrorDetails, known: _KnownKeys) -> str:
    kind, got, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        keys = known(error["loc"])
        return f"unknown key{closest(str(error['loc'][-1]), keys, 1)}; expected one of {', '.join(keys)}"
    if kind == "literal_error":
        return f"{shown(got)} is not known; expected {context['expected']}"
    wanted = _EXPECTED.get(kind, "").format(**context)
    said = f"expected {wanted}" if wanted else f"{error['msg'][:1].lower()}{error['msg'][1:]}"
    return f"{shown(got)} is wrong; {said}"
