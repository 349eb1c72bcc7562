"""Real session code on a simulated accelerator whose device times are known; and bugs planted to be found.

Everything here is simulated. The scenarios run once, in a process of their own: see ``simulated.py``.
"""

from pathlib import Path

import pytest

from profiler import backends
from profiler.backends.base import Placement
from tests.backends.simulator import L2_BYTES, results_of

SCENARIOS = Path(__file__).parent / "simulated.py"


@pytest.fixture(scope="module")
def results():
    return results_of(SCENARIOS)


def failed(results, bench):
    return {check for check, found in results["checks"][bench].items() if found["status"] == "fail"}


def test_the_device_checks_accept_it(results):
    assert results["unavailable"][:2] == [None, None]
    assert "there is no sim:2, the devices are sim:0, sim:1" in results["unavailable"][2]


@pytest.mark.parametrize("backend", ["eager", "torchscript"])
@pytest.mark.parametrize("how", ["host_ns", "beside_another_ns"])
def test_the_known_time_is_recovered(how, backend, results):
    assert results[backend][how] == pytest.approx(results["forward_ns"], rel=0.05)


@pytest.mark.parametrize("backend", ["eager", "torchscript"])
def test_events_recover_the_known_time(backend, results):
    times = results[backend]["device_ns"]
    assert len(times) == 5
    assert times == pytest.approx([results["forward_ns"]] * 5, rel=0.05)


@pytest.mark.parametrize("backend", ["eager", "torchscript"])
def test_a_session_that_forgets_to_wait_is_far_off(backend, results):
    """What the two tests above are worth: without the wait they are red."""
    assert results[backend]["unsynchronised_ns"] < 0.05 * results["forward_ns"]


def test_events_time_each_layer_once_the_device_has_them_all(results):
    """The first turns are repeated: the device waited for the host in them, as ``_HELD_CYCLES`` was made too small."""
    found = results["layered"]
    assert len(found["forwards"]) == 3
    for one in found["forwards"]:
        assert {name.split()[0] for name in one} == {"0", "1", "2", "3", "4", "5", "6"}
        assert one["0 conv2d"] == pytest.approx(5_000_000, rel=0.05)
        assert one["3 conv2d"] == pytest.approx(5_000_000, rel=0.05)
        assert one["6 linear"] == pytest.approx(2_000_000, rel=0.05)
        assert sum(one.values()) == pytest.approx(results["forward_ns"], rel=0.05)
    assert found["whole"] == pytest.approx([sum(one.values()) for one in found["forwards"]])


def test_layers_whose_times_hold_waits_for_the_host_say_so(results):
    assert results["layered"]["waited"] == [False, True]


def test_flushing_the_cache_is_not_timed(results):
    found = results["cold"]
    assert found["cold"] is True
    assert found["device_ns"] == pytest.approx([results["forward_ns"]] * 3, rel=0.05)
    assert found["busy_ns"] == 3 * 11 * results["forward_ns"]


def test_events_time_onnxruntime_in_the_stream_that_it_shares_with_torch(results):
    found = results["shared_stream"]
    assert found["is_torchs"] is True
    assert found["is_the_default"] is False
    assert found["device_ns"] == pytest.approx([results["forward_ns"]] * 3, rel=0.05)
    assert found["later_ns"] == pytest.approx([results["forward_ns"]] * 3, rel=0.05)
    assert found["is_given_back"] is True


def test_the_reference_runs_in_the_shared_stream(results):
    """It holds one matrix product, which takes as long as a forward here."""
    assert results["shared_stream"]["reference_ns"] == pytest.approx([results["forward_ns"]], rel=0.1)


def test_a_runtime_that_works_in_another_stream_is_far_off(results):
    """What the tests above are worth; so without the provider's word for the stream there is no time by events."""
    assert max(results["shared_stream"]["elsewhere_ns"]) < 0.05 * results["forward_ns"]
    assert results["shared_stream"]["unconfirmed_ns"] == []


def test_onnxruntime_finds_a_cold_cache_where_that_is_asked(results):
    """The flush is in its stream, ahead of each forward, and no part of its time."""
    found = results["shared_stream"]["cold"]
    assert found["ns"] == pytest.approx([results["forward_ns"]] * 3, rel=0.05)
    assert found["busy_ns"] == 3 * 11 * results["forward_ns"]
    assert found["bytes"] == 3 * 2 * L2_BYTES


def test_nobody_reads_what_the_device_has_not_written_yet(results):
    """Submitting returns long before; until then the memory holds no number."""
    found = results["races"]
    assert found["waited"] < 1e-5
    assert found["outputs"] < 1e-5
    assert found["runtime"] == [[2.0, 2.0], [2.0, 2.0]]


def test_whoever_does_not_wait_reads_what_was_there_before(results):
    """What the test above is worth."""
    found = results["races"]
    assert (found["unwaited"], found["unwaited_copy"], found["unwaited_runtime"]) == (True, True, True)


@pytest.mark.parametrize("backend", ["eager", "torchscript"])
def test_rows_say_that_they_are_simulated(backend, results):
    assert results[backend]["simulated"] is True
    assert results[backend]["device_name"] == "simulated accelerator"
    assert results[backend]["difference"] < 1e-6


def test_a_sound_device_fails_no_check(results):
    found = {check: finding["status"] for check, finding in results["checks"]["SimBench"].items()}
    assert found == {
        "events scale": "pass",
        "events match the host": "pass",
        "asynchronous": "pass",
        "memory peak": "pass",
        "products scale": "pass",
        "graph": "unverifiable",
        "identity": "pass",
        "own process": "unverifiable",
        "driver sees memory": "pass",
        "load is seen": "pass",
    }


@pytest.mark.parametrize(
    ("bug", "red"),
    [
        ("ForgetsToWait", {"events match the host", "asynchronous", "products scale"}),
        ("WrongStream", {"events match the host"}),
        ("ReadsEarly", {"events scale", "events match the host"}),
        ("KeepsPeak", {"memory peak"}),
        ("Blocks", {"asynchronous"}),
        ("WrongGraph", {"graph"}),
        ("BlindDriver", {"identity", "driver sees memory", "load is seen"}),
    ],
)
def test_a_planted_bug_turns_its_checks_red(bug, red, results):
    assert failed(results, bug) == red


def test_the_energy_of_a_whole_gpu_says_nothing_of_a_partition(results):
    """A slice of a seventh at work raises it by less than its neighbours may."""
    found = results["checks"]["Partition"]["load is seen"]
    assert found["status"] == "unverifiable"
    assert "of the whole GPU" in found["said"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("eager:cuda_graph=1", "cuda_graph=1 needs a CUDA device"),
        ("eager:cold=1", "cold=1 needs a device with events"),
        ("torchscript:cold=1", "cold=1 needs a device with events"),
        ("onnxruntime:cold=1", "cold=1 needs a device with events"),
        ("onnxruntime:cuda_graph=1", "cuda_graph=1 needs a CUDA device"),
    ],
)
def test_options_of_a_device_are_refused_on_the_cpu(spec, words):
    assert words in backends.get(spec).unavailable(Placement("cpu"))


def test_options_of_inference_are_refused_for_training():
    assert "leave them out to train" in backends.get("eager:cuda_graph=1").untrainable(Placement("cuda"))


def test_without_a_driver_its_checks_say_why(results):
    assert not failed(results, "NoDriver")
    for check in ("identity", "own process", "driver sees memory", "load is seen"):
        assert results["checks"]["NoDriver"][check]["said"] == "no driver is simulated"
