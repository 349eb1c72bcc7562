"""What a Python program asks. Models are live, in this process; times are not looked at, but for their order."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from torch import nn

import profiler
from profiler import api
from profiler.api import Answer, compare, latency, run_plan
from profiler.errors import StoppedError, UserError
from profiler.models.loaded import Asked
from profiler.models.source import load_model

X = torch.randn(2, 3, 32, 32)


class Net(nn.Module):
    """Takes an image, and a scale by keyword; has a part that trains and one that does not."""

    def __init__(self, depth: int = 1) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(depth)))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return self.dropout(self.convolutions(x)) * scale


def test_a_module_is_measured_as_it_is_and_left_as_it_was() -> None:
    net = Net().train()
    net.dropout.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    threads = torch.get_num_threads()
    answer = latency(net, (X,), {"scale": 2.0}, time="0.5s", threads=1)
    assert (net.training, net.convolutions.training, net.dropout.training) == (True, True, False)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert torch.get_num_threads() == threads
    (row,) = answer.rows
    assert (row["model"], row["threads"]) == ("live:Net", 1)
    assert row["status"] in ("ok", "unstable")
    assert row["inputs"] == "x float32 2x3x32x32, scale=2.0"
    assert row["peak_memory_bytes"] is None
    assert answer.latency_ms == row["latency_ms"]


def test_models_are_compared_by_turns_under_the_names_given() -> None:
    answer = compare({"one": Net(1), "thirty": Net(30)}, [X], time="2s", threads=1)
    one, thirty = answer.rows
    assert (one["model"], thirty["model"]) == ("one", "thirty")
    assert thirty["latency_ms"] > 3 * one["latency_ms"]
    assert answer.best is one
    assert "one" in str(answer)
    assert "x one" in str(answer)
    assert {"model", "latency_ms"} <= set(answer.to_pandas().columns)
    assert "parity" not in Answer(({**one, "parity": None},)).to_pandas().columns


def test_html_is_harmless_whatever_a_model_is_called() -> None:
    answer = compare({"<script>alert(1)</script>": Net(), "b": Net()}, [X], time="10ms", threads=1)
    made = answer._repr_html_()
    assert "<script>" not in made
    assert "&lt;script&gt;" in made


def test_a_model_that_fails_is_a_row_with_its_reason() -> None:
    answer = latency(Net(), torch.randn(2, 4, 8, 8), time="10ms")
    assert "expected input[2, 4, 8, 8] to have 3 channels" in " ".join(str(answer).split())
    with pytest.raises(UserError, match="nothing could be measured"):
        answer.latency_ms  # noqa: B018 - it raises


def test_a_thread_that_is_not_the_main_one_may_ask() -> None:
    found: list[Answer] = []
    worker = threading.Thread(target=lambda: found.append(latency(Net(), X, time="10ms", threads=1)))
    worker.start()
    worker.join()
    assert found[0].latency_ms > 0


def test_a_live_module_is_had_by_no_name_elsewhere() -> None:
    with pytest.raises(UserError, match="an object of a Python program"):
        load_model(Asked("live:Net"))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: latency("resnet50", treads=1), "unknown option treads: expected some of batch, threads"),
        (lambda: compare([]), "no model was given"),
        (lambda: compare([Net(), "resnet50"], [X]), "isolate=True for both"),
        (lambda: latency(Net(), X, backend="eagre"), "there is no backend 'eagre'"),
        (lambda: latency(Net(), X, time="soon"), "soon"),
        (lambda: latency(Net(), torch.randn(2, 4, 8, 8), isolate=True), "torch.export cannot export Net"),
    ],
)
def test_what_is_wrong_is_one_sentence(call, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=said):
        call()


def test_fresh_processes_on_demand_and_a_plan_as_a_frame(tmp_path: Path) -> None:
    answer = latency(Net().eval(), X, isolate=True, time="10ms", threads=1)
    assert answer.latency_ms > 0
    assert answer.rows[0]["peak_memory_bytes"]
    changes = {"models": ["regnety_200mf"], "scalings": ["w"], "factors": [1], "backends": ["fake:duration_ms=1"]}
    frame = run_plan("quick", out=tmp_path / "kept", time="10ms", **changes)
    assert list(frame["model"]) == ["regnety_200mf"]
    assert frame["latency_ms"].notna().all()
    assert (tmp_path / "kept" / "cases.csv").is_file()


def test_names_are_had_from_the_package_when_asked_for() -> None:
    assert profiler.latency is latency
    assert profiler.compare is compare
    with pytest.raises(UserError, match="no plan 'quik'"):
        profiler.run("quik")
    with pytest.raises(AttributeError, match="no attribute 'latencies'"):
        profiler.latencies  # noqa: B018 - it raises


def test_a_program_that_is_stopped_is_told_how_a_program_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stopped(*_: object, go_on: str, **__: object) -> None:
        raise StoppedError(go_on)

    monkeypatch.setattr(api, "measure_into", stopped)
    said = f"profiler.run(..., out={str(tmp_path)!r}, resume=True)"
    for out, told in ((tmp_path, said), (None, "")):
        with pytest.raises(StoppedError) as caught:
            run_plan("quick", out=out, backends=["fake"], models=["resnet50"])
        assert str(caught.value) == told
