"""The sections of the page that show a table of cases, as plain data for the template."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from profiler.analysis.fit import Fit
from profiler.analysis.frame import group_label, grouping, measured, network_names, plain, rows_of
from profiler.records.columns import interval_columns
from profiler.report.grid import Cell, Table

_DISTURBED = 1.10

# Column, heading, factor, digits: what the full table shows, where the column is there and holds something.
_COLUMNS = (
    ("latency_ms", "latency (ms)", 1.0, 4),
    ("top1", "top-1 (%)", 1.0, 4),
    ("latency_raw_ms", "raw (ms)", 1.0, 4),
    ("device_ms", "device (ms)", 1.0, 4),
    ("p99_ms", "p99 (ms)", 1.0, 4),
    ("throughput_per_s", "images/s", 1.0, 4),
    ("acts", "acts (M)", 1e-6, 4),
    ("flops", "flops (GF)", 1e-9, 4),
    ("params", "params (M)", 1e-6, 4),
    ("resolution", "px", 1.0, 6),
    ("disturbance", "disturbance", 1.0, 3),
    ("visits", "visits", 1.0, 6),
    ("samples", "samples", 1.0, 6),
    ("parity", "parity", 1.0, 2),
)

_CONDITIONS = (
    ("involuntary_switches", "involuntary switches"),
    ("steal_s", "steal (s)"),
    ("stall_s", "CPU stall (s)"),
    ("throttled_s", "throttled (s)"),
)


def header_pairs(frame: pd.DataFrame, sessions: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What stands at the top: machine, threads, time, versions, cases by status, runs; each with its name.

    Args:
        frame: The table.
        sessions: The facts of each run by its name; one without a name stands alone.
    """
    machines = {_machine(each.get("host")) or ", ".join(_values(frame, "cpu")) for each in sessions.values()} - {""}
    started = sorted(filter(None, (plain(each.get("started")) for each in sessions.values())))
    started = started or _values(frame, "started")
    threads = sorted(_values(frame, "threads"), key=lambda text: (len(text), text))
    runs = [name for name in sessions if name]
    pairs = [
        ("Machine", "; ".join(sorted(machines)) or "not recorded"),
        ("Threads", ", ".join(threads)),
        ("Measured", span_text(started[0], started[-1]) if started else ""),
        ("Versions", ", ".join(_versions(frame))),
        ("Cases", _outcomes(frame)),
        ("Runs", ", ".join(runs) if len(runs) > 1 else ""),
    ]
    return [(name, value) for name, value in pairs if value]


def _machine(host: object) -> str:
    if not isinstance(host, Mapping):
        return ""
    cores = f"{host['cores']} cores" if host.get("cores") else ""
    parts = (host.get("cpu"), cores, host.get("gpu"), host.get("os"))
    return ", ".join(str(part) for part in parts if part)


def _values(frame: pd.DataFrame, column: str) -> list[str]:
    """What a column holds, in its order; nothing where the table has none."""
    return sorted({*map(plain, frame[column])} - {""}) if column in frame else []


def span_text(first: str, last: str) -> str:
    """``2026-01-02 03:04 to 05:06 UTC`` for two times in ISO 8601; what is none as it is."""
    try:
        begin, end = (datetime.fromisoformat(moment).astimezone(UTC) for moment in (first, last))
    except ValueError:
        return " to ".join(dict.fromkeys((first, last)))
    told = [f"{begin:%Y-%m-%d %H:%M}", f"{end:%H:%M}" if begin.date() == end.date() else f"{end:%Y-%m-%d %H:%M}"]
    return f"{' to '.join(told[: 1 + (f'{begin:%d%H%M}' != f'{end:%d%H%M}')])} UTC"


def _versions(frame: pd.DataFrame) -> Iterator[str]:
    """The versions of what ran, each by its name; of runtimes that have no column of their own too."""
    known = ("torch", "onnxruntime", "python")
    own = {f"{name}_version" if name != "python" else name: name for name in known}
    told = {name: _values(frame, column) for column, name in own.items()}
    if {"backend", "backend_version"} <= {*frame.columns}:
        for backend, rows in frame.groupby("backend", sort=False):
            versions = _values(rows, "backend_version")
            if {*versions} - {*told["torch"], *told["onnxruntime"]}:
                told[plain(backend)] = versions
    for name, versions in told.items():
        # One that another says more fully is the same.
        fullest = [one for one in versions if not any(other.startswith(f"{one}+") for other in versions)]
        if fullest:
            yield f"{name} {' and '.join(fullest)}"


def _outcomes(frame: pd.DataFrame) -> str:
    """How many cases there are, and how many of them with each status."""
    counts = Counter(map(plain, frame["status"])) if "status" in frame else Counter[str]()
    told = ", ".join(f"{number} {status}" for status, number in counts.most_common())
    return f"{len(frame)}: {told}" if told else str(len(frame))


def failures_table(frame: pd.DataFrame) -> Table | None:
    """Every case without a sound number, with its reason; None where there is none."""
    status = frame["status"] if "status" in frame else pd.Series("ok", index=frame.index)
    bad = frame[status != "ok"]
    reasons = [plain(why) for why in bad["reason"]] if "reason" in bad else [""] * len(bad)
    states = [plain(state) for state in status[bad.index]]
    rows = [*zip(network_names(bad), _places(bad, grouping(frame)), states, reasons, strict=True)]
    return Table(("network", "where", "status", "reason"), (), rows) if rows else None


def conditions_table(frame: pd.DataFrame, pooled: Sequence[Fit]) -> Table:
    """How much the machine disturbed the measurement, per group."""
    shown = [(column, head) for column, head in _CONDITIONS if column in frame and frame[column].notna().any()]
    rows = []
    for one in pooled:
        group = rows_of(frame, one.group)
        group = group[measured(group)]
        rows.append((one.label, *_disturbance(group), *(_total(group[column]) for column, _ in shown)))
    numbers = ("disturbance, median", "largest", f"cases over {_DISTURBED:.2f}", *(head for _, head in shown))
    note = (
        "Disturbance is the raw latency divided by the one normalised with the interleaved reference: 1 on a quiet "
        "machine. Counts and seconds are totals over all visits."
    )
    return Table(("group",), numbers, rows, note)


def _total(values: pd.Series[Any]) -> str:
    """A sum; empty where the system told nothing, because that is not 0."""
    total = pd.to_numeric(values, errors="coerce").sum(min_count=1)
    return "" if pd.isna(total) else f"{total:.4g}"


def _disturbance(group: pd.DataFrame) -> tuple[str, str, str]:
    if "disturbance" not in group:
        return ("", "", "")
    values = pd.to_numeric(group["disturbance"], errors="coerce").dropna()
    if values.empty:
        return ("", "", "")
    return (f"{values.median():.3f}", f"{values.max():.3f}", str(int((values > _DISTURBED).sum())))


def cases_table(frame: pd.DataFrame, y: str) -> Table:
    """Every case with the numbers that the table has of it.

    Args:
        frame: The table.
        y: The column that was fitted; stands first where it is none of ours.
    """
    own = () if y in {column for column, *_ in _COLUMNS} else ((y, y, 1.0, 4),)
    numbers = {c: pd.to_numeric(frame[c], errors="coerce") for c, *_ in (*own, *_COLUMNS) if c in frame}
    shown = [column for column in (*own, *_COLUMNS) if column[0] in numbers and numbers[column[0]].notna().any()]
    status = map(plain, frame["status"]) if "status" in frame else [""] * len(frame)
    # What all rows share stands above; here it would only push the numbers out of sight.
    differing = [key for key in grouping(frame) if frame[key].nunique() > 1] or ["backend"]
    places = _places(frame, [key for key in differing if key in frame])
    columns = [(head, [_number(v, factor, digits) for v in numbers[c]]) for c, head, factor, digits in shown]
    at = next((i for i, (c, *_) in enumerate(shown) if c == y), -1) + 1
    if (ends := _intervals(frame, y)) is not None and at:
        columns.insert(at, ("95%", ends))
    rows = [*zip(network_names(frame), places, status, *(cells for _, cells in columns), strict=True)]
    return Table(("network", "where", "status"), [head for head, _ in columns], rows, _launches(frame))


def _launches(frame: pd.DataFrame) -> str:
    """What to know of forwards that wait for launches; empty where there are none."""
    told = frame["launch_bound"].map(plain) if "launch_bound" in frame else pd.Series("", index=frame.index)
    bound = set(network_names(frame[told == "true"]))
    if not bound:
        return ""
    return (
        f"Launch-bound: {', '.join(sorted(bound))}. There the host launches kernels more slowly than the device runs "
        "them, and a CUDA graph would take about the time of the device; the reason of each row, in cases.csv, has its "
        "figures."
    )


def _intervals(frame: pd.DataFrame, y: str) -> list[Cell] | None:
    """The 95% interval of each y; None where the table has none."""
    if not set(interval_columns(y)) <= set(frame.columns):
        return None
    low, high = (pd.to_numeric(frame[name], errors="coerce") for name in interval_columns(y))
    return [f"[{a:.4g}, {b:.4g}]" if np.isfinite(a + b) else "" for a, b in zip(low, high, strict=True)]


def _number(value: float, factor: float, digits: int) -> Cell:
    """A rounded number to read, and the exact one to sort by; empty stays empty."""
    return (f"{value * factor:.{digits}g}", f"{value:.9g}") if np.isfinite(value) else ""


def commands(sessions: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How each run was made: its name, command, seed, plan, and further facts; what is not known is empty."""
    return [
        {
            "name": name,
            "command": shlex.join(["profiler", *map(str, facts["argv"])]) if facts.get("argv") else "",
            "seed": plain(facts.get("seed")),
            "facts": {title: _described(facts[title].items()) for title in ("versions", "host") if facts.get(title)},
            "plan": str(facts.get("plan") or ""),
        }
        for name, facts in sessions.items()
    ]


def _described(facts: Iterable[tuple[object, object]]) -> list[tuple[str, str]]:
    return [(str(name), plain(value) or "not known") for name, value in facts]


def _places(frame: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """Where each row was measured, as ``profiler.analysis.frame.group_label`` says it."""
    if not keys:
        return [""] * len(frame)
    cells = frame[list(keys)].itertuples(index=False)
    return [group_label(dict(zip(keys, map(plain, row), strict=True))) for row in cells]
