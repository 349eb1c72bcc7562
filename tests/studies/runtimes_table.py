"""The tables of docs/how-to/runtimes.md that are measured, from the files that the study of runtimes leaves."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean

from tests.studies import lab

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "runtimes.md"
Row = dict[str, str]


def rows(name: str) -> list[Row]:
    with (lab.RESULTS / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _short(backend: str) -> str:
    return backend.replace("onnxruntime:quantize=", "int8 ").replace("openvino:quantize=static", "openvino int8")


def _range(value: str, low: str, high: str) -> str:
    said = f"{float(value):.2f}"
    return f"{said} [{float(low):.2f}, {float(high):.2f}]" if low and high else said


def speed_ups() -> str:
    """How many times as fast as eager each backend is, a line for each model and number of threads."""
    found = {(row["model"], row["threads"], row["backend"]): row for row in rows("runtimes")}
    backends = list(dict.fromkeys(backend for *_, backend in found if backend != "eager"))

    def cell(row: Row | None) -> str:
        if row is None or not row["latency_ms"]:
            return row["status"] if row else ""
        return _range(row["speed_up"], row["speed_up_low"], row["speed_up_high"])

    body = [
        [
            model,
            threads,
            f"{float(found[model, threads, 'eager']['latency_ms']):.3g} ms",
            *(cell(found.get((model, threads, backend))) for backend in backends),
        ]
        for model, threads in dict.fromkeys((model, threads) for model, threads, _ in found)
    ]
    return _table(["model", "threads", "eager", *map(_short, backends)], body)


def agreement() -> str:
    """How near int8 is to fp32, and what computes in it."""

    def number(row: Row, name: str) -> str:
        return f"{float(row[name]):.3g}" if row[name] else ""

    names = ("relative_error", "cosine", "top1_agreement", "nodes_int8", "nodes_float", "nodes_converting")
    head = [
        "model",
        "",
        "relative error",
        "cosine",
        "top-1 agreement",
        "in int8",
        "in floats",
        "converting",
        "most of the time",
    ]
    body = [
        [row["model"], _short(row["backend"]), *(number(row, name) for name in names), row["time_most"] or ""]
        if row["status"] in ("ok", "unstable")
        else [row["model"], _short(row["backend"]), row["status"], *[""] * 6]
        for row in rows("runtimes_int8")
    ]
    return _table(head, body)


def slower() -> str:
    """Where int8 is surely slower than the same runtime in fp32, on one thread, and what its time goes to."""
    told = {(row["model"], row["backend"]): row for row in rows("runtimes_int8")}
    timed = {(row["model"], row["backend"]): row for row in rows("runtimes") if row["threads"] == "1"}
    body = []
    for (model, backend), row in timed.items():
        whole, nodes = timed.get((model, backend.partition(":")[0])), told.get((model, backend))
        known = whole and nodes and row["speed_up_high"] and whole["speed_up_low"]
        if ":quantize" not in backend or not known or float(row["speed_up_high"]) >= float(whole["speed_up_low"]):
            continue
        counts = [f"{float(nodes[f'nodes_{kind}']):.0f}" for kind in ("int8", "float", "converting")]
        ratio = f"{float(row['speed_up']) / float(whole['speed_up']):.2f}"
        body.append([model, _short(backend), ratio, *counts, nodes["time_most"]])
    head = ["model", "", "times as fast as fp32", "in int8", "in floats", "converting", "most of the time"]
    return _table(head, sorted(body, key=lambda line: float(line[2])))


def tools() -> str:
    """Our latency over that of the runtime's own tool."""
    parts: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows("runtimes_tools"):
        parts.setdefault((row["model"], row["backend"], row["threads"]), []).append(row)
    body = []
    for key, part in parts.items():
        theirs = fmean(float(row["theirs_ms"]) for row in part)
        over = [[math.log(float(row[way]) / float(row["theirs_ms"])) for row in part] for way in ("raw_ms", "ours_ms")]
        body.append([*key, str(len(part)), f"{theirs:.3g} ms", *map(_with_interval, over)])
    head = ["model", "runtime", "threads", "pairs", "its own tool", "our clock over it", "our headline over it"]
    return _table(head, sorted(body))


def _with_interval(logs: Sequence[float]) -> str:
    from scipy.special import stdtrit

    if len(logs) < 2:
        return f"{math.exp(logs[0]):.3f}"
    spread = math.sqrt(sum((log - fmean(logs)) ** 2 for log in logs) / (len(logs) - 1))
    half = float(stdtrit(len(logs) - 1, 0.975)) * spread / math.sqrt(len(logs))
    low, high = (math.exp(fmean(logs) + end) for end in (-half, half))
    return f"{math.exp(fmean(logs)):.3f} [{low:.3f}, {high:.3f}]"


def compiled() -> str:
    """Eight compilations of one model: the mean of each."""
    parts: dict[str, list[Row]] = {}
    for row in rows("runtimes_compiled"):
        parts.setdefault(row["compilation"], []).append(row)
    means = {key: math.exp(fmean(math.log(float(row["ms"])) for row in part)) for key, part in parts.items()}
    whole = math.exp(fmean(map(math.log, means.values())))
    took = [float(part[0]["compile_s"]) for part in parts.values()]
    body = [
        ["latency over the mean of all", *(f"{mean / whole:.3f}" for mean in means.values())],
        ["compile_s", *(f"{seconds:.0f}" for seconds in took)],
    ]
    return _table(["compilation", *(str(number + 1) for number in range(len(means)))], body)


def asked() -> str:
    """The same question by several tools: what one types and writes, how long it takes, what is told."""

    def row(found: Row) -> list[str]:
        ran = bool(found["whole_s"])
        seconds = [f"{float(found[name]):.1f} s" if found[name] else "" for name in ("first_s", "whole_s")]
        told = [found[f"{name}_ms"] for name in ("eager", "onnxruntime")]
        figures = [f"{float(each):.3g} ms" if each else "" for each in told]
        typed = f"`{found['typed']}`" if ran else ""
        return [
            found["tool"],
            typed,
            found["lines"] if ran else "",
            *seconds,
            *figures,
            found["interval"],
            found["note"],
        ]

    head = ["tool", "one types", "lines", "first figure", "whole", "eager", "ONNX Runtime", "interval", "beside"]
    return _table(head, map(row, rows("tools")))


#: What makes each table of the page, and the files that it is made from.
TABLES: dict[str, tuple[Callable[[], str], tuple[str, ...]]] = {
    "runtimes": (speed_ups, ("runtimes",)),
    "runtimes_int8": (agreement, ("runtimes_int8",)),
    "runtimes_slower": (slower, ("runtimes", "runtimes_int8")),
    "runtimes_tools": (tools, ("runtimes_tools",)),
    "runtimes_compiled": (compiled, ("runtimes_compiled",)),
    "tools": (asked, ("tools",)),
}


def measured(name: str) -> bool:
    """Whether the files are there that a table is made from."""
    return all((lab.RESULTS / f"{file}.csv").exists() for file in TABLES[name][1])


def filled(page: str) -> str:
    """Return the page with its tables made anew; one whose file is not there stays as it is."""
    for name, (table, _) in TABLES.items():
        if measured(name):
            made = f"<!-- {name} -->\n{table()}\n<!-- end -->"
            page = re.sub(rf"<!-- {name} -->\n.*?<!-- end -->", lambda _, made=made: made, page, flags=re.DOTALL)
    return page


def write() -> None:
    """Put the tables into the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
