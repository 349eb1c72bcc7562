"""Runs in a process of its own, with the simulated accelerator loaded: the steps of the proof, as far as they go.

Usage: ``python tests/studies/proved.py LIBRARY``; prints what the proof found, as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.backends.simulator import Simulator

MS = 1_000_000


def main(library: Path) -> dict[str, Any]:
    sim = Simulator(library)
    time.perf_counter_ns = sim.clock

    from profiler.measure import reference, visit
    from tests.studies import prove_gpu

    visit.core_wait = lambda _threads: None
    reference._EDGE = 2
    prove_gpu._LOOK_NS = 50 * MS
    for name, ns in {"convolution": 5 * MS, "mm": 4 * MS, "sigmoid": 1000, "zero_": 10_000, "addmm": MS}.items():
        sim.cost(f"aten::{name}", ns)
    sim.tf32(4)
    model = Path(__file__).parents[1] / "measure" / "whole_visit.py"
    commands: list[list[str]] = []

    def command(words: list[str], _seconds: float) -> tuple[int, str]:
        commands.append(words)
        if "--out" in words:
            place = Path(words[words.index("--out") + 1])
            place.mkdir()
            fits = prove_gpu._HUGE not in words
            (place / "cases.csv").write_text(f"batch,status\n{'300,ok' if fits else '8192,oom'}\n")
        return 0, json.dumps({"findings": [{"check": "device", "status": "pass"}]})

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        proof = prove_gpu.Proof(
            "sim:0", Path(folder), lambda function, argument: function(argument), command, processes=3, visit_s=0.2,
            networks=(f"{model}:wide", f"{model}:many"), trained=f"{model}:ten", held=contextlib.nullcontext,
        )  # fmt: skip
        found = prove_gpu.prove(proof)
        small = prove_gpu.events(proof.case(f"{model}:many"))
        kept = json.loads((Path(folder) / "prove.json").read_text())
        cut = _cut_in_spread(proof)
        late = prove_gpu.prove(prove_gpu.Proof("sim:0", Path(folder), proof.call, command, seconds=0), ("clock",))
        nothing = prove_gpu.Proof("sim:0", Path(folder), proof.call, command, networks=("nothing",))
        broken = prove_gpu.prove(nothing, ("clock", "events"))
    others = {*prove_gpu.wheels.GROUPS["profiler run"].values(), "PIL", "jinja2"}
    answers = {
        "imported": sorted(others & sys.modules.keys()),
        "found": found,
        "kept": kept,
        "small": small,
        "cut": cut,
        "late": late,
        "broken": broken,
        "commands": commands,
    }
    return answers | {"refuted": prove_gpu.refuted(found)}


def _cut_in_spread(proof: Any) -> dict[str, Any]:
    """What stands in the file where visits of the step ``spread`` are cut after the second."""
    from tests.studies import prove_gpu

    visited: list[object] = []
    kept: dict[str, Any] = {}

    def interrupted(function: Any, argument: Any) -> Any:
        if function is prove_gpu.spread_visit:
            visited.append(argument)
            if len(visited) > 2:
                kept.update(json.loads((proof.out / "prove.json").read_text()))
                raise prove_gpu.SkippedError("cut")
        return function(argument)

    again = prove_gpu.Proof(proof.device, proof.out, interrupted, proof.command, networks=proof.networks, visit_s=0.1)
    prove_gpu.prove(again, ("spread",))
    return kept


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1])), default=str))
