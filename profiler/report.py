"""One self-contained page that says what predicts latency on a machine, and how well it was measured.

The page loads nothing: styles, scripts, charts and data are inside. Charts are drawn as SVG first, so that it
prints and reads without scripts; with scripts they gain tooltips and wrap on narrow screens.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from profiler import charts, store
from profiler.compare import source_names
from profiler.errors import UserError
from profiler.fit import (
    PROXIES,
    SECONDS,
    Fit,
    fit,
    full_sentence,
    group_label,
    grouping,
    latency_column,
    measured,
    network_names,
    outliers_sentence,
    plain,
    prose,
    rates_sentence,
    rows_of,
    two_term_sentence,
)
from profiler.growth import CONTROL, growth, paces, steps
from profiler.predict import cost_models, costs_of
from profiler.table import read_table
from profiler.throughput import NEAR_BEST, curves

SIMULATED = "Simulated: no number on this page was measured on hardware."
DISTURBED = 1.10
TRUE = ("true", "1", "yes")

# Column, heading, factor, digits: what the full table shows, where the column is there and holds something.
COLUMNS = (
    ("latency_ms", "latency (ms)", 1.0, 4),
    ("latency_raw_ms", "raw (ms)", 1.0, 4),
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
#: Charts over all groups, and their headings.
ACROSS = {
    "side-by-side": "Side by side",
    "batch": "Throughput and latency against batch",
    "costs": "Memory and other costs",
}
CONDITIONS = (
    ("involuntary_switches", "involuntary switches"),
    ("steal_s", "steal (s)"),
    ("stall_s", "CPU stall (s)"),
    ("throttled_s", "throttled (s)"),
)


def run(sources: Sequence[Path], output: Path) -> None:
    """Write the report of one or several runs; ``profiler report``.

    Args:
        sources: Run folders, journals or CSV files.
        output: The page to write, ``.html``.

    Raises:
        UserError: No source, one that cannot be read, or simulated rows beside real ones.
    """
    if not sources:
        raise UserError("no run given: name at least one run folder, journal or CSV")
    names = source_names(sources)
    frames = [read_table(source) for source in sources]
    if len(frames) > 1:
        frames = [frame.assign(run=name) for name, frame in zip(names, frames, strict=True)]
    sessions = {name: _facts(source) for name, source in zip(names, sources, strict=True)}
    frame = pd.concat(frames, ignore_index=True)
    write(frame, {"runs": sessions}, output)
    write_pictures(frame, output.with_name(f"{output.stem}-charts"))


def write(frame: pd.DataFrame, facts: Mapping[str, Any], path: Path) -> None:
    """Write the page.

    Args:
        frame: One row per case; a column ``run`` where several runs were joined.
        facts: What is known of the run: host, versions, argv, seed, plan, started; any may be missing. Or
            ``{"runs": {name: facts}}`` for several.
        path: Where to write.

    Raises:
        UserError: The table cannot be used, or it mixes simulated rows with real ones.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(frame, facts), encoding="utf-8")


def write_pictures(frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Write every chart of the page as PNG and SVG; return the files.

    Args:
        frame: As for :func:`write`.
        folder: Where to write; made if need be.

    Raises:
        UserError: The table cannot be used.
    """
    made = figures(frame, [one for one in fit(frame, latency_column(frame, None)) if one.family is None])
    files = [(chart, folder / f"{name}{suffix}") for name, chart in made.items() for suffix in (".png", ".svg")]
    for chart, file in files:
        charts.save(chart, file)
    return [file for _, file in files]


def figures(frame: pd.DataFrame, pooled: Sequence[Fit]) -> dict[str, charts.Chart]:
    """All charts of a page by name: two for each group, ``latency-1`` and ``behind-1``, then those over groups.

    Args:
        frame: The table.
        pooled: Its pooled fits.
    """
    found: dict[str, alt.ConcatChart | None] = {}
    for number, one in enumerate(pooled, start=1):
        if one.n:
            found[f"latency-{number}"] = charts.group(frame, one)
            found[f"behind-{number}"] = charts.behind(frame, one)
    found["side-by-side"] = charts.side_by_side(frame, pooled)
    found["batch"] = charts.against_batch(frame, pooled)
    others = [one for column in costs_of(frame) if column != pooled[0].y for one in fit(frame, column)]
    found["costs"] = charts.costs(frame, [one for one in others if one.family is None])
    return {name: charts.styled(chart, padding=2) for name, chart in found.items() if chart is not None}


def page(frame: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    """The page as text; see :func:`write`."""
    simulated = _all_simulated(frame)
    fits = fit(frame, latency_column(frame, None))
    pooled = [one for one in fits if one.family is None]
    sessions: Mapping[str, Mapping[str, Any]] = facts.get("runs") or {"": facts}
    drawn = figures(frame, pooled)
    margins = _margins(frame, pooled[0].y)
    body = [
        _header(frame, sessions, simulated=simulated),
        _section("Verdict", "".join(f"<p class=verdict>{_verdict(one)}</p>" for one in pooled)),
        *(
            _group_section(frame, one, fits, margins, (drawn.get(f"latency-{k}"), drawn.get(f"behind-{k}")))
            for k, one in enumerate(pooled, start=1)
        ),
        *(
            _section(title, _figure(drawn[name]) + (_knees(frame, pooled) if name == "batch" else ""))
            for name, title in ACROSS.items()
            if name in drawn
        ),
        _section("Cases without a sound number", _failures(frame)),
        _section("Conditions", _conditions(frame, pooled)),
        _section("All cases", _cases(frame, pooled[0].y)),
        _section("Reproduce", "".join(_reproduce(name, each) for name, each in sessions.items())),
    ]
    scripts = f"<script>{charts.scripts()}</script>\n<script type=module>{SCRIPT}</script>"
    return PAGE.format(style=STYLE, body="\n".join(body), scripts=scripts)


# --- Sections ----------------------------------------------------------------------------------------------


def _header(frame: pd.DataFrame, sessions: Mapping[str, Mapping[str, Any]], *, simulated: bool) -> str:
    machines = {_machine(each.get("host")) or _cpu_of(frame) for each in sessions.values()} - {""}
    started = sorted(filter(None, (plain(each.get("started")) for each in sessions.values())))
    good = int(measured(frame).sum())
    runs = [name for name in sessions if name]
    rows = [
        ("Machine", "; ".join(sorted(machines)) or "not recorded"),
        ("Measured", _period(started)),
        ("Cases", f"{good} measured, {len(frame) - good} without a number"),
        ("Runs", ", ".join(runs) if len(runs) > 1 else ""),
        ("Written", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
    ]
    listed = _definitions((name, value) for name, value in rows if value)
    mark = f"<p class=simulated>{SIMULATED}</p>" if simulated else ""
    return f"<header><h1>What predicts latency here</h1>{mark}<dl>{listed}</dl></header>"


def _verdict(one: Fit) -> str:
    where = escape(one.label)
    if not one.lines:
        return f"<b>{where}</b> No fit: {escape(one.reason or 'nothing was measured')}."
    best = max(one.lines, key=lambda line: abs(line.r))
    others = [f"{PROXIES[line.proxy].name} {line.r:.2f}" for line in one.lines if line is not best]
    name = PROXIES[best.proxy].name.capitalize()
    low, high = best.r_interval
    what = "latency" if one.y.startswith("latency") else one.y
    text = (
        f"{name} predict {escape(what)} with <strong>r = {best.r:.3f}</strong> "
        f"[{low:.3f}, {high:.3f}] over {one.n} networks"
    )
    text += f"; {', '.join(others)}." if others else "."
    if one.winner and one.winner.probability is not None:
        text += f" They stay the best in {one.winner.probability:.0%} of resampled sets of networks."
    return f"<b>{where}</b> {text}"


def _group_section(
    frame: pd.DataFrame,
    one: Fit,
    fits: Sequence[Fit],
    margins: Mapping[str, float],
    drawn: tuple[charts.Chart | None, charts.Chart | None],
) -> str:
    latency, behind = drawn
    if latency is None:
        figure = f"<p class=empty>Nothing to draw: {escape(one.reason or 'nothing was measured')}.</p>"
    else:
        figure = _figure(latency)
    ours = [each for each in fits if each.group == one.group]
    further = _figure(behind) if behind is not None else ""
    told = _two_term(one, margins.get(one.label))
    return _section(one.label, figure + _fit_table(ours) + told + further + _growth_table(frame, one))


def _figure(chart: charts.Chart) -> str:
    data = f'<script type="application/json">{charts.embedded(charts.specification(chart))}</script>'
    return f"<figure class=chart><div class=drawing>{charts.svg(chart)}</div>{data}</figure>"


def _growth_table(frame: pd.DataFrame, one: Fit) -> str:
    """Exponents of s for each rule, beside those of theory; empty where nothing was scaled."""
    relative = steps(frame, one)
    found = growth(relative)
    if not found:
        return _pace_table(relative, one)
    cost = prose(one.y)
    numbers = ("theory, acts", "acts", cost, f"95% of {cost}", "scaled networks")
    rows = []
    for each in found:
        expected = "" if each.theory is None else f"{each.theory:.2f}"
        cells = (expected, f"{each.acts.value:.2f}", f"{each.cost.value:.2f}", _pair(each.cost.interval, ".2f"))
        rows.append(f"<tr>{_texts((each.rule,))}{_tds((*cells, str(each.steps)))}</tr>")
    note = (
        "<p class=note>Powers of s, the growth of flops over the base network's. Theory is that of one "
        "convolution; stems, heads and rounded widths and depths make a network differ.</p>"
    )
    return _table(("scaled by",), rows, numbers=numbers) + note + _pace_table(relative, one)


def _pace_table(relative: pd.DataFrame, one: Fit) -> str:
    """Every rule beside compound scaling at equal flops; empty where that was not measured."""
    cost = prose(one.y)
    rows = []
    for each in paces(relative):
        cells = (f"{each.acts:.3f}", f"{each.cost:.3f}", _pair(each.interval, ".3f"), str(each.bases), str(each.pairs))
        rows.append(f"<tr>{_texts((each.rule,))}{_tds(cells)}</tr>")
    if not rows:
        return ""
    note = (
        f"<p class=note>Times that of compound scaling ({CONTROL}) of the same base by the same factor above 1, "
        "per multiply-add. The interval is over base networks.</p>"
    )
    return _table(("scaled by",), rows, numbers=("acts", cost, f"95% of {cost}", "bases", "networks")) + note


def _knees(frame: pd.DataFrame, pooled: Sequence[Fit]) -> str:
    """The knee of each network's curve, beside the batches with the lowest latency and the best throughput."""
    unit = "images/s" if pooled[0].unit in SECONDS else "throughput"
    cost = f"{prose(pooled[0].y)} ({pooled[0].unit})" if pooled[0].unit else prose(pooled[0].y)
    rows = []
    for (where, network), curve in curves(frame, pooled).groupby(["where", "network"], sort=False):
        smallest, knee = curve.iloc[0], curve[curve["knee"]].iloc[0]
        best = curve.sort_values("throughput").iloc[-1]
        cells = [
            text
            for point in (smallest, knee, best)
            for text in (f"{point['batch']:g}", f"{point['throughput']:.4g}", f"{point['latency']:.4g}")
        ]
        rows.append(f"<tr>{_texts((str(network), str(where)))}{_tds(cells)}</tr>")
    heads = [f"{which}: {what}" for which in ("smallest", "knee", "best") for what in ("batch", unit, cost)]
    note = (
        f"<p class=note>The knee is the smallest measured batch with at least {NEAR_BEST:.0%} of the best throughput "
        "measured: beyond it a larger batch buys little but waiting.</p>"
    )
    return _table(("network", "where"), rows, numbers=heads) + note


def _fit_table(fits: Sequence[Fit]) -> str:
    """The pooled lines in sight, those of the families folded."""
    note = "<p class=note>Acts and flops are those of one image. Error is the mean of |residual| / latency.</p>"
    pooled = _fit_rows([one for one in fits if one.family is None])
    families = [one for one in fits if one.family is not None]
    folded = f"<details><summary>Each family</summary>{_fit_rows(families)}</details>" if families else ""
    return pooled + note + folded


def _fit_rows(fits: Sequence[Fit]) -> str:
    unit = f" ({fits[0].unit})" if fits[0].unit else ""
    numbers = (f"slope{unit}", "95% of slope", f"intercept{unit}", "r", "95% of r", "error", "n")
    rows = []
    for one in fits:
        name = escape(one.family or "all families")
        for line in one.lines:
            slope = (f"{line.slope:.4g}", _pair(line.slope_interval), f"{line.intercept:.4g}")
            r = (f"{line.r:.3f}", _pair(line.r_interval, ".3f"), f"{line.mape:.1%}", str(one.n))
            best = " class=best" if one.winner and one.winner.proxy == line.proxy else ""
            rows.append(f"<tr{best}><td>{name}</td><td>per {line.x_unit}</td>{_tds((*slope, *r))}</tr>")
        reasons = [one.reason] if one.reason else [f"{proxy}: {why}" for proxy, why in one.unfit.items()]
        rows += [f"<tr class=none><td>{name}</td><td colspan=8>{escape(why)}</td></tr>" for why in reasons]
    return _table(("networks", "on"), rows, numbers=numbers)


def _two_term(one: Fit, margin: float | None) -> str:
    """The model of both, the speeds it amounts to, who is far from it, and how well it foretells."""
    text = two_term_sentence(one)
    if text is None:
        return ""
    told = [f"Both together, no term negative: {text}"]
    told += filter(None, (full_sentence(one), rates_sentence(one), outliers_sentence(one)))
    if margin is not None:
        ratio = np.exp(margin)
        told.append(
            f"Of new networks like these, nine in ten lie between {1 / ratio:.2f} and {ratio:.2f} times the prediction."
        )
    return "".join(f"<p>{escape(each)}</p>" for each in told)


def _margins(frame: pd.DataFrame, y: str) -> dict[str, float]:
    """Half width of the 90% prediction interval of each group, in logarithms, under its label."""
    return {group_label(model.group): model.margin for model in cost_models(frame, y)[0]}


def _failures(frame: pd.DataFrame) -> str:
    status = frame["status"] if "status" in frame else pd.Series("ok", index=frame.index)
    bad = frame[status != "ok"]
    if bad.empty:
        return "<p>None: every case was measured to the precision asked for.</p>"
    reasons = [plain(why) for why in bad["reason"]] if "reason" in bad else [""] * len(bad)
    states = [plain(state) for state in status[bad.index]]
    rows = [
        f"<tr>{_texts(cells)}<td class=text>{escape(why)}</td></tr>"
        for *cells, why in zip(network_names(bad), _places(bad, grouping(frame)), states, reasons, strict=True)
    ]
    return _table(("network", "where", "status", "reason"), rows)


def _conditions(frame: pd.DataFrame, pooled: Sequence[Fit]) -> str:
    """How much the machine disturbed the measurement, per group."""
    shown = [(column, head) for column, head in CONDITIONS if column in frame and frame[column].notna().any()]
    rows = []
    for one in pooled:
        group = rows_of(frame, one.group)
        group = group[measured(group)]
        totals = [_total(group[column]) for column, _ in shown]
        rows.append(f"<tr><td>{escape(one.label)}</td>{_tds((*_disturbance(group), *totals))}</tr>")
    numbers = ("disturbance, median", "largest", f"cases over {DISTURBED:.2f}", *(head for _, head in shown))
    note = (
        "<p class=note>Disturbance is the raw latency divided by the one normalised with the interleaved "
        "reference: 1 on a quiet machine. Counts and seconds are totals over all visits.</p>"
    )
    return _table(("group",), rows, numbers=numbers) + note


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
    return (f"{values.median():.3f}", f"{values.max():.3f}", str(int((values > DISTURBED).sum())))


def _cases(frame: pd.DataFrame, y: str) -> str:
    known = [column for column, *_ in COLUMNS]
    columns = COLUMNS if y in known else ((y, y, 1.0, 4), *COLUMNS)
    shown = [c for c in columns if c[0] in frame and pd.to_numeric(frame[c[0]], errors="coerce").notna().any()]
    status = frame["status"] if "status" in frame else pd.Series("", index=frame.index)
    # What all rows share stands above; here it would only push the numbers out of sight.
    differing = [key for key in grouping(frame) if frame[key].nunique() > 1] or ["backend"]
    places = _places(frame, [key for key in differing if key in frame])
    rows = []
    for index, (name, where) in enumerate(zip(network_names(frame), places, strict=True)):
        cells = [_number(frame[c].iloc[index], factor, digits) for c, _, factor, digits in shown]
        state = plain(status.iloc[index])
        rows.append(f"<tr>{_texts((name, where, state))}{''.join(cells)}</tr>")
    heads = ("network", "where", "status")
    search = "<input type=search id=filter placeholder='Filter: network, backend, status' aria-label=Filter>"
    return search + _table(heads, rows, numbers=[head for _, head, *_ in shown], kind="sortable")


def _reproduce(name: str, facts: Mapping[str, Any]) -> str:
    known = []
    if facts.get("argv"):
        known.append(f"<pre>{escape(shlex.join(['profiler', *map(str, facts['argv'])]))}</pre>")
    if facts.get("seed") is not None:
        known.append(f"<p>Seed {escape(str(facts['seed']))}.</p>")
    folded = {title: _described(facts[title]) for title in ("versions", "host") if facts.get(title)}
    if facts.get("plan"):
        folded["plan"] = f"<pre>{escape(str(facts['plan']))}</pre>"
    known += [f"<details><summary>{k.capitalize()}</summary>{v}</details>" for k, v in folded.items()]
    title = f"<h3>{escape(name)}</h3>" if name else ""
    return title + ("".join(known) or "<p>How this was measured is not recorded in the table.</p>")


def _described(facts: Mapping[str, Any]) -> str:
    pairs = {str(name): plain(value) or "not known" for name, value in facts.items()}
    return f"<dl>{_definitions(pairs.items())}</dl>"


# --- Pieces ------------------------------------------------------------------------------------------------


def _section(title: str, inside: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{inside}</section>"


def _table(texts: Iterable[str], rows: Iterable[str], numbers: Iterable[str] = (), kind: str = "plain") -> str:
    """A table whose columns of text stand first and whose columns of numbers are set to the right."""
    heads = [f"<th scope=col>{escape(text)}</th>" for text in texts]
    heads += [f"<th scope=col class=n>{escape(text)}</th>" for text in numbers]
    head = f"<thead><tr>{''.join(heads)}</tr></thead>"
    return f"<div class=scroll><table class={kind}>{head}<tbody>{''.join(rows)}</tbody></table></div>"


def _definitions(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)


def _texts(cells: Iterable[str]) -> str:
    return "".join(f"<td>{escape(text)}</td>" for text in cells)


def _tds(cells: Iterable[str]) -> str:
    return "".join(f"<td class=n>{escape(text)}</td>" for text in cells)


def _number(value: object, factor: float, digits: int) -> str:
    """A cell with the exact number to sort by, and a rounded one to read; empty stays empty."""
    number = pd.to_numeric(pd.Series([value]), errors="coerce").iloc[0]
    if not np.isfinite(number):
        return "<td class=n></td>"
    return f'<td class=n data-v="{float(number):.9g}">{float(number) * factor:.{digits}g}</td>'


def _pair(interval: tuple[float, float] | None, form: str = ".4g") -> str:
    return f"[{interval[0]:{form}}, {interval[1]:{form}}]" if interval else ""


def _places(frame: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """Where each row was measured, as :func:`profiler.fit.group_label` says it."""
    if not keys:
        return [""] * len(frame)
    cells = frame[list(keys)].itertuples(index=False)
    return [group_label(dict(zip(keys, map(plain, row), strict=True))) for row in cells]


def _machine(host: object) -> str:
    if not isinstance(host, Mapping):
        return ""
    cores = f"{host['cores']} cores" if host.get("cores") else ""
    parts = (host.get("cpu"), cores, host.get("gpu"), host.get("os"))
    return ", ".join(str(part) for part in parts if part)


def _cpu_of(frame: pd.DataFrame) -> str:
    return ", ".join(sorted({plain(v) for v in frame["cpu"]} - {""})) if "cpu" in frame else ""


def _period(started: Sequence[str]) -> str:
    if not started:
        return ""
    return started[0] if started[0] == started[-1] else f"{started[0]} to {started[-1]}"


def _all_simulated(frame: pd.DataFrame) -> bool:
    """Whether every row is simulated.

    Raises:
        UserError: Some are and some are not.
    """
    flags = np.zeros(len(frame), dtype=bool)
    if "backend" in frame:
        flags |= np.array([plain(v).split(":")[0] == "fake" for v in frame["backend"]], dtype=bool)
    if "simulated" in frame:
        flags |= np.array([plain(v).lower() in TRUE for v in frame["simulated"]], dtype=bool)
    if flags.any() and not flags.all():
        raise UserError(
            f"{int(flags.sum())} of {len(flags)} rows are simulated: a report shows either simulated or real "
            "results; report them separately"
        )
    return bool(flags.any())


def _facts(source: Path) -> Mapping[str, Any]:
    """What the journal says of its latest session; a CSV says nothing."""
    if source.suffix.lower() == ".csv":
        return {}
    sessions = store.read(source).sessions
    return sessions[-1].facts if sessions else {}


# --- The page itself ---------------------------------------------------------------------------------------

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>What predicts latency here</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
{scripts}
</body>
</html>
"""

STYLE = """
:root { --ink: #1f2328; --muted: #5f6670; --line: #e3e5e9; --tint: #f6f7f8; --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; font: 16px/1.55 system-ui, -apple-system, "Segoe UI",
  "Helvetica Neue", Arial, sans-serif; -webkit-text-size-adjust: 100%; }
main { max-width: 1180px; margin: 0 auto; padding: 48px 28px 96px; }
h1 { font-size: 34px; line-height: 1.15; letter-spacing: -0.02em; margin: 0 0 20px; }
h2 { font-size: 21px; line-height: 1.3; letter-spacing: -0.01em; margin: 0 0 14px; }
h3 { font-size: 16px; margin: 20px 0 8px; }
section { margin-top: 52px; }
p { margin: 0 0 12px; max-width: 76ch; overflow-wrap: anywhere; }
dl { display: flex; flex-wrap: wrap; gap: 10px 36px; margin: 0; }
dt { color: var(--muted); font-size: 13px; }
dd { margin: 0; overflow-wrap: anywhere; }
header { border-bottom: 1px solid var(--line); padding-bottom: 26px; }
.verdict { font-size: 19px; line-height: 1.5; margin-bottom: 18px; }
.verdict b { display: block; font-weight: 400; font-size: 14px; color: var(--muted); }
.simulated { padding: 10px 14px; border-left: 4px solid #d55e00; background: #fdf3ec; }
.empty { padding: 36px; text-align: center; max-width: none; color: var(--muted); background: var(--tint); }
.note { color: var(--muted); font-size: 14px; margin-top: 10px; }
figure { margin: 0 0 20px; overflow-x: auto; }
.drawing svg { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; line-height: 1.4; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 500; color: var(--muted); vertical-align: bottom;
  border-bottom: 1px solid #b5bac1; white-space: nowrap; }
th, td { padding: 6px 18px 6px 0; }
td { border-bottom: 1px solid var(--line); vertical-align: top; white-space: nowrap; }
td.n, th.n { text-align: right; }
td.text { white-space: normal; min-width: 24ch; overflow-wrap: anywhere; }
tr.best td { font-weight: 600; }
tr.none td { color: var(--muted); }
.sortable { min-width: 100%; }
.sortable th { cursor: pointer; user-select: none; }
.sortable th:focus-visible { outline: 2px solid var(--accent); }
.sortable th[aria-sort=ascending]::after { content: " \\2191"; }
.sortable th[aria-sort=descending]::after { content: " \\2193"; }
input[type=search] { font: inherit; width: min(100%, 380px); padding: 7px 12px; margin-bottom: 14px;
  border: 1px solid #b5bac1; border-radius: 6px; }
pre { background: var(--tint); padding: 12px 16px; border-radius: 6px; overflow-x: auto; font-size: 14px; }
details { margin: 10px 0; }
summary { cursor: pointer; color: var(--accent); margin-bottom: 8px; }
@media (max-width: 640px) {
  main { padding: 28px 16px 64px; } h1 { font-size: 27px; } h2 { font-size: 19px; }
  .plain td:not(.n) { white-space: normal; min-width: 9ch; }
  section { margin-top: 40px; } .verdict { font-size: 17px; }
}
@media print {
  main { max-width: none; padding: 0; } section { margin-top: 28px; } input { display: none; }
  figure, tr, .verdict { break-inside: avoid; } h2 { break-after: avoid; }
  .scroll, figure { overflow: visible; }
  td, th { padding-right: 10px; font-size: 10px; white-space: normal; }
}
"""

SCRIPT = """
for (const figure of document.querySelectorAll("figure.chart")) {
  const spec = JSON.parse(figure.querySelector("script").textContent);
  const wide = figure.clientWidth;
  const alone = spec.concat.length === 1 && spec.concat[0].width > 400;
  spec.columns = wide >= 1080 ? 3 : wide >= 700 ? 2 : 1;
  spec.config.legend.columns = spec.columns > 1 ? 6 : 3;
  const width = alone ? Math.min(680, Math.max(160, wide - 240))
    : Math.min(300, Math.max(200, (wide - 40) / spec.columns - 76));
  for (const panel of spec.concat) panel.width = width;
  vegaEmbed(figure.querySelector(".drawing"), spec, { renderer: "svg", actions: false });
}
const table = document.querySelector("table.sortable");
const body = table.tBodies[0];
const value = (row, i) => row.cells[i].dataset.v ?? row.cells[i].textContent;
function compare(a, b) {
  if ((a === "") !== (b === "")) return a === "" ? 1 : -1;
  return a === "" ? 0 : a.localeCompare(b, "en", { numeric: true });
}
const numeric = (a, b) => a !== "" && b !== "" && !isNaN(a) && !isNaN(b);
function sort(th) {
  const i = th.cellIndex, down = th.ariaSort === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...body.rows].sort((p, q) => {
    const a = value(p, i), b = value(q, i);
    if (a === "" || b === "") return compare(a, b);
    return (down ? -1 : 1) * (numeric(a, b) ? a - b : compare(a, b));
  });
  body.append(...rows);
}
for (const th of table.tHead.rows[0].cells) {
  th.tabIndex = 0;
  th.addEventListener("click", () => sort(th));
  th.addEventListener("keydown", (e) => {
    if (e.key === "Enter" || e.key === " ") { e.preventDefault(); sort(th); }
  });
}
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
document.getElementById("filter").addEventListener("input", (e) => {
  const words = e.target.value.toLowerCase().split(/\\s+/);
  for (const row of body.rows) row.hidden = !words.every((w) => row.textContent.toLowerCase().includes(w));
});
"""
