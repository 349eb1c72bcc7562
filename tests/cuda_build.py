"""CUDA builds of torch and ONNX Runtime on a machine without a GPU: ``tox run -e cuda-build``.

Every command must fail with the right sentence, none may fall back to the CPU, and the CPU must still work. Not part of
the default suite: the CUDA builds are several gigabytes.
"""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from profiler.backends import devices

ROOT = Path(__file__).parents[1]
MODEL = ("--model", "regnety_200mf", "--rounds", "1", "--visit", "0.1s", "--timeout", "120s")
#: The first thing that is missing on a machine without a driver, or in a container without its devices.
NO_GPU = r"libcuda.so.1 cannot be loaded", "/dev/nvidiactl does not exist"


@pytest.fixture(scope="module", autouse=True)
def a_cuda_build_without_a_gpu():
    if torch.version.cuda is None:
        pytest.skip(f"torch {torch.__version__} is no CUDA build: install one")
    if devices.unavailable("cuda") is None:
        pytest.skip("there is a GPU here: run tests/test_gpu.py")


def profiler(*arguments, folder, **environment):
    command = [sys.executable, "-m", "profiler", *arguments]
    found = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, cwd=folder, env=found, capture_output=True, text=True, check=False)


def table(folder):
    (file,) = folder.glob("out/*.csv")
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def said_it(text):
    flat = " ".join(text.split())
    return any(words in flat for words in NO_GPU)


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_doctor(device, tmp_path):
    done = profiler("doctor", "--device", device, "--json", folder=tmp_path)
    assert done.returncode == 1
    assert said_it(done.stdout)
    assert "Traceback" not in done.stderr


def test_calibrate(tmp_path):
    done = profiler("calibrate", "--device", "cuda", folder=tmp_path)
    assert done.returncode == 2
    assert said_it(done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("backend", ["eager", "torchscript", "onnxruntime", "eager:cuda_graph=1"])
def test_run_leaves_a_row_with_the_reason(backend, tmp_path):
    done = profiler("run", *MODEL, "--device", "cuda", "--backend", backend, "--out", "out", folder=tmp_path)
    assert done.returncode == 1
    (row,) = table(tmp_path)
    assert row["status"] == "unsupported"
    assert said_it(row["reason"])
    assert row["latency_ms"] == ""


def test_hidden_devices_are_named_first(tmp_path):
    done = profiler("doctor", "--device", "cuda", "--json", folder=tmp_path, CUDA_VISIBLE_DEVICES="-1")
    assert "CUDA_VISIBLE_DEVICES is '-1' and hides every GPU" in done.stdout


def test_the_cpu_still_works(tmp_path):
    done = profiler("run", *MODEL, "--backend", "eager,onnxruntime", "--out", "out", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {row["status"] for row in table(tmp_path)} <= {"ok", "unstable"}
    assert all(float(row["latency_ms"]) > 0 for row in table(tmp_path))
