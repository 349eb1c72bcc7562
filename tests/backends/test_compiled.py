"""Backends that keep compiled or exported forms: found again, told apart, rebuilt when torn."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from profiler import backends
from profiler.backends import stages
from profiler.backends.base import Model
from profiler.measure import timing
from tests.backends.samples import CACHING, PLACE, answer, fed, images, loaded, only, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", CACHING)
def test_the_second_load_comes_from_the_cache_without_building(name, tmp_path):
    first = answer(name, images(), cache=tmp_path)

    def never() -> nn.Module:
        raise AssertionError("built although cached")

    # torch.compile keeps the code that it made, and has the module run it.
    module = tiny if name == "compile" else never
    with backends.get(name).load(Model("tiny", module, cache=tmp_path), fed(images()), PLACE) as session:
        session.run()
        assert session.facts()["cached"] is True
        np.testing.assert_array_equal(only(session), first)


@pytest.mark.parametrize("name", CACHING)
def test_another_shape_or_model_is_another_entry(name, tmp_path):
    backend = backends.get(name)
    for batch, key in ((1, "tiny"), (2, "tiny"), (1, "other")):
        with backend.load(Model(key, tiny, cache=tmp_path), fed(images(batch)), PLACE) as session:
            assert session.facts()["cached"] is False
    with backend.load(Model(None, tiny, cache=tmp_path), fed(images()), PLACE) as session:
        assert "no key" in session.facts()["cache_note"]
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("name", CACHING)
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_a_corrupt_cache_is_rebuilt(name, damage, tmp_path):
    expected = answer(name, images(), cache=tmp_path)
    largest = max(tmp_path.rglob("*.*"), key=lambda path: path.stat().st_size if path.is_file() else -1)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"flip": bytes(content), "cut": bytes(content[: len(content) // 2]), "empty": b""}
    largest.unlink() if damage == "gone" else largest.write_bytes(damaged[damage])
    for cached in (False, True):
        with loaded(name, images(), cache=tmp_path) as session:
            session.run()
            assert session.facts()["cached"] is cached
            np.testing.assert_array_equal(only(session), expected)


@pytest.mark.parametrize("name", CACHING)
def test_a_cache_that_cannot_be_written_is_a_fact_and_not_an_error(name, tmp_path):
    (tmp_path / "file").touch()
    with loaded(name, images(), cache=tmp_path / "file" / "cache") as session:
        session.run()
        assert session.facts()["cached"] is False
        assert "nothing kept" in session.facts()["cache_note"]


@pytest.mark.parametrize("name", CACHING)
def test_what_is_kept_tells_its_size_and_how_long_it_took_whoever_reads_it(name, tmp_path):
    facts = []
    for _ in range(2):
        with stages.timed_by(timing.stage_timer), loaded(name, images(), cache=tmp_path) as session:
            facts.append(session.facts())
    assert facts[0]["model_bytes"] == facts[1]["model_bytes"] > 500
    stage = "compile_s" if name == "compile" else "export_s"
    assert facts[0][stage] == facts[1][stage] > 0
