"""The proof for a real GPU, step by step on the simulated one, so that it works the first time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.backends.simulator import results_of
from tests.studies import prove_gpu

MIB = 1 << 20


@pytest.fixture(scope="module")
def results() -> Any:
    return results_of(Path(__file__).parent / "proved.py")


@pytest.fixture(scope="module")
def steps(results: Any) -> Any:
    return results["found"]["steps"]


def test_no_claim_is_refuted_and_what_cannot_be_told_is_neither_true_nor_false(results: Any, steps: Any) -> None:
    assert results["refuted"] == []
    assert steps["clock"]["claims"] == {"probe within 1% of NVML": None}
    told = [holds for step in steps.values() for holds in step.get("claims", {}).values()]
    assert told.count(True) >= 14


def test_the_clock_and_the_events_are_those_of_the_device(results: Any, steps: Any) -> None:
    assert steps["clock"]["probe_mhz"] == 1000.0
    assert (steps["events"]["queued_ns"], results["small"]["queued_ns"]) == (10_000_000, 20_000)
    assert results["small"]["plain_ns"] == 201_000


def test_the_reference_is_the_same_with_tf32(steps: Any) -> None:
    assert steps["tf32"]["off_ns"] == steps["tf32"]["on_ns"] == 4_000_000


def test_what_a_visit_says_of_memory_is_what_the_device_lost(steps: Any) -> None:
    assert steps["memory eager"]["by_hand"] == steps["memory eager"]["told"]["device"] == 2 * MIB


def test_the_spread_is_over_processes_and_of_every_way(steps: Any) -> None:
    visits = steps["spread"]["visits"]
    assert [len(found) for found in visits.values()] == [3, 3]
    for ways in steps["spread"]["cv"].values():
        assert ways == {"raw": pytest.approx(0), "device": pytest.approx(0), "normalised": pytest.approx(0)}


def test_what_this_device_cannot_do_is_skipped_with_the_reason(steps: Any) -> None:
    assert "onnxruntime runs on cpu and cuda" in steps["onnxruntime"]["skipped"]
    assert "onnxruntime runs on cpu and cuda" in steps["onnxruntime channels last"]["skipped"]
    assert "onnxruntime runs on cpu and cuda" in steps["onnxruntime graph"]["skipped"]
    assert "cuda_graph=1 needs a CUDA device" in steps["graphs"]["skipped"]


def test_tf32_costs_a_quarter_and_the_parts_of_a_step_add_up_to_it(steps: Any) -> None:
    assert steps["precision tf32"]["ns"] == {"fp32": 10_000_000, "tf32": 2_500_000}
    assert sum(steps["training"]["parts_ns"].values()) == steps["training"]["step_ns"] > 0


def test_beside_a_full_device_a_huge_batch_fails_and_the_largest_is_found(steps: Any) -> None:
    assert steps["near full"]["claims"] == {"a huge batch is oom": True, "the largest batch is above 1": True}


def test_what_was_found_is_kept_after_each_step(results: Any) -> None:
    assert results["kept"]["steps"].keys() == results["found"]["steps"].keys()


def test_without_time_nothing_is_begun(results: Any) -> None:
    assert results["late"]["steps"]["clock"]["skipped"] == "no time is left"


def test_a_step_that_fails_loses_no_other_and_is_refuted(results: Any) -> None:
    broken = results["broken"]
    assert "unknown model 'nothing'" in broken["steps"]["events"]["error"]
    assert broken["steps"]["clock"]["probe_mhz"] == 1000.0
    assert prove_gpu.refuted(broken) == ["events"]


def test_commands_name_the_device_and_keep_to_the_time(results: Any) -> None:
    doctor, *_, tests, paper = results["commands"]
    assert doctor[1:] == ["-m", "profiler", "doctor", "--device", "sim:0", "--json"]
    assert tests[-2:] == ["-m", "gpu"]
    assert 0 < int(paper[paper.index("--time") + 1].removesuffix("s")) < 600


def test_a_command_that_takes_too_long_is_stopped() -> None:
    assert prove_gpu.shell(["sleep", "20"], 1.0)[0] == 124
    assert prove_gpu.shell(["sh", "-c", "echo out; exit 3"], 10.0) == (3, "out\n")


def a_wheel(folder: Path, name: str) -> Path:
    """The least that pip installs: a module of one line."""
    folder.mkdir(exist_ok=True)
    about, wheel = f"{name}-1.0.dist-info", folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(f"{name}.py", "found = True\n")
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")
    return wheel


def test_wheels_are_brought_beside_what_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    a_wheel(tmp_path / "wheels", "brought_for_a_proof")
    assert prove_gpu.bring(tmp_path / "wheels", tmp_path / "site") == ""
    asked = [sys.executable, "-c", "import brought_for_a_proof as it; print(it.__file__)"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.startswith(str(tmp_path / "site"))
    assert prove_gpu._has("brought_for_a_proof")


def test_wheels_that_cannot_be_brought_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "holds no wheel: fetch them elsewhere with python3 -m pip download" in prove_gpu.bring(tmp_path, tmp_path)
    (tmp_path / "torn-1.0-py3-none-any.whl").write_bytes(b"no zip")
    assert "pip cannot install" in prove_gpu.bring(tmp_path, tmp_path / "site")
    monkeypatch.setattr(prove_gpu, "_WHEELS_BYTES", 5)
    assert "can be brought: leave the largest out" in prove_gpu.bring(tmp_path, tmp_path / "site")


def test_what_is_missing_is_named_with_how_to_fetch_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prove_gpu.lacking() == []
    monkeypatch.setattr(prove_gpu, "_has", lambda name: name not in ("pydantic", "onnxruntime", "onnxruntime-gpu"))
    assert prove_gpu.lacking() == ["pydantic", "onnxruntime-gpu"]
    assert prove_gpu.unready(None, tmp_path).endswith("-d .whl pydantic, and give --wheels")
    monkeypatch.setattr(sys, "argv", ["prove_gpu", "--out", str(tmp_path / "proof")])
    assert prove_gpu.main() == 2
    assert "pydantic" in json.loads((tmp_path / "proof" / "prove.json").read_text())["error"]
