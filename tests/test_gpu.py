"""The GPU path on a real CUDA device: ``tox run -e gpu``. Skipped with the device check's own sentence elsewhere."""

import json
import statistics

import pytest
from typer.testing import CliRunner

from profiler.backends import accelerator, devices
from profiler.backends.base import Placement
from profiler.cli.app import app
from profiler.machine import nvml
from profiler.machine.host_checks import NETWORK
from profiler.measure.visit import Task, visit
from profiler.records.types import Budget, Case, Failure, Measurement
from profiler.run.child import Limits
from profiler.run.processes import LocalExecutor

pytestmark = pytest.mark.gpu

DEVICE = "cuda:0"
BACKENDS = ("eager", "torchscript", "onnxruntime", "eager:cuda_graph=1")
BUDGET = Budget(visit_s=2.0, warmup_s=3.0, rounds=1)


@pytest.fixture(scope="module", autouse=True)
def usable():
    reason = devices.unavailable(DEVICE)
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def executor():
    opened = LocalExecutor()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def visited(executor):
    """One visit per backend, in a fresh process each."""
    cases = {name: Case(NETWORK, "", 1.0, name, Placement(DEVICE)) for name in BACKENDS}
    tasks = {name: Task(case, BUDGET, None, None) for name, case in cases.items()}
    replies = {name: executor.call(visit, task, 300.0, Limits()) for name, task in tasks.items()}
    return {name: getattr(reply, "outcome", reply) for name, reply in replies.items()}  # a crash is a bare Failure


def test_doctor_accepts_the_gpu():
    answer = json.loads(CliRunner().invoke(app, ["doctor", "--device", DEVICE, "--json"]).stdout)
    findings = {found["check"]: found for found in answer["findings"]}
    # The host may be noisy; what is said of the GPU must hold all the same.
    host = {"noise", "clock resolution", "free disk", "reference"}
    assert not [found for check, found in findings.items() if found["status"] == "fail" and check not in host]
    assert findings["events match the host"]["status"] == "pass"
    assert findings["memory peak"]["status"] == "pass"
    assert answer["settings_note"] is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_visit_measures(backend, visited):
    assert isinstance(visited[backend], Measurement), visited[backend]


@pytest.mark.parametrize("backend", BACKENDS)
def test_time_by_events_is_no_more_than_time_by_the_host(backend, visited):
    measured = visited[backend]
    host = statistics.median(ns / measured.calls_per_sample for block in measured.samples_ns for ns in block)
    assert 0 < statistics.median(measured.device_ns) < 1.1 * host


def test_a_graph_is_no_slower_than_launches(visited):
    graph, eager = (min(visited[name].device_ns) for name in ("eager:cuda_graph=1", "eager"))
    assert graph < 1.1 * eager


def test_every_node_of_onnxruntime_is_on_cuda(visited):
    facts = visited["onnxruntime"].facts
    assert facts["provider"] == "CUDAExecutionProvider"
    assert facts.get("nodes_CPUExecutionProvider", 0) == 0
    assert facts["provider_has_user_compute_stream"] == "1"


def test_the_visit_watched_its_gpu(visited):
    conditions = visited["eager"].conditions
    assert conditions.gpu_note is None
    assert conditions.gpu_readings >= 5
    with nvml.library():
        assert nvml.identify(accelerator.uuid(DEVICE)).name == visited["eager"].facts["device_name"]


def test_a_device_that_is_not_there_is_a_failure_never_the_cpu(executor):
    task = Task(Case(NETWORK, "", 1.0, "eager", Placement("cuda:99")), BUDGET, None, None)
    outcome = executor.call(visit, task, 300.0, Limits()).outcome
    assert isinstance(outcome, Failure)
    assert "there is no cuda:99" in outcome.reason
