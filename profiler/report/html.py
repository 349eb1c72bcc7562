"""Templates to HTML. What is put into one never becomes markup unless the template calls it safe."""

from __future__ import annotations

import functools
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from profiler.report.colours import dark_rules

_FOLDER = Path(__file__).parent / "templates"


def filled(template: str, **values: object) -> str:
    """Return the template of that name, filled with values."""
    return _environment().get_template(template).render(values)


def _asset(name: str) -> str:
    """Return the text of a file beside the templates: a style or a script, to stand inside of a page."""
    return (_FOLDER / name).read_text(encoding="utf-8")


@functools.cache
def _environment() -> Environment:
    loader = FileSystemLoader(_FOLDER)
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.globals |= {"asset": _asset, "dark_rules": dark_rules}
    # JSON has no NaN, and a page that holds one has no charts.
    made.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return made
