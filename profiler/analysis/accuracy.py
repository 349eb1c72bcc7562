"""Accuracies beside what was measured: brought in a table, published, or predicted; all of one recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from profiler.analysis.accuracy_model import AccuracyModel, Trained, fit_accuracy, foretellable
from profiler.analysis.frame import plain
from profiler.errors import UserError
from profiler.models import families
from profiler.models.published import SOURCES, figures, figures_of, spelled
from profiler.models.scaling import parse_rule
from profiler.records.sheets import read_csv

#: The recipe where nothing else tells: one, plain, of most networks of the zoo.
PLAIN_RECIPE = "pycls"
#: What is written beside a table; ``why`` is for rows without an accuracy.
COLUMNS = ("top1", "top1_low", "top1_high", "top1_source", "top1_why")

#: Which network a row is of: its name, canonical rule, factor and step.
_Key: TypeAlias = tuple[str, str, str, str]


class Figure(NamedTuple):
    """An accuracy in percent, under a recipe, and where it is from; ``own`` where the user brought it."""

    top1: float
    recipe: str
    source: str
    own: bool


@dataclass(frozen=True, slots=True)
class Told:
    """A table with accuracies.

    Attributes:
        frame: The table with the columns ``COLUMNS``; those of the other recipes are in none.
        recipe: Of all accuracies.
        source: Of those that are not predicted.
        unmeasured: Networks of the user's table that have an accuracy and no row, with their top-1.
        model: What predicted accuracies are from; None where none was asked for.
    """

    frame: pd.DataFrame
    recipe: str
    source: str
    unmeasured: dict[str, float] = field(default_factory=dict)
    model: AccuracyModel | None = None


def with_accuracy(
    frame: pd.DataFrame, file: Path | None = None, recipe: str | None = None, *, predict: bool = False
) -> Told:
    """Put accuracies beside the rows of a table: of a file, of the table's own column ``top1``, or published.

    Args:
        frame: One row per case.
        file: A table of the user's with the columns model and top1; scaling, factor and recipe where it has them.
        recipe: Which to take; None takes that of most networks, of the user's figures where there are some.
        predict: Whether networks without one get a predicted accuracy.

    Raises:
        UserError: A table cannot be used, or no network has an accuracy under the recipe.
    """
    keys = _keys(frame)
    brought = _brought(file) if file else {}
    known = [_known(frame, row, key, brought) for row, key in enumerate(keys)]
    chosen = _chosen(known, recipe, file, predict=predict)
    taken = [next((one for one in each if one.recipe == chosen), None) for each in known]
    model = fit_accuracy(chosen, _trained(frame, taken, chosen)) if predict else None
    rows = [_row(frame, row, one, known[row], chosen, model) for row, one in enumerate(taken)]
    made = frame.drop(columns=[name for name in COLUMNS if name in frame]).reset_index(drop=True)
    there = {*keys}
    unmeasured = {_said(key): one.top1 for key, each in brought.items() if key not in there for one in each}
    sources = Counter(one.source for one in taken if one)
    source = sources.most_common(1)[0][0] if sources else ""
    return Told(made.join(pd.DataFrame(rows, columns=list(COLUMNS))), chosen, source, unmeasured, model)


def _keys(frame: pd.DataFrame) -> list[_Key]:
    columns = [frame[c] if c in frame else [""] * len(frame) for c in ("scaling", "factor", "step")]
    return [_key(*map(plain, cells)) for cells in zip(frame["model"], *columns, strict=True)]


def _key(model: str, scaling: str, factor: str, step: str) -> _Key:
    """The same for every spelling of a network; what is scaled by 1 is not scaled.

    Raises:
        UserError: The rule is none.
    """
    by = f"{float(factor):.4g}" if factor else "1"
    if not scaling or (by == "1" and not step):
        return spelled(model), "", "", ""
    return spelled(model), parse_rule(scaling).canonical, by, step


def _said(key: _Key) -> str:
    return " ".join(filter(None, (key[0], key[1], f"x{key[2]}" if key[2] else "", key[3])))


def _brought(file: Path) -> dict[_Key, list[Figure]]:
    """Read a user's table; its recipe where it tells none is the name of the file.

    Raises:
        UserError: It cannot be read, lacks a column, or holds two accuracies of one network and recipe.
    """
    table = read_csv(file)
    missing = [name for name in ("model", "top1") if name not in table]
    if missing:
        raise UserError(
            f"{file} lacks {', '.join(missing)}; a table of accuracies has the columns model and top1 (in percent), and "
            "may have scaling, factor and recipe"
        )
    recipes = [plain(v) or file.stem for v in table["recipe"]] if "recipe" in table else [file.stem] * len(table)
    found: dict[_Key, list[Figure]] = {}
    for row, (key, recipe) in enumerate(zip(_keys(table), recipes, strict=True)):
        if not plain(table["top1"].iloc[row]):
            continue
        figure = Figure(
            _percent(table["top1"].iloc[row], f"{file}: row {row + 1} ({key[0]})"), recipe, file.name, own=True
        )
        others = [one for one in found.setdefault(key, []) if one.recipe == recipe]
        if any(one.top1 != figure.top1 for one in others):
            raise UserError(
                f"{file}: {_said(key)} has top1 {others[0].top1:g} and {figure.top1:g} under {recipe}: give one figure per "
                "network and recipe, such as the mean of its runs"
            )
        found[key] += [] if others else [figure]
    return found


def _percent(cell: object, where: str) -> float:
    try:
        value = float(str(cell))
    except ValueError:
        value = np.nan
    if not 1 < value <= 100:
        raise UserError(f"{where}: top1 is {plain(cell)!r}; expected percent, such as 76.8")
    return value


def _known(frame: pd.DataFrame, row: int, key: _Key, brought: dict[_Key, list[Figure]]) -> list[Figure]:
    """All figures of a row's network, the user's first."""
    side = plain(frame["resolution"].iloc[row]) if "resolution" in frame else ""
    shape = plain(frame["shape"].iloc[row]) if "shape" in frame else ""
    published = [] if key[1] else figures_of(key[0], int(float(side)) if side else None if not shape else 0)
    theirs = [Figure(one.top1, one.recipe, SOURCES[one.source], own=False) for one in published]
    return [*brought.get(key, ()), *_in_table(frame, row, key), *theirs]


def _in_table(frame: pd.DataFrame, row: int, key: _Key) -> list[Figure]:
    """The figure that the table itself has: of one that this program wrote a published one."""
    cell = plain(frame["top1"].iloc[row]) if "top1" in frame else ""
    if not cell:
        return []
    text = plain(frame["top1_source"].iloc[row]) if "top1_source" in frame else ""
    recipe, _, source = text.removesuffix(")").partition(" (")
    recipe = recipe or (plain(frame["recipe"].iloc[row]) if "recipe" in frame else "") or "the table's"
    published = any(one.recipe == recipe for one in figures_of(key[0]))
    top1 = _percent(cell, f"row {row + 1} ({key[0]})")
    return [] if published else [Figure(top1, recipe, source or "the table", own=True)]


def _chosen(known: Sequence[Sequence[Figure]], asked: str | None, file: Path | None, *, predict: bool) -> str:
    """The recipe to take.

    Raises:
        UserError: None has a network, or several are asked for.
    """
    counts = Counter(dict.fromkeys((one.recipe for each in known for one in each), 0))
    counts.update(recipe for each in known for recipe in {one.recipe for one in each})
    own = {one.recipe for each in known for one in each if one.own}
    if asked is None:
        if file and not own:
            raise UserError(f"no network of {file} was measured: its models must be named as the run names them")
        ranked = [recipe for recipe, _ in counts.most_common() if not own or recipe in own]
        if not ranked and not predict:
            raise UserError(
                "no network here has a known accuracy: bring them with --accuracy FILE (columns model and top1), or ask "
                "for --predict-accuracy"
            )
        return ranked[0] if ranked else PLAIN_RECIPE
    names = {recipe.lower(): recipe for recipe in (*counts, *(one.recipe for one in figures()))}
    if asked.lower() in names and (counts[names[asked.lower()]] or predict):
        return names[asked.lower()]
    if len([part for part in asked.lower().split(",") if part.strip() in names]) > 1:
        raise UserError(
            f"--recipe {asked}: accuracies of unlike recipes lie 2 to 5 points apart for one network, so that they share "
            "no front; name one"
        )
    here = ", ".join(f"{recipe} ({number})" for recipe, number in counts.most_common()) or "none"
    raise UserError(f"no network here has an accuracy under --recipe {asked}; recipes, and of how many rows: {here}")


def _trained(frame: pd.DataFrame, taken: Sequence[Figure | None], recipe: str) -> list[Trained]:
    """The networks of a recipe: those of the user's that the table counts, then the published, each at one resolution."""
    own = [
        Trained(
            _family(frame, row), _number(frame, row, "flops"), int(_number(frame, row, "resolution") or 0), one.top1
        )
        for row, one in enumerate(taken)
        if one and one.own and _number(frame, row, "flops") > 0
    ]
    first = {one.model: one for one in reversed(figures()) if one.recipe == recipe}
    published = [one for one in figures() if first.get(one.model) is one]
    return [*own, *(Trained(one.family, one.flops, one.resolution, one.top1) for one in published)]


def _family(frame: pd.DataFrame, row: int) -> str:
    arch = families.lookup(plain(frame["model"].iloc[row]))
    return arch.family if arch else plain(frame["family"].iloc[row]) if "family" in frame else ""


def _number(frame: pd.DataFrame, row: int, column: str) -> float:
    text = plain(frame[column].iloc[row]) if column in frame else ""
    return float(frame[column].iloc[row]) if text else 0.0


def _row(
    frame: pd.DataFrame, row: int, one: Figure | None, known: Iterable[Figure], recipe: str, model: AccuracyModel | None
) -> tuple[object, ...]:
    """The cells of ``COLUMNS``."""
    if one:
        return one.top1, np.nan, np.nan, f"{one.recipe} ({one.source})", ""
    others = sorted({each.recipe for each in known})
    why = f"none under {recipe}, one under {', '.join(others)}" if others else f"none under {recipe}"
    if model is None:
        scaled = not others and "scaling" in frame and plain(frame["scaling"].iloc[row])
        hint = ", as of all scaled networks (--predict-accuracy foretells some)" if scaled else ""
        return np.nan, np.nan, np.nan, "", why + hint
    why = _unpredictable(frame, row)
    said = None if why else model.foretell(_family(frame, row), _number(frame, row, "flops"))
    if said is None:
        return np.nan, np.nan, np.nan, "", why or f"none of its family is known under {recipe}"
    source = f"{recipe} (predicted from {len(model.trained)} networks{'; ' if said.beyond else ''}{said.beyond})"
    return said.top1, *said.interval, source, ""


def _unpredictable(frame: pd.DataFrame, row: int) -> str:
    cell: Callable[[str], str] = lambda column: plain(frame[column].iloc[row]) if column in frame else ""
    arch = families.lookup(cell("model"))
    if arch is None:
        return "accuracy is foretold of networks of the zoo; bring it with --accuracy"
    if not _number(frame, row, "flops"):
        return "its flops are not known"
    side = _number(frame, row, "resolution")
    if cell("shape") or (not cell("scaling") and side and side != arch.resolution):
        return "at another resolution than its own"
    return foretellable(cell("scaling") if cell("factor") != "1" else "")
