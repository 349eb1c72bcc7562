"""The end of a run: its table and report, and what is printed of them.

Everything here derives from the journal, so it can be made again at any time (``profiler export``, ``report``).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from profiler.backends.base import Placement
from profiler.errors import UserError
from profiler.records import table
from profiler.records.columns import Row, write_csv
from profiler.records.disturbance import near, quiet_level
from profiler.records.files import write_file
from profiler.records.reading import Run, read
from profiler.records.types import Measurement, Record
from profiler.report import drawer
from profiler.report.closing import closing_sentences, latencies_table, legend, predictors_table
from profiler.report.extra import NO_CHARTS, can_draw, drawing
from profiler.report.plain import print_sentence
from profiler.run.going_on import narrowing
from profiler.units import format_duration

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from profiler.analysis.fit import Fit

#: How much is printed.
Detail = Literal["quiet", "brief", "full"]

#: What stands in the plan of a run that asks what the paper claims.
_ABOUT_CLAIMS = 'name = "fast-and-accurate'
#: Statuses of rows that have a latency.
_MEASURED = ("ok", "unstable")
#: Reasons for failures that are printed.
_REASONS = 4
#: So far may the reference at its best be from its nominal time before it is said: on one thread it was within 3%.
_OFF = 0.08


def _seconds_in_samples(records: Sequence[Record]) -> tuple[float, float]:
    """Return the seconds inside timed samples of models, and inside timed calls of the reference workload."""
    good = [record.outcome for record in records if isinstance(record.outcome, Measurement)]
    samples = sum(sum(block) for outcome in good for block in outcome.samples_ns)
    reference = sum(sum(block) for outcome in good for block in outcome.reference_ns)
    return samples / 1e9, reference / 1e9


def _recalibrate(records: Sequence[Record]) -> Iterator[str]:
    """Say where the reference, at its best over all visits, is ``_OFF`` its nominal time, and what that means.

    And where it ran beside some visits alone.
    """
    found: defaultdict[Placement, list[Measurement]] = defaultdict(list)
    for record in records:
        if isinstance(record.outcome, Measurement):
            p = record.case.placement
            found[Placement(p.device, p.precision, p.threads)].append(record.outcome)
    for place, visits in found.items():
        plain = sum(visit.nominal_ns is None for visit in visits)
        if 0 < plain < len(visits):
            yield (
                f"{plain} of {len(visits)} visits ran beside no reference, which could not be calibrated then: "
                "their times are as read, and do not compare with the others; measure them again into another folder"
            )
        level = quiet_level(visits)
        if abs(level - 1) <= _OFF or not near(level):  # what is not near is said in every row
            continue
        where = f"{place.device} · {place.precision} · {place.threads} thread{'s' if place.threads != 1 else ''}"
        if level < 1:
            what = f"a slower machine, and latency_ms is longer than a clock shows by about {1 / level - 1:.0%}"
        else:
            what = "a faster machine, as which latency_ms counts; latency_raw_ms is as read"
        yield (
            f"{where}: the reference takes {level:.2f} times its nominal time at its best: it was calibrated on {what} "
            "(profiler calibrate)"
        )


def finish(folder: Path, seconds: float, console: Console, *, detail: Detail = "brief", report: bool = False) -> None:
    """Write ``cases.csv`` into ``folder`` and print what came out.

    Args:
        folder: The run.
        seconds: Wall time of this command's part of the run.
        console: Where to print.
        detail: ``brief`` prints at most 25 lines, ``full`` all fits too, ``quiet`` the files alone.
        report: Write ``report.html`` too, which takes seconds.
    """
    run = read(folder)
    rows = table.rows(run)
    files = [folder / "cases.csv"]
    write_csv(rows, files[0])
    if detail != "quiet":
        for notice in run.notices:
            console.print(notice, markup=False)
        _print_outcome(rows, run, seconds, console)
    if any(row["status"] in _MEASURED for row in rows):
        frame = table.frame_of(rows)
        if detail != "quiet":
            _print_answer(rows, frame, _narrowing(rows, run), console, full=detail == "full")
        if _ABOUT_CLAIMS in str(run.sessions[-1].facts.get("plan", "")):
            files += _claims(frame, folder / "claims.md", console)
        if report:
            files += _page(frame, dict(run.sessions[-1].facts), folder / "report.html", console)
    for path in files:
        console.print(f"  {path}", highlight=False, markup=False, soft_wrap=True)


def _narrowing(rows: Sequence[Row], run: Run) -> str:
    """The command that visits cases again; empty where all have had as many visits as the plan allows."""
    allowed = any(row["visits"] and int(str(row["visits"])) < run.budget.rounds for row in rows)
    return narrowing(run) if allowed else ""


def _print_answer(rows: Sequence[Row], frame: pd.DataFrame, go_on: str, console: Console, *, full: bool) -> None:
    from profiler.analysis.fit import fit
    from profiler.report.console import fitting_table, print_fits

    try:
        fits: list[Fit] = fit(frame)
    except UserError as error:
        console.print(f"no fit: {error}", markup=False, highlight=False)
        fits = []
    if full:
        print_fits([one for one in fits if one.lines], console, brief=True)
    latencies = latencies_table(rows)
    drawn = latencies or predictors_table(fits)
    if drawn is not None:
        console.print(fitting_table(drawn))
    if latencies and (why := legend(rows)):
        print_sentence(console, why)
    for sentence in closing_sentences(rows, fits, go_on):
        # A command that is broken over lines cannot be copied.
        console.print(sentence, markup=False, highlight=False, soft_wrap=bool(go_on) and sentence.endswith(go_on))


def _claims(frame: pd.DataFrame, path: Path, console: Console) -> list[Path]:
    """Print what the paper claims beside what holds here, and write it; return the files to name."""
    from profiler.analysis.fit import fit
    from profiler.report.claims import claims_markdown, print_claims

    try:
        fits = fit(frame)
        text = claims_markdown(frame, fits)
    except UserError:  # no two rules were measured yet
        return []
    print_claims(frame, fits, console)
    write_file(path, text)
    return [path]


def _page(frame: pd.DataFrame, facts: Mapping[str, object], path: Path, console: Console) -> list[Path]:
    """Write the page; return the files to name."""
    drawer.start()
    from profiler.report.page import write_page

    if not can_draw():
        console.print(NO_CHARTS, markup=False, highlight=False)
    written: list[Path] = []
    with _said(console), drawing(path.name, draws=False):
        write_page(frame, facts, path)
        written.append(path)
    return written


@contextmanager
def _said(console: Console) -> Iterator[None]:
    """Print the sentence of what cannot be made, and go on."""
    try:
        yield
    except UserError as error:
        print_sentence(console, str(error))


def _print_outcome(rows: Sequence[Row], run: Run, seconds: float, console: Console) -> None:
    records, began = run.records, str(run.sessions[-1].facts.get("started", "")) if len(run.sessions) > 1 else ""
    now = sum(record.started >= began for record in records)
    wall = sum(record.wall_s for record in records) or 1.0
    models, reference = (part / wall for part in _seconds_in_samples(records))
    counts = Counter(str(row["status"]) for row in rows)
    parts = ", ".join(f"{number} {status}" for status, number in counts.most_common())
    total, visits = (
        f"{number} {what}{'s' if number != 1 else ''}" for number, what in ((len(rows), "case"), (now, "visit"))
    )
    visits += "" if now == len(records) else f" ({len(records)} in all)"
    console.print(
        f"{total}: {parts}. {visits} in {format_duration(seconds)}, {models + reference:.0%} of their time in samples.",
        highlight=False,
    )
    for sentence in _recalibrate(records):
        console.print(sentence, style="yellow", markup=False, highlight=False)
    reasons = Counter((row["status"], row["reason"]) for row in rows if row["status"] not in _MEASURED)
    for (status, reason), number in reasons.most_common(_REASONS):
        print_sentence(console, f"  {number} {status}: {reason}", "red")
    if len(reasons) > _REASONS:
        console.print(f"  and {len(reasons) - _REASONS} other reasons, in cases.csv", style="red", highlight=False)
