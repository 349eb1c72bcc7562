"""The proof for a real GPU, step by step on the simulated one, so that it works the first time."""

from __future__ import annotations

import json
import re
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from profiler.records.types import Failure
from tests import ROOT
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
    assert "mode=reduce-overhead replays CUDA graphs" in steps["compiled"]["skipped"]


def test_tf32_costs_a_quarter_and_the_parts_of_a_step_add_up_to_it(steps: Any) -> None:
    assert steps["precision tf32"]["ns"] == {"fp32": 10_000_000, "tf32": 2_500_000}
    assert sum(steps["training"]["parts_ns"].values()) == steps["training"]["step_ns"] > 0


def test_beside_a_full_device_a_huge_batch_fails_and_the_largest_is_found(steps: Any) -> None:
    assert steps["near full"]["claims"] == {"a huge batch is oom": True, "the largest batch is above 1": True}


def test_what_was_found_is_kept_after_each_step(results: Any) -> None:
    assert results["kept"]["steps"].keys() == results["found"]["steps"].keys()


def test_a_cut_in_the_middle_of_a_step_leaves_what_it_had_found(results: Any) -> None:
    spread = results["cut"]["steps"]["spread"]
    assert spread["unfinished"] is True
    assert [len(visits) for visits in spread["visits"].values()] == [1, 1]
    assert "unfinished" not in results["found"]["steps"]["spread"]


def test_without_time_nothing_is_begun(results: Any) -> None:
    assert results["late"]["steps"]["clock"]["skipped"] == "no time is left"


def test_a_step_that_fails_loses_no_other_and_is_refuted(results: Any) -> None:
    broken = results["broken"]
    assert "unknown model 'nothing'" in broken["steps"]["events"]["error"]
    assert broken["steps"]["clock"]["probe_mhz"] == 1000.0
    assert prove_gpu.refuted(broken) == ["events"]


def test_commands_name_the_device_and_keep_to_the_time(results: Any) -> None:
    doctor, _huge, _largest, tests, paper, *_ = results["commands"]
    assert doctor[1:] == ["-m", "profiler", "doctor", "--device", "sim:0", "--json"]
    assert tests[3:] == ["-q", "-m", "gpu", *prove_gpu.GPU_TESTS]
    assert 0 < int(paper[paper.index("--time") + 1].removesuffix("s")) < 600


def test_a_command_that_takes_too_long_is_interrupted_and_may_say_what_it_has() -> None:
    heard = "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)"  # whoever ignores it
    waits = "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('kept')"
    assert prove_gpu.shell([sys.executable, "-c", f"{heard}\n{waits}"], 2.0) == (124, "kept\n")
    assert prove_gpu.shell(["sh", "-c", "echo out; echo wrong >&2; exit 3"], 10.0) == (3, "out\nwrong\n")


def test_a_command_that_does_not_hear_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove_gpu, "_STOP_S", 5.5)
    assert prove_gpu.shell(["sh", "-c", "trap '' INT; sleep 20 & wait"], 1.0)[0] == 124


def test_the_paper_runs_a_backend_after_the_other_while_there_is_time(tmp_path: Path) -> None:
    asked: list[str] = []

    def command(words: list[str], _seconds: float) -> tuple[int, str]:
        asked.append(words[words.index("--backend") + 1])
        proof.seconds -= 30
        place = Path(words[words.index("--out") + 1])
        place.mkdir()
        (place / "cases.csv").write_text("batch,status\n64,ok\n64,ok\n")
        return 124, ""

    proof = prove_gpu.Proof("sim:0", tmp_path, lambda *_: None, command, seconds=100.0)
    assert prove_gpu.paper(proof) == {"rows": {"eager": 2, "torchscript": 2}, "claims": {"paper has a row": True}}
    with pytest.raises(prove_gpu.SkippedError, match="no time is left"):
        prove_gpu.paper(proof)


def test_a_step_that_the_end_cuts_is_not_refuted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def call(self, function: Any, _argument: Any, seconds: float, _limits: object) -> Any:
            return None if function is prove_gpu.unusable else Failure("timeout", f"no result within {seconds:g} s")

        def close(self) -> None:
            pass

    monkeypatch.setattr("profiler.run.processes.LocalExecutor", Slow)
    given = ["prove_gpu", "--out", str(tmp_path), "--steps", "clock", "--seconds"]
    for seconds, code in (("100", 0), ("600", 1)):
        monkeypatch.setattr(sys, "argv", [*given, seconds])
        assert prove_gpu.main() == code
    assert "no result within 180 s" in json.loads((tmp_path / "prove.json").read_text())["steps"]["clock"]["error"]


def test_a_device_that_cannot_be_used_ends_it_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["prove_gpu", "--device", "cuda:99", "--out", str(tmp_path / "proof")])
    assert prove_gpu.main() == 2
    assert "--device cpu" in json.loads((tmp_path / "proof" / "prove.json").read_text())["error"]


def test_a_step_whose_packages_did_not_come_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        prove_gpu.wheels.GROUPS, "profiler run", {"nothing-like-it": "nothing_like_it", "numpy": "numpy"}
    )
    with pytest.raises(prove_gpu.SkippedError, match="profiler run needs nothing-like-it, which this Python does not"):
        prove_gpu.near_full(prove_gpu.Proof("sim:0", Path(), lambda *_: None, lambda *_: (0, "")))


def test_doctor_may_find_the_host_noisy_and_nothing_else() -> None:
    def claim(*checks: str) -> Any:
        findings = [{"check": check, "status": "fail"} for check in checks]
        said = (1, f"a notice\n{json.dumps({'findings': findings})}\na warning of Python's")
        return prove_gpu.doctor(prove_gpu.Proof("sim:0", Path(), lambda *_: None, lambda *_: said))["claims"]

    assert claim("noise") == {"doctor passes but for noise": True}
    assert claim("noise", "memory peak") == claim() == {"doctor passes but for noise": False}
    cut = prove_gpu.Proof("sim:0", Path(), lambda *_: None, lambda *_: (124, "Compiling"))
    assert prove_gpu.doctor(cut)["claims"] == {"doctor passes but for noise": None}


@pytest.mark.parametrize(
    ("told", "answer"),
    [([(300.0, 20), (0.0, 40), (50.0, 10)], (35_000.0, 3.0)), ([(0.0, 40)], (None, 0.0)), ([], (None, 0.0))],
)
def test_kernels_are_what_takes_time_on_the_device(told: Any, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Microseconds of ten forwards and how many; a container may not look, and then nothing is said."""
    averages = [SimpleNamespace(self_device_time_total=us, count=count) for us, count in told]
    looked = SimpleNamespace(key_averages=lambda: averages)
    monkeypatch.setattr("torch.profiler.profile", lambda activities: nullcontext(looked))
    assert prove_gpu._kernel_ns(SimpleNamespace(run=lambda: None, sync=lambda: None)) == answer


def test_tests_that_were_all_skipped_prove_nothing() -> None:
    def claim(code: int, said: str) -> Any:
        answer = prove_gpu.gpu_tests(prove_gpu.Proof("sim:0", Path(), lambda *_: None, lambda *_: (code, said)))
        return answer["claims"]["pytest -m gpu"]

    assert claim(0, "25 skipped, 90 deselected in 2.31s") is None
    assert (claim(0, "20 passed, 5 skipped in 2.31s"), claim(1, "25 failed in 2.31s"), claim(4, "")) == (
        True,
        False,
        False,
    )


def test_the_steps_import_nothing_that_need_not_be_brought(results: Any) -> None:
    assert results["imported"] == []


def test_the_files_with_tests_for_a_gpu_are_those_that_are_run() -> None:
    marks = re.compile(r"^(@|pytestmark = )pytest\.mark\.gpu\b", re.MULTILINE)
    files = (ROOT / "tests").rglob("test_*.py")
    marked = [path for path in files if marks.search(path.read_text(encoding="utf-8"))]
    assert sorted(marked) == sorted(ROOT / name for name in prove_gpu.GPU_TESTS)
