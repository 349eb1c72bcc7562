"""Pieces of HTML."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import numpy as np
import pandas as pd

# --- Pieces ------------------------------------------------------------------------------------------------


def section(title: str, inside: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{inside}</section>"


def table(texts: Iterable[str], rows: Iterable[str], numbers: Iterable[str] = (), kind: str = "plain") -> str:
    """A table whose columns of text stand first and whose columns of numbers are set to the right."""
    heads = [f"<th scope=col>{escape(text)}</th>" for text in texts]
    heads += [f"<th scope=col class=n>{escape(text)}</th>" for text in numbers]
    head = f"<thead><tr>{''.join(heads)}</tr></thead>"
    return f"<div class=scroll><table class={kind}>{head}<tbody>{''.join(rows)}</tbody></table></div>"


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)


def texts(cells: Iterable[str]) -> str:
    return "".join(f"<td>{escape(text)}</td>" for text in cells)


def tds(cells: Iterable[str]) -> str:
    return "".join(f"<td class=n>{escape(text)}</td>" for text in cells)


def number(value: object, factor: float, digits: int) -> str:
    """A cell with the exact number to sort by, and a rounded one to read; empty stays empty."""
    number = pd.to_numeric(pd.Series([value]), errors="coerce").iloc[0]
    if not np.isfinite(number):
        return "<td class=n></td>"
    return f'<td class=n data-v="{float(number):.9g}">{float(number) * factor:.{digits}g}</td>'


def pair(interval: tuple[float, float] | None, form: str = ".4g") -> str:
    return f"[{interval[0]:{form}}, {interval[1]:{form}}]" if interval else ""


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
