from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer

from profiler.cli.frontier import frontier_command
from profiler.errors import UserError
from tests import DATA, ROOT

QUICK = ROOT / "results" / "reference" / "quick" / "cases.csv"
SWEEP = ROOT / "results" / "reference" / "sweep" / "cases.csv"


def said(capsys: pytest.CaptureFixture[str], source: Path = SWEEP, **given: Any) -> str:
    frontier_command(source, **{"backend": "eager", **given})
    return " ".join(capsys.readouterr().out.split())


def test_the_front_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, latency="20ms")
    assert "10 of 14 networks are on the front of accuracy against latency; accuracy under pycls" in text
    assert "regnetx_400mf 12.2 ms [11.4, 13.0] 72.62 yes 84% ~" in text
    assert "regnety_800mf 19.2 ms [18.8, 19.6] 76.32 yes 100%" in text
    assert "Most accurate within 20ms: regnety_800mf, top-1 76.32, latency 19.2 ms [18.8, 19.6], 99% sure" in text
    assert "The next cheaper one, regnety_600mf, loses 0.86 points and takes 0.81 [0.77, 0.86] of it." in text
    assert "as of all scaled networks (--predict-accuracy foretells some): efficientnet_b0 d x0.5" in text


def test_an_unstable_latency_is_marked_on_the_front(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    frame = pd.read_csv(SWEEP).assign(status="ok")
    frame.loc[(frame["model"] == "regnety_800mf") & frame["scaling"].isna(), "status"] = "unstable"
    frame.to_csv(tmp_path / "cases.csv", index=False)
    text = said(capsys, tmp_path / "cases.csv")
    assert "regnety_800mf 19.2 ms [18.8, 19.6]? 76.32 yes 100%" in text
    assert text.count("]?") == 1
    assert "?: 1 of 14 are unstable, disturbed or known less well than was asked" in text


def test_predicted_accuracies(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, QUICK, predict_accuracy=True, min_top1=74.0)
    assert (
        "Predicted from 36 networks under pycls: on one left out the error is 0.4 points in the mean, 2.3 at most"
        in text
    )
    assert "Cheapest with top-1 from 74: regnety_200mf dWr x2" in text
    assert "rule that all but leaves out depth, width or resolution" in text


def test_json_has_everything(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(said(capsys, QUICK, predict_accuracy=True, latency="15ms", json=True))
    [front] = told["fronts"]
    assert len(front["points"]) + len(front["without_accuracy"]) == 22
    assert front["best"]["network"] in {point["network"] for point in front["points"] if point["member"]}
    assert {point["predicted"] is None for point in front["points"]} == {True, False}


def test_a_table_without_intervals_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, DATA / "pycls_v100.csv", backend=None, y="infer_ms")
    assert "15 of 36 networks are on the front" in text
    assert "The table has no intervals, so that how surely each is on the front is not known." in text


def test_a_table_of_names_and_latencies_will_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("model,latency_ms\ntorchvision:resnet50,5\nResNet-101,9\n")
    assert "2 of 2 networks are on the front" in said(capsys, tmp_path / "t.csv", backend=None)


def test_what_nothing_keeps_is_said_and_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as end:
        said(capsys, QUICK, latency="1ms")
    assert end.value.exit_code == 1
    frame = pd.read_csv(QUICK)
    least = frame.loc[(frame["backend"] == "eager") & frame["scaling"].isna(), "latency_ms"].min()
    told = f"No network costs so little: the cheapest, regnety_200mf, takes {least:.2f} ms (asked for 1ms)."
    assert told in capsys.readouterr().out


def test_memory_and_energy_in_place_of_latency(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    counts = dict.fromkeys(("flops", "params", "acts"), 1e9)
    frame = pd.DataFrame({"model": ["regnety_200mf", "resnet50"], "latency_ms": [2.0, 1.0]}).assign(**counts)
    frame.assign(peak_memory_bytes=[2**27, 2**29], energy_j=[0.4, 2.5]).to_csv(tmp_path / "t.csv", index=False)
    text = said(capsys, tmp_path / "t.csv", backend=None, memory="200MiB")
    assert "on the front of accuracy against peak memory" in text
    assert "Most accurate within 200MiB: regnety_200mf, top-1 70.34, peak memory 128 MiB." in text
    text = said(capsys, tmp_path / "t.csv", backend=None, energy="3J")
    assert "resnet50, top-1 76.81, energy 2.5 J." in text
    assert "2 of 2 networks" in said(capsys, tmp_path / "t.csv", backend=None, y="memory")


def test_accuracies_that_were_not_measured_are_listed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("model,top1\nregnety_200mf,71\nresnet18,70\n")
    text = said(capsys, QUICK, accuracy=tmp_path / "mine.csv")
    assert "accuracy under mine (mine.csv)" in text
    assert "An accuracy and no row in the run: resnet18 70.00." in text


def test_a_chart_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, QUICK, predict_accuracy=True, chart=tmp_path / "front.svg")
    drawn = (tmp_path / "front.svg").read_text()
    assert "top-1 error (%)" in drawn
    assert "hollow: predicted" in drawn


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"latency": "20ms", "min_top1": 70.0}, "one limit is possible"),
        ({"latency": "soon"}, "is not a duration"),
        ({"latency": "0ms"}, "leaves no room"),
        ({"energy": "3"}, "no energy measured"),
        ({"memory": "1GiB"}, "no memory measured"),
        ({"latency": "1ms", "y": "memory"}, "limits the latency and --y is memory"),
        ({"min_top1": 178.0}, "expected percent"),
        ({"y": "no_such"}, "no column 'no_such'"),
        ({"accuracy": Path("no_such.csv")}, "cannot be read"),
    ],
)
def test_what_cannot_be_used(given: dict[str, Any], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=why) as error:
        said(capsys, QUICK, **given)
    assert "\n" not in str(error.value)
