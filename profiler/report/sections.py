"""The sections of the page, each from a table."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from profiler.analysis.cost_model import cost_models
from profiler.analysis.fit import Fit
from profiler.analysis.frame import (
    PROXIES,
    SECONDS,
    group_label,
    grouping,
    measured,
    network_names,
    plain,
    prose,
    rows_of,
)
from profiler.analysis.growth import CONTROL, growth, paces, steps
from profiler.analysis.throughput import NEAR_BEST, curves
from profiler.report.html import definitions, number, pair, section, table, tds, texts
from profiler.report.render import Chart, embedded, specification, svg
from profiler.report.words import full_sentence, outliers_sentence, rates_sentence, two_term_sentence

DISTURBED = 1.10

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

CONDITIONS = (
    ("involuntary_switches", "involuntary switches"),
    ("steal_s", "steal (s)"),
    ("stall_s", "CPU stall (s)"),
    ("throttled_s", "throttled (s)"),
)


def verdict(one: Fit) -> str:
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
    if one.winner_probability is not None:
        text += f" They stay the best in {one.winner_probability:.0%} of resampled sets of networks."
    return f"<b>{where}</b> {text}"


def group_section(
    frame: pd.DataFrame,
    one: Fit,
    fits: Sequence[Fit],
    margins: Mapping[str, float],
    drawn: tuple[Chart | None, Chart | None],
) -> str:
    latency, behind = drawn
    if latency is None:
        figure = f"<p class=empty>Nothing to draw: {escape(one.reason or 'nothing was measured')}.</p>"
    else:
        figure = figure_of(latency)
    ours = [each for each in fits if each.group == one.group]
    further = figure_of(behind) if behind is not None else ""
    told = _two_term(one, margins.get(one.label))
    return section(one.label, figure + _fit_table(ours) + told + further + _growth_table(frame, one))


def figure_of(chart: Chart) -> str:
    data = f'<script type="application/json">{embedded(specification(chart))}</script>'
    return f"<figure class=chart><div class=drawing>{svg(chart)}</div>{data}</figure>"


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
        cells = (expected, f"{each.acts.value:.2f}", f"{each.cost.value:.2f}", pair(each.cost.interval, ".2f"))
        rows.append(f"<tr>{texts((each.rule,))}{tds((*cells, str(each.networks)))}</tr>")
    note = (
        "<p class=note>Powers of s, the growth of flops over the base network's. Theory is that of one "
        "convolution; stems, heads and rounded widths and depths make a network differ.</p>"
    )
    return table(("scaled by",), rows, numbers=numbers) + note + _pace_table(relative, one)


def _pace_table(relative: pd.DataFrame, one: Fit) -> str:
    """Every rule beside compound scaling at equal flops; empty where that was not measured."""
    cost = prose(one.y)
    rows = []
    for each in paces(relative):
        ratios = (f"{each.acts.value:.3f}", f"{each.cost.value:.3f}", pair(each.cost.interval, ".3f"))
        rows.append(f"<tr>{texts((each.rule,))}{tds((*ratios, str(each.bases), str(each.networks)))}</tr>")
    if not rows:
        return ""
    note = (
        f"<p class=note>Times that of compound scaling ({CONTROL}) of the same base by the same factor above 1, "
        "per multiply-add. The interval is over base networks.</p>"
    )
    return table(("scaled by",), rows, numbers=("acts", cost, f"95% of {cost}", "bases", "networks")) + note


def knees(frame: pd.DataFrame, pooled: Sequence[Fit]) -> str:
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
        rows.append(f"<tr>{texts((str(network), str(where)))}{tds(cells)}</tr>")
    heads = [f"{which}: {what}" for which in ("smallest", "knee", "best") for what in ("batch", unit, cost)]
    note = (
        f"<p class=note>The knee is the smallest measured batch with at least {NEAR_BEST:.0%} of the best throughput "
        "measured: beyond it a larger batch buys little but waiting.</p>"
    )
    return table(("network", "where"), rows, numbers=heads) + note


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
            slope = (f"{line.slope:.4g}", pair(line.slope_interval), f"{line.intercept:.4g}")
            r = (f"{line.r:.3f}", pair(line.r_interval, ".3f"), f"{line.mape:.1%}", str(one.n))
            best = " class=best" if one.winner == line.proxy else ""
            rows.append(f"<tr{best}><td>{name}</td><td>per {line.x_unit}</td>{tds((*slope, *r))}</tr>")
        reasons = [one.reason] if one.reason else [f"{proxy}: {why}" for proxy, why in one.unfit.items()]
        rows += [f"<tr class=none><td>{name}</td><td colspan=8>{escape(why)}</td></tr>" for why in reasons]
    return table(("networks", "on"), rows, numbers=numbers)


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


def margins_section(frame: pd.DataFrame, y: str) -> dict[str, float]:
    """Half width of the 90% prediction interval of each group, in logarithms, under its label."""
    return {group_label(model.group): model.margin for model in cost_models(frame, y)[0]}


def failures(frame: pd.DataFrame) -> str:
    status = frame["status"] if "status" in frame else pd.Series("ok", index=frame.index)
    bad = frame[status != "ok"]
    if bad.empty:
        return "<p>None: every case was measured to the precision asked for.</p>"
    reasons = [plain(why) for why in bad["reason"]] if "reason" in bad else [""] * len(bad)
    states = [plain(state) for state in status[bad.index]]
    rows = [
        f"<tr>{texts(cells)}<td class=text>{escape(why)}</td></tr>"
        for *cells, why in zip(network_names(bad), _places(bad, grouping(frame)), states, reasons, strict=True)
    ]
    return table(("network", "where", "status", "reason"), rows)


def conditions(frame: pd.DataFrame, pooled: Sequence[Fit]) -> str:
    """How much the machine disturbed the measurement, per group."""
    shown = [(column, head) for column, head in CONDITIONS if column in frame and frame[column].notna().any()]
    rows = []
    for one in pooled:
        group = rows_of(frame, one.group)
        group = group[measured(group)]
        totals = [_total(group[column]) for column, _ in shown]
        rows.append(f"<tr><td>{escape(one.label)}</td>{tds((*_disturbance(group), *totals))}</tr>")
    numbers = ("disturbance, median", "largest", f"cases over {DISTURBED:.2f}", *(head for _, head in shown))
    note = (
        "<p class=note>Disturbance is the raw latency divided by the one normalised with the interleaved "
        "reference: 1 on a quiet machine. Counts and seconds are totals over all visits.</p>"
    )
    return table(("group",), rows, numbers=numbers) + note


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


def cases(frame: pd.DataFrame, y: str) -> str:
    known = [column for column, *_ in COLUMNS]
    columns = COLUMNS if y in known else ((y, y, 1.0, 4), *COLUMNS)
    shown = [c for c in columns if c[0] in frame and pd.to_numeric(frame[c[0]], errors="coerce").notna().any()]
    status = frame["status"] if "status" in frame else pd.Series("", index=frame.index)
    # What all rows share stands above; here it would only push the numbers out of sight.
    differing = [key for key in grouping(frame) if frame[key].nunique() > 1] or ["backend"]
    places = _places(frame, [key for key in differing if key in frame])
    rows = []
    for index, (name, where) in enumerate(zip(network_names(frame), places, strict=True)):
        cells = [number(frame[c].iloc[index], factor, digits) for c, _, factor, digits in shown]
        state = plain(status.iloc[index])
        rows.append(f"<tr>{texts((name, where, state))}{''.join(cells)}</tr>")
    heads = ("network", "where", "status")
    search = "<input type=search id=filter placeholder='Filter: network, backend, status' aria-label=Filter>"
    return search + table(heads, rows, numbers=[head for _, head, *_ in shown], kind="sortable")


def reproduce(name: str, facts: Mapping[str, Any]) -> str:
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
    return f"<dl>{definitions(pairs.items())}</dl>"


def _places(frame: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """Where each row was measured, as ``profiler.analysis.frame.group_label`` says it."""
    if not keys:
        return [""] * len(frame)
    cells = frame[list(keys)].itertuples(index=False)
    return [group_label(dict(zip(keys, map(plain, row), strict=True))) for row in cells]
