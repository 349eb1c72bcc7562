"""Families of the user's: what they are, their networks against closed forms, solving for flops, and how they break."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.errors import UserError
from profiler.models import own_solve, source
from profiler.models.brought import Brought, counts_of
from profiler.models.complexity import Complexity
from profiler.models.loaded import Asked
from profiler.models.own_family import NotScalableError, OwnFamily, open_family
from profiler.models.scaling import parse_rule
from tests.models.own_families import write_mlp, write_shown

RULES = ("d", "w", "r", "dwr", "dWr", "d1_w8_g8_r1", "alpha=0.3", "d2_w1")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the families, as the current one."""
    write_shown(tmp_path)
    write_mlp(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def network(name: str, rule: str = "", factor: float = 1.0) -> Brought:
    with open_family(name) as family:
        return family.counted(family.at(rule, factor))


def vit_by_hand(depth: int, width: int, heads: int, image: int) -> Complexity:
    """Every product of a vision transformer with its bias, from the paper alone."""
    n, d, w = (image // 8) ** 2, depth, width
    linear = d * n * ((w + 1) * 3 * w + (w + 1) * w + (w + 1) * 4 * w + (4 * w + 1) * w)
    ends = n * (3 * 64 + 1) * w + (w + 1) * 10
    norms = 2 * d * 2 * w + 2 * w
    params = (3 * 64 + 1) * w + n * w + d * (12 * w * w + 9 * w) + norms + (w + 1) * 10
    acts = n * w + d * n * (3 * w + w + 4 * w + w) + d * (heads * n * n + n * w) + 10
    return Complexity(linear + d * 2 * n * n * w + ends, params, acts)


def encoder_by_hand(layers: int, width: int, heads: int, length: int) -> Complexity:
    n, d, w = length, layers, width
    flops = d * n * (12 * w * w + 9 * w) + d * 2 * n * n * w + n * (w + 1) * 2
    params = 1000 * w + d * (12 * w * w + 9 * w + 4 * w) + (w + 1) * 2
    acts = d * n * 9 * w + d * (heads * n * n + n * w) + n * 2
    return Complexity(flops, params, acts)


@pytest.mark.parametrize(("rule", "factor"), [("", 1.0), ("w", 4.0), ("dWr", 4.0), ("r", 2.0), ("d", 0.5)])
def test_a_vision_transformer_has_the_counts_of_its_closed_form(rule: str, factor: float) -> None:
    found = network("vit.py:vit", rule, factor)
    size = dict(found.parameters)
    assert found.counts == vit_by_hand(**size)
    assert (found.family, found.resolution) == ("vit.py:vit", size["image"])


@pytest.mark.parametrize(("rule", "factor"), [("", 1.0), ("r", 2.0)])
def test_a_text_encoder_has_the_counts_of_its_closed_form(rule: str, factor: float) -> None:
    found = network("encoder.py:text", rule, factor)
    assert found.counts == encoder_by_hand(**dict(found.parameters))
    assert found.resolution is None


@pytest.mark.parametrize("name", ["vit.py:vit", "encoder.py:text"])
def test_what_is_loaded_counts_as_what_is_built_on_paper(name: str) -> None:
    loaded = source.load_model(Asked(name, "d", 0.5))
    assert loaded.count() == network(name, "d", 0.5).counts
    assert loaded.family == name


@pytest.mark.parametrize("rule", RULES)
def test_the_terms_of_the_vision_transformer_grow_with_the_powers_of_theory(rule: str) -> None:
    """A hundredfold network rounds by little; the powers are those that the page states."""
    s = 100.0
    e = parse_rule(rule).exponents
    tokens = 2 * e[3]
    with open_family("vit.py:vit") as family:
        base, large = (dict(family.at(rule, factor).parameters) for factor in (1.0, s))

    def power(term: str) -> float:
        ratio = math.prod(_terms(large)[part] / _terms(base)[part] for part in term)
        return math.log(ratio) / math.log(s)

    assert power("dwwn") == pytest.approx(1, abs=0.03)
    assert power("dwnn") == pytest.approx(e[0] + e[1] + 2 * tokens, abs=0.03)
    assert power("dwn") == pytest.approx(e[0] + e[1] + tokens, abs=0.03)
    assert power("dhnn") == pytest.approx(e[0] + e[1] - e[2] + 2 * tokens, abs=0.03)
    assert power("dww") == pytest.approx(e[0] + 2 * e[1], abs=0.03)


def _terms(size: dict[str, int]) -> dict[str, float]:
    return {"d": size["depth"], "w": size["width"], "h": size["heads"], "n": (size["image"] // 8) ** 2}


def test_a_scaled_network_is_another_content_and_equal_parameters_are_one() -> None:
    contents = [source.load_model(Asked("mlp.py:mlp", *step)).content for step in (("", 1.0), ("d", 2.0), ("dWr", 1.0))]
    assert contents[0] == contents[2] != contents[1]


def test_parameters_that_leave_no_trace_in_the_module_belong_to_the_content(folder: Path) -> None:
    text = f"class family:\n    {SCALE}    def build(self, p):\n        return nn.Linear(2, 2), torch.ones(1, 2)\n"
    name = write(folder, text)
    assert len({source.load_model(Asked(name, "w", factor)).content for factor in (1.0, 4.0)}) == 2


def test_the_content_follows_the_code(folder: Path) -> None:
    before = source.load_model(Asked("mlp.py:mlp")).content
    (folder / "mlp.py").write_text((folder / "mlp.py").read_text() + "\n# edited\n")
    assert source.load_model(Asked("mlp.py:mlp")).content != before


def test_a_shape_takes_the_place_of_a_parameter() -> None:
    loaded = source.load_model(Asked("vit.py:vit", shape="image=32"))
    assert loaded.inputs.signature == "images float32 1x3x32x32"
    assert loaded.count() == vit_by_hand(4, 64, 4, 32)
    assert source.load_model(Asked("encoder.py:text", shape="length=8")).inputs.signature == "input int64 1x8"


def write(folder: Path, text: str) -> str:
    """Write a family and return its name; each has a file of its own, since Python imports one but once."""
    name = f"own{len(list(folder.iterdir()))}"
    (folder / f"{name}.py").write_text(f"import torch\nfrom torch import nn\n{text}", encoding="utf-8")
    return f"{name}.py:family"


SCALE = "def scale(self, depth, width, group_width, resolution):\n        return {'n': round(4 * width)}\n"
BUILD = "def build(self, p):\n        return nn.Linear(p['n'], 1), torch.ones(1, p['n'])\n"


@pytest.mark.parametrize(
    "text",
    [
        f"class family:\n    {SCALE}    {BUILD}",
        f"class Family:\n    {SCALE}    {BUILD}\nfamily = Family()",
        f"class Family:\n    {SCALE}    {BUILD}\nimport types\nfamily = types.SimpleNamespace("
        "scale=Family().scale, build=Family().build)",
    ],
    ids=["class", "object", "namespace"],
)
def test_a_class_and_an_object_are_families(folder: Path, text: str) -> None:
    assert counts_of(network(write(folder, text), "w", 4.0)) == Complexity(9, 9, 1)


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("def family():\n    return nn.Linear(2, 2)", "no scale and no build"),
        (f"class family:\n    {BUILD}", "no scale;"),
        (f"class family:\n    {SCALE}", "no build;"),
        (f"class family(nn.Module):\n    {SCALE}    {BUILD}", "no scale and no build"),
    ],
)
def test_what_lacks_a_function_is_no_family_and_says_what_is_missing(folder: Path, text: str, missing: str) -> None:
    name = write(folder, text)
    with pytest.raises(NotScalableError, match=missing), open_family(name):
        pass
    with pytest.raises(UserError, match=rf"cannot be scaled: it has {missing}"):
        source.load_model(Asked(name, "w", 2.0))


def test_a_function_makes_one_model_as_before(folder: Path) -> None:
    name = write(folder, "def family(n=2):\n    return nn.Linear(n, 2), torch.ones(1, n)")
    loaded = source.load_model(Asked(name, shape="n=3"))
    assert (loaded.family, loaded.inputs.signature) == ("", "input float32 1x3")


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        ("return None", r"scale returned None; expected parameters as a dict"),
        ("return [1, 2]", r"scale returned \[1, 2\]; expected parameters"),
        ("return {}", r"scale returned {}; expected parameters"),
        ("return {'n': float('nan')}", r"scale returned n=nan; expected a plain number"),
        ("return {'n': torch.ones(1)}", r"scale returned n=tensor\(\[1.\]\); expected a plain number"),
        ("return {'n': 1 / 0}", r"scale\(depth=1, width=2, group_width=1, resolution=1\) fails with ZeroDivisionError"),
        ("raise SystemExit(3)", r"fails with SystemExit: 3"),
        ("raise ValueError('too\\n wide')", r"fails with ValueError: too wide \(.*own\d+.py:5\)$"),
    ],
)
def test_a_scale_that_breaks_is_one_sentence(folder: Path, scale: str, said: str) -> None:
    text = f"class family:\n    def scale(self, depth, width, group_width, resolution):\n        {scale}\n    {BUILD}"
    with pytest.raises(UserError, match=said) as caught:
        source.load_model(Asked(write(folder, text), "w", 4.0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            f"class family:\n    def scale(self, depth, width):\n        return 1\n    {BUILD}",
            "unexpected keyword argument",
        ),
        (
            "class family:\n    def scale(self, depth, width, group_width, resolution, patch):\n        return 1\n"
            f"    {BUILD}",
            "its scale cannot be called: missing a required argument: 'patch'",
        ),
        (
            f"class family:\n    {SCALE}    def build(self, p, q):\n        return 1\n",
            "its build cannot be called: missing a required argument: 'q'",
        ),
        (
            f"class family:\n    def __init__(self, size):\n        pass\n    {SCALE}    {BUILD}",
            r"family\(\) fails with TypeError: .*missing 1 required positional argument: 'size'; expected",
        ),
        (f"class family:\n    {SCALE}    def build(self, p):\n        return p\n", r"returned a dict .*expected"),
        (
            f"class family:\n    {SCALE}    def build(self, p):\n        raise ValueError(p['n'])\n",
            r"family w x4 \(n 8\)' could not be built: ValueError: 8 ",
        ),
    ],
)
def test_a_family_that_breaks_is_one_sentence(folder: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        source.load_model(Asked(write(folder, text), "w", 4.0))
    assert "\n" not in str(caught.value)


def test_a_network_that_cannot_be_built_says_why_in_place_of_its_counts(folder: Path) -> None:
    text = f"class family:\n    {SCALE}    " + BUILD.replace("return", "assert p['n'] < 8, 'too wide'\n        return")
    name = write(folder, text)
    assert network(name).counts == Complexity(5, 5, 1)
    broken = network(name, "w", 4.0)
    assert broken.counts is None
    with pytest.raises(UserError, match=r"has no exact counts: .*AssertionError: too wide"):
        counts_of(broken)


def test_a_target_that_only_broken_networks_have_is_refused_with_their_reason(folder: Path) -> None:
    text = f"class family:\n    {SCALE}    " + BUILD.replace("return", "assert p['n'] < 8, 'too wide'\n        return")
    with (
        open_family(write(folder, text)) as family,
        pytest.raises(UserError, match=r"w cannot have 50F: the nearest .* is 8F; .*; others fail: .*: too wide"),
    ):
        own_solve.solved(family, "w", 50)


def test_parameters_that_change_from_call_to_call_are_refused(folder: Path) -> None:
    text = (
        "import itertools\nnumbers = itertools.count(1)\nclass family:\n"
        "    def scale(self, depth, width, group_width, resolution):\n        return {'n': next(numbers)}\n"
        f"    {BUILD}"
    )
    assert "scale returned {'n': 1} and then, for the same factors, {'n': 2}" in network(write(folder, text)).uncounted


def test_what_needs_values_while_it_is_built_is_counted_on_the_host(folder: Path) -> None:
    text = f"class family:\n    {SCALE}    " + BUILD.replace(
        "return", "torch.full((1,), p['n']).item()\n        return"
    )
    assert network(write(folder, text), "w", 4.0).counts == Complexity(9, 9, 1)


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, 1e9])
def test_a_factor_that_is_none_is_refused_as_in_the_zoo(factor: float) -> None:
    with pytest.raises(UserError, match="A scaling factor is above 0"):
        network("mlp.py:mlp", "w", factor)


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnFamily]:
    place = tmp_path_factory.mktemp("mlp")
    with open_family(f"{place}/{write_mlp(place)}") as family:
        yield family


def flops_of(family: OwnFamily, rule: str, factor: float) -> int:
    size = dict(family.at(rule, factor).parameters)
    return size["depth"] * size["tokens"] * size["width"] * (size["width"] + 1)


@given(st.sampled_from(RULES), st.floats(4, 5.5).map(lambda power: int(10**power)))
@settings(deadline=None, max_examples=10)
def test_no_factor_on_a_dense_grid_beats_the_solved_one(mlp: OwnFamily, rule: str, flops: int) -> None:
    found = own_solve.nearest(mlp, rule, flops)
    assert counts_of(found).flops == flops_of(mlp, rule, found.factor)
    assert mlp.at(rule, float(repr(found.factor))).parameters == found.parameters
    error = abs(counts_of(found).flops / flops - 1)
    nominal = flops / flops_of(mlp, "", 1.0)
    grid = (nominal * 2 ** (step / 100) for step in range(-100, 101))
    best = min(abs(flops_of(mlp, rule, min(factor, 9999.0)) / flops - 1) for factor in grid)
    assert error <= max(0.02, best + 0.005)


def test_flops_that_go_up_and_down_are_searched_around_the_crossing(folder: Path) -> None:
    text = (
        "class family:\n    def scale(self, depth, width, group_width, resolution):\n"
        "        ends = {2: 10, 2.2: 40, 2.35: 20, 1e9: 60}\n"
        f"        return {{'n': next(n for end, n in ends.items() if depth < end)}}\n    {BUILD}"
    )
    with open_family(write(folder, text)) as family:
        found = own_solve.solved(family, "d", 21)
    assert (found.parameters, counts_of(found).flops) == ((("n", 20),), 21)
    assert 2.2 <= found.factor < 2.35


def test_a_target_beyond_reach_is_refused_in_the_words_of_the_zoo(mlp: OwnFamily) -> None:
    with pytest.raises(UserError, match=r"mlp d cannot have 25.0kF: the nearest .* allow is 16.9kF; ask for that, or"):
        own_solve.solved(mlp, "d", 25_000)
    with pytest.raises(UserError, match="above 0"):
        own_solve.solved(mlp, "d", 0)


def test_a_rule_that_changes_nothing_ends_at_the_base_network(mlp: OwnFamily) -> None:
    assert own_solve.nearest(mlp, "g", 10**9).parameters == mlp.at().parameters


def test_a_target_that_is_the_base_network_has_factor_one(mlp: OwnFamily) -> None:
    assert own_solve.solved(mlp, "dWr", flops_of(mlp, "", 1.0)).factor == 1.0


def test_networks_far_above_the_target_are_never_built(mlp: OwnFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    counted = OwnFamily.counted

    def watched(family: OwnFamily, asked: Brought) -> Brought:
        found = counted(family, asked)
        built.append(counts_of(found).flops)
        return found

    monkeypatch.setattr(OwnFamily, "counted", watched)
    own_solve.nearest(mlp, "dwr", 300_000)
    assert max(built) < 2 * 300_000
