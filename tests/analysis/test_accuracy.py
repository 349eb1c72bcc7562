from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from profiler import models
from profiler.analysis.accuracy import with_accuracy
from profiler.errors import UserError


def run_of(*names: str) -> pd.DataFrame:
    """A table of a run: networks of the zoo, each as ``model`` or ``model rule factor``."""
    rows = []
    for name in names:
        model, rule, factor = (*name.split(), "", "1")[:3]
        row: dict[str, object] = {
            "model": model,
            "scaling": rule,
            "factor": float(factor),
            "latency_ms": 1.0,
            "status": "ok",
        }
        if ":" not in model:
            arch = models.resolve(model, rule, float(factor))
            row |= {"family": arch.family, "resolution": arch.resolution, "flops": models.complexity(arch).flops}
        rows.append(row)
    return pd.DataFrame(rows)


def written(folder: Path, text: str) -> Path:
    file = folder / "mine.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_published_accuracies_are_of_the_recipe_of_most_networks() -> None:
    told = with_accuracy(run_of("resnet50", "regnety_400mf", "torchvision:convnext_tiny", "regnety_400mf dWr 2"))
    assert told.recipe == "pycls"
    assert told.frame["top1"].tolist()[:2] == [76.81, 74.102]
    assert told.frame["top1_source"][0] == "pycls (model zoo of facebookresearch/pycls: 100 epochs, mean of 5 runs)"
    assert told.frame["top1"].isna().tolist() == [False, False, True, True]
    assert told.frame["top1_why"][2] == "none under pycls, one under IMAGENET1K_V1:convnext"
    assert "as of all scaled networks" in told.frame["top1_why"][3]


def test_packages_find_theirs_by_themselves() -> None:
    told = with_accuracy(run_of("torchvision:resnet18", "torchvision:resnet50", "timm:resnet50.tv_in1k"))
    assert told.recipe == "IMAGENET1K_V1"
    assert told.frame["top1"].tolist()[:2] == [69.758, 76.13]
    newer = with_accuracy(run_of("torchvision:resnet50", "timm:regnety_004"), recipe="imagenet1k_v2")
    assert newer.frame["top1"].tolist() == [80.858, 75.594]


def test_figures_of_several_sizes_count_once() -> None:
    told = with_accuracy(run_of("timm:resnet50", "torchvision:resnet18", "torchvision:resnet34"))
    assert told.recipe == "IMAGENET1K_V1"


def test_another_resolution_than_the_published_has_none() -> None:
    frame = run_of("regnety_400mf", "resnet50").assign(resolution=[160, 224])
    told = with_accuracy(frame, predict=True)
    assert told.frame["top1"].isna().tolist() == [True, False]
    assert told.frame["top1_why"][0] == "at another resolution than its own"


def test_a_table_of_the_user_goes_first(tmp_path: Path) -> None:
    file = written(
        tmp_path, "model,scaling,factor,top1\nRegNetY-400MF,,,73.1\nregnety_400mf,d1_w8_g8_r1,2.0,75.5\nabsent,,,60\n"
    )
    told = with_accuracy(run_of("regnety_400mf", "regnety_400mf dWr 2", "resnet50"), file)
    assert told.recipe == "mine"
    assert told.frame["top1"].tolist()[:2] == [73.1, 75.5]
    assert np.isnan(told.frame["top1"][2])
    assert told.frame["top1_why"][2].startswith("none under mine, one under IMAGENET1K_V1")
    assert told.unmeasured == {"absent": 60.0}


def test_a_recipe_of_the_user_may_be_a_published_one(tmp_path: Path) -> None:
    file = written(tmp_path, "model,top1,recipe\nregnetz_500mf,76.0,pycls\nresnet50,76.0,other\n")
    told = with_accuracy(run_of("regnetz_500mf", "resnet50", "regnety_400mf"), file, "pycls")
    assert told.frame["top1"].tolist() == [76.0, 76.81, 74.102]


def test_the_tables_own_column_is_taken() -> None:
    frame = run_of("a.onnx:x", "b.onnx:x").assign(top1=[70.0, np.nan])
    told = with_accuracy(frame)
    assert (told.recipe, told.source) == ("the table's", "the table")
    assert told.frame["top1"].tolist()[0] == 70
    again = with_accuracy(run_of("resnet50", "resnet101").assign(top1=[76.13, 77.37], top1_source="IMAGENET1K_V1 (x)"))
    assert again.recipe == "pycls"  # what this program wrote is looked up again


def test_predictions_have_intervals_and_say_what_they_rest_on() -> None:
    told = with_accuracy(run_of("regnety_400mf", "regnety_400mf dWr 4", "regnety_400mf w 4", "mine:net"), predict=True)
    assert told.model
    top1, low, high, source, why = told.frame.loc[1, ["top1", "top1_low", "top1_high", "top1_source", "top1_why"]]
    assert low < top1 < high
    assert 77 < top1 < 79
    assert (source, why) == ("pycls (predicted from 36 networks)", "")
    assert told.frame["top1"].isna().tolist() == [False, False, True, True]
    assert "all but leaves out depth, width or resolution" in told.frame["top1_why"][2]
    assert "networks of the zoo" in told.frame["top1_why"][3]


def test_the_users_own_figures_are_predicted_from(tmp_path: Path) -> None:
    names = ["regnety_200mf", "regnety_400mf", "regnety_600mf", "regnety_800mf", "regnety_1.6gf", "regnety_3.2gf"]
    names += ["regnety_4.0gf", "regnety_6.4gf", "regnety_8.0gf"]
    lines = [f"{name},{60 + 2 * k}" for k, name in enumerate(names)]
    told = with_accuracy(
        run_of(*names, "regnety_400mf dwr 3"), written(tmp_path, "\n".join(["model,top1", *lines])), predict=True
    )
    assert told.frame["top1_source"].iloc[-1] == "mine (predicted from 9 networks)"
    assert 64 < told.frame["top1"].iloc[-1] < 70


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model,acc\nresnet50,76\n", "lacks top1"),
        ("model,top1\nresnet50,0.76\n", "top1 is '0.76'; expected percent, such as 76.8"),
        ("model,top1\nresnet50,good\n", "expected percent"),
        ("model,top1\nresnet50,176\n", "expected percent"),
        ("model,top1\nresnet50,76\nResNet-50,77\n", "has top1 76 and 77 under mine: give one figure"),
        ("model,scaling,factor,top1\nresnet50,zzz,2,76\n", "not a scaling rule"),
        ("model,scaling,factor,top1\nresnet50,w,two,76\n", "column 'factor' holds"),
        ("model,scaling,factor,top1\nresnet50,dWr,,76\n", "scaling 'dWr' and factor '': give both, or neither"),
        ("model,scaling,factor,top1\nresnet50,,2,76\n", "scaling '' and factor '2': give both, or neither"),
        ("model,top1\nother,76\n", "no network of .* was measured"),
        ("", "not a CSV table|lacks"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        with_accuracy(run_of("resnet50"), written(tmp_path, text))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("none_such", r"no network here has an accuracy under --recipe none_such; .* pycls \(2\)"),
        ("ra3_in1k", "no network here has an accuracy under --recipe ra3_in1k"),
        ("pycls,IMAGENET1K_V1", "share no front; name one"),
    ],
)
def test_recipes_that_cannot_be_used(recipe: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        with_accuracy(run_of("resnet50", "regnety_400mf"), recipe=recipe)


def test_a_run_without_any_accuracy_says_what_to_do() -> None:
    with pytest.raises(UserError, match="bring them with --accuracy FILE"):
        with_accuracy(run_of("regnetz_500mf dwr 2"))
    assert with_accuracy(run_of("regnetz_500mf dwr 2"), predict=True).recipe == "pycls"
