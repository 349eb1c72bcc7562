"""``--shape`` and ``--input`` of commands that measure nothing."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from profiler import models
from profiler.cli.app import app
from profiler.cli.models import select
from profiler.errors import UserError
from profiler.models.brought import Brought, counts_of

NET = "tests/models/samples.py:classifier"


def test_a_network_of_the_zoo_is_counted_at_the_size_asked_for() -> None:
    arch = select("regnety_200mf", "w", 2.0, None, ["height=96,width=96"])
    assert counts_of(arch) == models.complexity(arch)
    assert arch.resolution == 96
    assert counts_of(arch).flops < counts_of(select("regnety_200mf", "w", 2.0, None)).flops


def test_a_model_of_the_users_is_counted_in_the_shape_asked_for() -> None:
    network = select(NET, "", None, None, ["size=12"])
    assert isinstance(network, Brought)
    assert (network.name, network.resolution) == (NET, 12)
    assert counts_of(network).flops == 4 * 27 * 10 * 10 + 5 * 4 + 4 * 10 * 10 + 5


def test_each_shape_has_a_row() -> None:
    shown = CliRunner().invoke(app, ["complexity", NET, "--shape", "size=8/12", "--json"])
    rows = json.loads(shown.stdout)
    assert [(row["inputs"], row["layers"]) for row in rows] == [
        ("input float32 1x3x8x8", 2),
        ("input float32 1x3x12x12", 2),
    ]


def test_what_cannot_be_counted_is_said_and_is_a_failure() -> None:
    shown = CliRunner().invoke(app, ["complexity", "tests/models/samples.py:uncountable", "--json"])
    [row] = [json.loads(shown.stdout)]
    assert (shown.exit_code, row["flops"], row["params"]) == (1, None, None)
    assert row["uncounted"] == "could not be counted: TypeError: this model is watched"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("regnety_200mf", "", None, None, ["height=96,width=64"]), "take square images"),
        (("regnety_200mf", "", None, None, [], "v.npz"), "the images that its resolution says; leave it out"),
        (("regnety_200mf", "", None, None, ["height=96/64,width=96/64"]), "is 2 shapes; expected one"),
        (("regnety_200mf", "w", None, 10**9, ["height=96,width=96"]), "--flops is solved for inputs of"),
        (("regnety_200mf", "", 2.0, None, ["height=96,width=96"]), "add --scale"),
        ((NET, "", None, None, ["sizes=12"]), "has no shape sizes; expected one of input, size$"),
        ((NET, "", None, None, ["size=12x3"]), "shape size=12x3 is of one size; expected size=64$"),
    ],
)
def test_what_no_model_takes_is_one_sentence(asked: tuple[object, ...], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        select(*asked)
    assert "\n" not in str(caught.value)
