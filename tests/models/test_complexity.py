"""The commands `profiler complexity` and `profiler models`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer import Exit

from profiler.cli.complexity import _reached, complexity_command
from profiler.cli.models import models_command
from profiler.errors import UserError
from profiler.models import names, nearest_scaled
from profiler.models.families import get

KEYS = [
    "model",
    "scaling",
    "factor",
    "resolution",
    "depths",
    "widths",
    "group_widths",
    "flops",
    "params",
    "acts",
]


def printed_json(
    capsys: pytest.CaptureFixture[str], model: str, scale: str, factor: float | None, flops: str | None
) -> dict[str, Any]:
    complexity_command(model, scale, factor, flops, json=True)
    facts = json.loads(capsys.readouterr().out)
    assert isinstance(facts, dict)
    return facts


def test_json_of_a_base_network(capsys: pytest.CaptureFixture[str]) -> None:
    facts = printed_json(capsys, "regnety_4gf", "", None, None)
    assert list(facts) == KEYS
    assert facts == {
        "model": "regnety_4.0gf",
        "scaling": "",
        "factor": 1.0,
        "resolution": 224,
        "depths": [2, 6, 12, 2],
        "widths": [128, 192, 512, 1088],
        "group_widths": [64, 64, 64, 64],
        "flops": 3_973_301_344,
        "params": 20_646_656,
        "acts": 12_287_200,
    }


def test_json_of_a_scaled_network(capsys: pytest.CaptureFixture[str]) -> None:
    facts = printed_json(capsys, "regnety_4.0gf", "dwr", 2.0, None)
    assert (facts["scaling"], facts["factor"], facts["flops"]) == ("dwr", 2.0, 7_608_996_768)


def test_json_of_a_target_says_what_was_reached(capsys: pytest.CaptureFixture[str]) -> None:
    facts = printed_json(capsys, "regnety_4.0gf", "dWr", None, "16GF")
    assert list(facts) == [*KEYS, "target_flops", "flops_error"]
    assert facts["target_flops"] == 16 * 10**9
    assert facts["flops_error"] == facts["flops"] / 16e9 - 1
    assert abs(facts["flops_error"]) < 0.02


def test_solved_factor_gives_the_same_network(capsys: pytest.CaptureFixture[str]) -> None:
    solved = printed_json(capsys, "resnet50", "dWr", None, "8GF")
    again = printed_json(capsys, "resnet50", "dWr", solved["factor"], None)
    assert again == {key: solved[key] for key in KEYS}


def test_text_shows_exact_and_rounded(capsys: pytest.CaptureFixture[str]) -> None:
    complexity_command("regnety_4.0gf", "d", 4.0, None, json=False)
    text = capsys.readouterr().out
    assert "regnety_4.0gf d x4" in text
    assert "15,247,504,096" in text
    assert "15.2 GF" in text
    assert "8 24 48 8" in text


def test_text_of_a_target_says_how_near_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    complexity_command("regnety_4.0gf", "d", None, "8GF", json=False)
    assert "of 8.00 GF (" in capsys.readouterr().out


def test_target_off_the_grid_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    arch = nearest_scaled(get("efficientnet_b0"), "g", 10**9)
    assert _reached(arch, 10**9) == (
        "reached 386 MF of 1.00 GF (-61%) at factor 1.0; the widths, depths and resolutions along g come no nearer"
    )
    with pytest.raises(UserError, match=r"efficientnet_b0 g cannot have 1.00GF: the nearest .* is 450MF"):
        complexity_command("efficientnet_b0", "g", None, "1GF", json=False)
    assert _reached(arch, 385_825_092) == "reached 386 MF of 386 MF (exactly) at factor 1.0"


def test_a_step_beside_the_rule_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    facts = printed_json(capsys, "efficientnet_b0", "dwr", None, "16GF")
    assert (facts["scaling"], facts["step"]) == ("dwr", "d7+1")
    assert abs(facts["flops_error"]) < 0.02
    complexity_command("efficientnet_b0", "dwr", None, "16GF", json=False)
    text = capsys.readouterr().out
    assert "efficientnet_b0 dwr x42.2 d7+1" in text
    assert "at factor 42.2 and a step beside the rule: stage 7 has" in text


@pytest.mark.parametrize(
    ("scale", "factor", "flops", "message"),
    [
        ("dWr", None, None, "add --factor"),
        ("dWr", 4.0, "16GF", "exclude each other"),
        ("", 4.0, None, "add --scale"),
        ("", None, "16GF", "add --scale"),
        ("dWr", None, "16 apples", "'16 apples'"),
        ("dWx", 4.0, None, "'dWx'"),
        ("dWr", 0.0, None, "above 0"),
    ],
)
def test_options_that_do_not_go_together(scale: str, factor: float | None, flops: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        complexity_command("regnety_4.0gf", scale, factor, flops, json=True)


def test_models_lists_every_network(capsys: pytest.CaptureFixture[str]) -> None:
    models_command()
    text = capsys.readouterr().out
    assert all(name in text for name in names())


def test_models_as_json_are_exact(capsys: pytest.CaptureFixture[str]) -> None:
    models_command("ResNet5", json=True)
    (facts,) = json.loads(capsys.readouterr().out)
    assert list(facts) == KEYS
    assert (facts["flops"], facts["params"], facts["acts"]) == (4_089_185_256, 25_557_032, 11_315_688)


def test_pattern_without_a_match_is_an_error() -> None:
    with pytest.raises(UserError, match="'vgg'"):
        models_command("vgg")


OWN = """
import torch
from torch import nn

def dense(width=4):
    return nn.Linear(width, 5), torch.zeros(1, width)

class Spectrum(nn.Linear):
    def forward(self, x):
        return torch.fft.rfft(super().forward(x)).real

def spectrum():
    return Spectrum(4, 5), torch.zeros(1, 4)

class Broken(nn.Linear):
    def forward(self, x):
        return super().forward(x[0, 0, 0])

def broken():
    return Broken(4, 5), torch.zeros(1, 4)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path


def test_a_brought_model_is_counted_in_each_shape(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    complexity_command("own.py:dense", shape=["width=4/8"], json=True)
    found = json.loads(capsys.readouterr().out)
    assert found[0] == {
        "model": "own.py:dense",
        "inputs": "input float32 1x4",
        "flops": 25,
        "params": 25,
        "acts": 5,
        "layers": 1,
        "uncounted": None,
    }
    assert found[1]["flops"] == 45


def test_what_was_not_counted_is_empty_and_named(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    complexity_command("own.py:spectrum")
    text = capsys.readouterr().out
    assert "no rule counts aten::_fft_r2c: flops and acts are at least what is given" in text
    assert re.search(r"x float32 1x4 +25 *$", text, re.MULTILINE)
    with pytest.raises(Exit) as stopped:
        complexity_command("own.py:broken", json=True)
    assert stopped.value.exit_code == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["params"] is None
    assert facts["uncounted"].startswith("could not be counted: IndexError: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "own.py:dense", "scale": "w", "factor": 2.0}, "cannot be scaled"),
        ({"model": "resnet50", "shape": ["x=1x3x8x8"]}, "networks of the zoo take square images"),
        ({"model": "own.py:nothing"}, "nothing"),
    ],
)
def test_options_and_models_that_do_not_go_together(own: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        complexity_command(**arguments)
