"""What the ablation replays: every visit of four recorded runs, by block, in files small enough for git.

A row of ``results/studies/ablation/visits_*.csv`` is a visit of a row of ``networks.csv``, counted from 0, on a
backend, by its first letter. ``samples`` are times of single forwards, in thousandths of the fastest of the visit and
above it; ``unit_ns`` is one such thousandth; blocks are apart by ``;``. ``reference`` are medians of the blocks of the
reference, in thousandths above its nominal time, one more than there are blocks of samples. ``crowded`` are the blocks
whose threads waited for a core for more than a twentieth of their time. A run's visits are in the order in which they
were made.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.studies import lab

FOLDER = lab.RESULTS / "ablation"
BACKENDS = {name[0]: name for name in ("eager", "torchscript", "onnxruntime")}
#: Share of a block's time that its threads waited for a core, from which on it is marked: CROWDED when it was recorded.
WAITED = 0.05

#: Network, scaling, factor, backend.
Key = tuple[str, str, float, str]


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit.

    Attributes:
        samples: Blocks of times of single forwards, in ns.
        reference: Median of each block of the reference over its nominal time.
        had_cores: Whether the threads of each block of samples had their cores.
    """

    samples: tuple[tuple[float, ...], ...]
    reference: tuple[float, ...]
    had_cores: tuple[bool, ...]


def networks() -> list[tuple[str, str, float, dict[str, int]]]:
    """Return network, scaling, factor and counts of each network of the runs."""
    with (FOLDER / "networks.csv").open(newline="", encoding="utf-8") as file:
        return [
            (row.pop("model"), row.pop("scaling"), float(row.pop("factor")), {name: int(n) for name, n in row.items()})
            for row in csv.DictReader(file)
        ]


def read(name: str) -> dict[Key, list[Visit]]:
    """Return the visits of a recorded run by case, in the order in which they were made."""
    known = [row[:3] for row in networks()]
    found: defaultdict[Key, list[Visit]] = defaultdict(list)
    with (FOLDER / f"visits_{name}.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            unit = float(row["unit_ns"])
            samples = tuple(tuple(unit * (1000 + int(s)) for s in block.split()) for block in row["samples"].split(";"))
            crowded = set(map(int, row["crowded"].split()))
            found[(*known[int(row["network"])], BACKENDS[row["backend"]])].append(
                Visit(
                    samples,
                    tuple(1 + int(r) / 1000 for r in row["reference"].split()),
                    tuple(i not in crowded for i in range(len(samples))),
                )
            )
    return dict(found)


def write(journal: Path, name: str, without: Sequence[str] = ()) -> None:
    """Make the file of a run from its journal, but for networks whose names begin with one of ``without``."""
    known = [row[:3] for row in networks()]
    rows = []
    for line in journal.read_text(encoding="utf-8").splitlines():
        record = json.loads(line).get("record")
        if record and "samples_ns" in record["outcome"] and not record["case"]["model"].startswith(tuple(without)):
            case = record["case"]
            network = known.index((case["model"], case["scaling"], case["factor"]))
            rows.append({"network": network, "backend": case["backend"][0]} | _row(record["outcome"]))
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"visits_{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _row(outcome: dict[str, Any]) -> dict[str, object]:
    calls, nominal = outcome["calls_per_sample"], outcome["nominal_ns"]
    blocks = outcome["samples_ns"]
    unit = max(1, round(min(map(min, blocks)) / calls / 1000))
    waits = outcome.get("core_wait_ns") or [0] * len(blocks)
    return {
        "unit_ns": unit,
        "samples": ";".join(" ".join(str(round(s / calls / unit) - 1000) for s in block) for block in blocks),
        "reference": " ".join(str(round(1000 * median(block) / nominal) - 1000) for block in outcome["reference_ns"]),
        "crowded": " ".join(
            str(i) for i, (wait, block) in enumerate(zip(waits, blocks, strict=True)) if wait > WAITED * sum(block)
        ),
    }
