"""No damage to a file makes a command end in a traceback: what can be used is used, all else is one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from profiler.analysis import fit
from tests import mutations
from tests.mutations import World, answer, damaged

#: Of each kind; study_mutations tries 500.
_TRIED = 60


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch, mutations.nothing_is_measured():
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr(fit, "_RESAMPLES", 50)
        yield mutations.world(folder)


@pytest.mark.parametrize("kind", mutations.KINDS)
def test_a_good_file_of_each_kind_is_read_by_every_command(kind: str, world: World, tmp_path: Path) -> None:
    for number in range(world.commands_for(kind)):
        got = answer(world.command(kind, number, world.original(kind), tmp_path / str(number)))
        assert got.code in (0, 4), got
        assert not got.wrong(), got


@pytest.mark.parametrize("kind", mutations.KINDS)
def test_damaged_files_are_told_in_a_sentence(kind: str, world: World, tmp_path: Path) -> None:
    for number in range(_TRIED):
        data = damaged(world.original(kind), number)
        got = answer(world.command(kind, number, data, tmp_path / str(number)))
        assert not got.wrong(), (got.wrong(), number, got)
