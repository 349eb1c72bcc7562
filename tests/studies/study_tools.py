"""The same question asked of several tools: how fast is resnet50 here, in eager and in ONNX Runtime?

Each tool is run as its user would run it, in a terminal, and what it takes to type is counted. They take turns, and a
row is the median of its three: a machine that others share is another one a minute later. timm's benchmark.py is no
part of its package: PROFILER_TIMM_BENCHMARK names a copy. A tool that is not here is a row that says so.
"""

from __future__ import annotations

import importlib.util
import math
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import pandas as pd

from tests.studies import lab, runtimes_table

_NETWORK = "resnet50"
_TURNS = 3
#: A module that makes torchvision importable where its library does not fit torch; no part of what a user writes.
_SHIM = "import tvshim\n" if importlib.util.find_spec("tvshim") else ""
_LOAD = "import timm, torch\nmodel, x = timm.create_model('resnet50').eval(), torch.randn(1, 3, 224, 224)\n"
_TIMER = f"""{_LOAD}from torch.utils.benchmark import Timer
with torch.inference_mode():
    timer = Timer("model(x)", globals=globals(), num_threads=torch.get_num_threads())
    print(timer.blocked_autorange(min_run_time=2))
"""
_LOOP = f"""{_LOAD}import time, onnxruntime, numpy
torch.onnx.export(model, (x,), "net.onnx", dynamo=False, input_names=["x"])
session, given = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"]), dict(x=x.numpy())
seconds = []
while sum(seconds) < 2:
    start = time.perf_counter()
    session.run(None, given)
    seconds.append(time.perf_counter() - start)
print("onnxruntime", 1000 * numpy.median(seconds[5:]), "ms")
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """One tool, what one types or writes for it, and what it answers.

    Attributes:
        tool: Its name.
        typed: The command.
        lines: Of a program that one writes first.
        figure: What a figure looks like in what it prints, by runtime; the first group is milliseconds.
        interval: Whether it says how sure the figure is; empty where it was not run.
        note: What it leaves unsaid.
    """

    tool: str
    typed: str
    lines: int
    figure: Mapping[str, str]
    interval: str
    note: str


#: A latency has its interval behind it; other tables have durations too.
_OURS = {runtime: rf"\b{runtime}\s+([0-9.]+) ms \[" for runtime in ("eager", "onnxruntime")}
_TIMM = "python benchmark.py --model resnet50 --bench inference --device cpu -b 1 --img-size 224"
_LATENCY = f"profiler latency {_NETWORK}"
_BESIDE = "p90, memory, speed-up, cold start, parity"
TOOLS = {
    "first": Asked("profiler latency, the first time", _LATENCY, 0, _OURS, "yes", _BESIDE),
    "again": Asked("profiler latency, again", _LATENCY, 0, _OURS, "yes", _BESIDE),
    "timm": Asked("timm's benchmark.py", _TIMM, 0, {"eager": r'"infer_step_time": ([0-9.]+)'}, "no", "no ONNX Runtime"),
    "timer": Asked(
        "torch's Timer",
        "python timer.py",
        len(_TIMER.splitlines()),
        {"eager": r"(?:Median:|\n) +([0-9.]+) ms"},
        "no",
        "quartiles; no ONNX Runtime",
    ),
    "loop": Asked(
        "a loop over InferenceSession.run",
        "python loop.py",
        len(_LOOP.splitlines()),
        {"onnxruntime": r"onnxruntime ([0-9.]+) ms"},
        "no",
        "no eager",
    ),
    "perf_test": Asked("onnxruntime_perf_test", "", 0, {}, "", "not in the wheel of onnxruntime: built from source"),
    "optimum": Asked(
        "optimum-benchmark",
        "",
        0,
        {},
        "",
        "0.6.0 does not load beside transformers 5; another was not tried",
    ),
}


def command(name: str, folder: Path) -> Sequence[str] | None:
    """What to run for a tool; None where it is not here."""
    if name in ("first", "again"):
        return [sys.executable, "-m", "profiler", "latency", _NETWORK]
    known = importlib.util.find_spec("timm") is not None
    if name in ("timer", "loop") and known:
        file = folder / f"{name}.py"
        file.write_text(_SHIM + {"timer": _TIMER, "loop": _LOOP}[name], encoding="utf-8")
        return [sys.executable, str(file)]
    script = os.environ.get("PROFILER_TIMM_BENCHMARK")
    if name == "timm" and known and script:
        given = ["benchmark.py", *TOOLS["timm"].typed.split()[2:]]
        run = f"{_SHIM}import runpy, sys\nsys.argv = {given!r}\nrunpy.run_path({script!r}, run_name='__main__')"
        return [sys.executable, "-c", run]
    return None


def told(command: Sequence[str], folder: Path) -> Iterator[tuple[float, str]]:
    """Run a command in a terminal of 200 columns; yield seconds since its start and all that it has printed by then."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "200", "TERM": "xterm"}
    start = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        said = ""
        with suppress(OSError):  # a terminal ends so
            while part := os.read(ours, 65536):
                said += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", part.decode(errors="replace"))
                yield time.perf_counter() - start, said
    os.close(ours)
    assert process.returncode == 0, said[-1000:]
    yield time.perf_counter() - start, said


def described(name: str) -> dict[str, object]:
    """What is known of a tool before it has run."""
    return {key: value for key, value in asdict(TOOLS[name]).items() if key != "figure"}


def asked(name: str, folder: Path) -> dict[str, float]:
    """What a tool took, and what it told; nothing where it is not here."""
    tool, run = TOOLS[name], command(name, folder)
    if run is None:
        return {}
    first, whole, said = math.nan, 0.0, ""
    for whole, said in told(run, folder):
        if math.isnan(first) and any(re.search(pattern, said) for pattern in tool.figure.values()):
            first = whole
    found = {
        f"{runtime}_ms": float(re.findall(pattern, said)[-1])
        for runtime, pattern in tool.figure.items()
        if re.search(pattern, said)
    }
    return {"first_s": first, "whole_s": whole} | found


def row_of(name: str, turns: Sequence[dict[str, float]]) -> dict[str, object]:
    """One row: medians over the turns of a tool."""
    row = described(name)
    if not turns[0]:
        return row | {
            "interval": "",
            "note": row["note"] if not row["typed"] else "not installed where this was measured",
        }
    return row | {key: f"{median(one[key] for one in turns):.3g}" for key in turns[0]}


def test_the_same_question_is_answered_sooner_and_with_less_typing(tmp_path: Path) -> None:
    folders = [tmp_path / str(turn) for turn in range(_TURNS)]
    for folder in folders:
        folder.mkdir()
    turns = [{name: asked(name, folder) for name in TOOLS} for folder in folders]
    frame = pd.DataFrame([row_of(name, [turn[name] for turn in turns]) for name in TOOLS])
    lab.RESULTS.mkdir(parents=True, exist_ok=True)
    frame.to_csv(lab.RESULTS / "tools.csv", index=False)
    runtimes_table.write()
    print(frame.to_string())
    ours = frame.set_index("tool").loc["profiler latency, again"]
    assert float(ours["first_s"]) < 6
    assert float(ours["whole_s"]) < 20
