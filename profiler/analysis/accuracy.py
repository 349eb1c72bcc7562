"""Accuracies beside what was measured: brought in a table, published, or predicted; all of one recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from profiler.analysis.accuracy_model import AccuracyModel, Foretold, Trained, fit_accuracy, foretellable
from profiler.analysis.frame import plain
from profiler.errors import UserError
from profiler.models import families
from profiler.models.arch import Arch
from profiler.models.brought import Network
from profiler.models.complexity import complexity
from profiler.models.published import SOURCES, figures_of, published, spelled
from profiler.models.scaling import parse_rule
from profiler.records.sheets import read_csv

#: The recipe where nothing else tells: one, plain, of most networks of the zoo.
PLAIN_RECIPE = "pycls"
#: What is written beside a table; ``why`` is for rows without an accuracy.
COLUMNS = ("top1", "top1_low", "top1_high", "top1_source", "top1_why")

#: Which network a row is of: its name, canonical rule, factor and step.
_Key: TypeAlias = tuple[str, str, str, str]
_Cells: TypeAlias = tuple[float, float, float, str, str]


class Figure(NamedTuple):
    """An accuracy in percent, under a recipe, and where it is from; ``own`` where the user brought it."""

    top1: float
    recipe: str
    source: str
    own: bool


@dataclass(frozen=True, slots=True)
class Accuracies:
    """A table with accuracies.

    Attributes:
        frame: The table with the columns ``COLUMNS``.
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
) -> Accuracies:
    """Put accuracies beside the rows of a table: of a file, of the table's own column ``top1``, or published.

    Args:
        frame: One row per case.
        file: A table of the user's with the columns model and top1; scaling, factor and recipe where it has them.
        recipe: Which to take; None takes that of most rows, of the user's figures where there are some.
        predict: Whether networks without one get a predicted accuracy.

    Raises:
        UserError: A table cannot be used, or no network has an accuracy under the recipe.
    """
    rows = _rows(frame)
    brought = _brought(file) if file else {}
    known = [[*brought.get(row.key, ()), *_known(row)] for row in rows]
    if file and not brought.keys() & {row.key for row in rows}:
        raise UserError(f"no network of {file} was measured: its models must be named as the run names them")
    chosen = _checked(known, recipe, predict=predict) if recipe else _common(known, predict=predict)
    taken = [next((one for one in each if one.recipe == chosen), None) for each in known]
    model = fit_accuracy(chosen, _trained(rows, taken, chosen)) if predict else None
    cells = [
        _cells(one) if one else _foretold(row, model) if model else _without(row, each, chosen)
        for row, one, each in zip(rows, taken, known, strict=True)
    ]
    made = frame.drop(columns=[name for name in COLUMNS if name in frame]).reset_index(drop=True)
    there = {row.key for row in rows}
    unmeasured = {_said(key): one.top1 for key, each in brought.items() if key not in there for one in each}
    sources = Counter(one.source for one in taken if one)
    source = sources.most_common(1)[0][0] if sources else ""
    return Accuracies(made.join(pd.DataFrame(cells, columns=list(COLUMNS))), chosen, source, unmeasured, model)


@dataclass(frozen=True)
class _Row:
    """The cells of a row that tell which network it is of, as text; empty where the table has none."""

    model: str
    scaling: str = ""
    factor: str = ""
    step: str = ""
    shape: str = ""
    resolution: str = ""
    family: str = ""
    flops: str = ""
    top1: str = ""
    top1_source: str = ""
    recipe: str = ""

    @cached_property
    def key(self) -> _Key:
        """The same for every spelling of a network; what is scaled by 1 is not scaled."""
        by = f"{float(self.factor):.4g}" if self.factor else "1"
        if not self.scaling or (by == "1" and not self.step):
            return spelled(self.model), "", "", ""
        return spelled(self.model), parse_rule(self.scaling).canonical, by, self.step

    @property
    def side(self) -> int | None:
        """Side of its images in pixels; 0 where they are of another shape, None where nothing tells."""
        return int(float(self.resolution)) if self.resolution else 0 if self.shape else None

    @property
    def family_name(self) -> str:
        """Of the zoo, or as the table says."""
        arch = families.lookup(self.key[0])
        return arch.family if arch else self.family


def _rows(frame: pd.DataFrame) -> list[_Row]:
    names = [name for name in _Row.__dataclass_fields__ if name in frame]
    columns = [[plain(value) for value in frame[name]] for name in names]
    return [_Row(**dict(zip(names, cells, strict=True))) for cells in zip(*columns, strict=True)]


def _said(key: _Key) -> str:
    return " ".join(filter(None, (key[0], key[1], f"x{key[2]}" if key[2] else "", key[3])))


def _brought(file: Path) -> dict[_Key, list[Figure]]:
    """Read a user's table; the recipe where it tells none is the name of the file.

    Raises:
        UserError: It cannot be read, lacks a column, holds no accuracy, or two of one network and recipe.
    """
    table = read_csv(file)
    missing = [name for name in ("model", "top1") if name not in table]
    if missing:
        raise UserError(
            f"{file} lacks {', '.join(missing)}; a table of accuracies has the columns model and top1 (in percent), "
            "and may have scaling, factor and recipe"
        )
    found: dict[_Key, list[Figure]] = {}
    for number, row in enumerate(_rows(table), start=1):
        if not row.top1:
            continue
        where = f"{file}: row {number} ({row.model})"
        if bool(row.scaling) != bool(row.factor) and row.factor != "1":
            raise UserError(f"{where}: scaling {row.scaling!r} and factor {row.factor!r}: give both, or neither")
        top1 = _percent(row.top1, where)
        figure = Figure(top1, row.recipe or file.stem, file.name, own=True)
        others = [one for one in found.setdefault(row.key, []) if one.recipe == figure.recipe]
        if any(one.top1 != top1 for one in others):
            raise UserError(
                f"{file}: {_said(row.key)} has top1 {others[0].top1:g} and {top1:g} under {figure.recipe}: give one "
                "figure per network and recipe, such as the mean of its runs"
            )
        found[row.key] += [] if others else [figure]
    if not found:
        raise UserError(f"none of the {len(table)} rows of {file} has a top1: expected percent, such as 76.8")
    return found


def _percent(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not 1 < value <= 100:
        raise UserError(f"{where}: top1 is {cell!r}; expected percent, such as 76.8")
    return value


def _known(row: _Row) -> list[Figure]:
    """All figures of a row's network: the table's own unless this program wrote it there, then published ones."""
    found = [] if row.key[1] else figures_of(row.key[0], row.side)
    theirs = [Figure(one.top1, one.recipe, SOURCES[one.source], own=False) for one in found]
    recipe, _, source = row.top1_source.removesuffix(")").partition(" (")
    if not row.top1 or any(one.recipe == recipe for one in found):
        return theirs
    top1 = _percent(row.top1, row.model)
    return [Figure(top1, recipe or row.recipe or "the table's", source or "the table", own=True), *theirs]


def _common(known: Sequence[Sequence[Figure]], *, predict: bool) -> str:
    """The recipe of most rows, among the user's where there are some; of two the one that comes first.

    Raises:
        UserError: There is none.
    """
    counts = _counted([one for one in each if one.own] for each in known) or _counted(known)
    if not counts and not predict:
        raise UserError(
            "no network here has a known accuracy: bring them with --accuracy FILE (columns model and top1), or ask "
            "for --predict-accuracy"
        )
    return counts.most_common(1)[0][0] if counts else PLAIN_RECIPE


def _counted(known: Iterable[Sequence[Figure]]) -> Counter[str]:
    """Of how many rows each recipe is; a network may have figures of several sizes by one."""
    return Counter(recipe for each in known for recipe in dict.fromkeys(one.recipe for one in each))


def _checked(known: Sequence[Sequence[Figure]], asked: str, *, predict: bool) -> str:
    """The recipe that is asked for, as it is spelled.

    Raises:
        UserError: None of the rows has it, or several are asked for.
    """
    counts = _counted(known)
    names = {recipe.lower(): recipe for recipe in (*(one.recipe for one in published()), *counts)}
    found = names.get(asked.lower())
    if found and (counts[found] or predict):
        return found
    if sum(part.strip() in names for part in asked.lower().split(",")) > 1:
        raise UserError(
            f"--recipe {asked}: accuracies of unlike recipes lie 2 to 5 points apart for one network, so that they "
            "share no front; name one"
        )
    here = ", ".join(f"{recipe} ({number})" for recipe, number in counts.most_common()) or "none"
    raise UserError(f"no network here has an accuracy under --recipe {asked}; recipes, and of how many rows: {here}")


def _trained(rows: Sequence[_Row], taken: Sequence[Figure | None], recipe: str) -> list[Trained]:
    """The networks of a recipe: the user's that the table counts, then the published, each at one resolution."""
    own = [
        Trained(row.family_name, float(row.flops), row.side or 0, one.top1)
        for row, one in zip(rows, taken, strict=True)
        if one and one.own and row.flops and float(row.flops) > 0
    ]
    return [*own, *published_of(recipe)]


def published_of(recipe: str) -> list[Trained]:
    """The networks of a recipe as one source publishes them, each at the resolution that comes first."""
    found = [one for one in published() if one.recipe == recipe]
    first = {one.model: one for one in reversed(found) if one.source == found[0].source}
    kept = [one for one in found if first.get(one.model) is one]
    return [Trained(one.family, one.flops, one.resolution, one.top1) for one in kept]


def _cells(one: Figure) -> _Cells:
    return one.top1, np.nan, np.nan, f"{one.recipe} ({one.source})", ""


def _without(row: _Row, known: Iterable[Figure], recipe: str) -> _Cells:
    others = ", ".join(sorted({each.recipe for each in known}))
    why = f"none under {recipe}" + (f", one under {others}" if others else "")
    if row.key[1] and not others:
        why += ", as of all scaled networks (--predict-accuracy foretells some)"
    return np.nan, np.nan, np.nan, "", why


def _foretold(row: _Row, model: AccuracyModel) -> _Cells:
    why = _unpredictable(row)
    said = None if why else model.foretell(row.family_name, float(row.flops))
    if said is None:
        return np.nan, np.nan, np.nan, "", why or f"none of its family is known under {model.recipe}"
    beyond = f"; {said.beyond}" if said.beyond else ""
    source = f"{model.recipe} (predicted from {len(model.trained)} networks{beyond})"
    return said.top1, *said.interval, source, ""


def _unpredictable(row: _Row) -> str:
    """Why a network's accuracy is not foretold; empty where it is."""
    arch = families.lookup(row.key[0])
    if arch is None:
        return "accuracy is foretold of networks of the zoo; bring it with --accuracy"
    if not row.flops:
        return "its flops are not known"
    if row.shape or (not row.key[1] and row.side not in (None, arch.resolution)):
        return "at another resolution than its own"
    return foretellable(row.scaling if row.key[1] else "")


def published_model(recipe: str) -> AccuracyModel:
    """Return what published accuracies of a recipe foretell.

    Raises:
        UserError: There are too few, or none.
    """
    names = {one.recipe.lower(): one.recipe for one in published()}
    found = names.get(recipe.lower(), recipe)
    return fit_accuracy(found, published_of(found))


def foretold_of(network: Network, model: AccuracyModel) -> Foretold | None:
    """Return the predicted accuracy of a network of the zoo; None where it is not foretold, as of any other."""
    if not isinstance(network, Arch) or foretellable(network.scaling):
        return None
    return model.foretell(network.family, complexity(network).flops)
