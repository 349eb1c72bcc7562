"""The page in a real browser: no error, and the table sorts, filters and downloads; a hover says what a mark is."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from profiler.report import page as report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

#: What a user does, and what comes of it as the text of the last element.
ERRORS = """<script>const errors = [];
for (const kind of ["error", "unhandledrejection"])
  addEventListener(kind, (e) => errors.push(String(e.message ?? e.reason)));
for (const name of ["error", "warn"]) console[name] = (...said) => errors.push(said.join(" "));
window.alert = (said) => errors.push(`alert ${said}`);</script>"""
ACTS = """
<pre id=outcome></pre>
<script type=module>
const cells = () => [...document.querySelectorAll("table.sortable tbody tr")].filter((r) => !r.hidden)
  .map((r) => r.cells[0].textContent);
const head = [...document.querySelectorAll("table.sortable th")].find((th) => th.textContent.startsWith("latency"));
const open = () => [...document.querySelectorAll("details")].map((one) => one.open);
const before = cells(); head.click(); const up = cells(); head.click(); const down = cells();
head.focus(); const focused = document.activeElement === head;
head.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true }));
const keyed = cells();
const sorted = head.getAttribute("aria-sort");
const filter = document.getElementById("filter");
filter.value = "net3"; filter.dispatchEvent(new Event("input")); const few = cells();
const shown = document.getElementById("shown").textContent;
const mark = document.querySelector("figure [aria-roledescription=bar]");
mark.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: 50, clientY: 50 }));
const tip = document.getElementById("tip"), told = tip.hidden ? "" : tip.textContent;
const point = document.querySelector("figure use");
point.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: 50, clientY: 50 }));
const drawn = document.querySelector(point.getAttribute("href")) !== null && point.getBBox().width > 0;
const folded = open();
dispatchEvent(new Event("beforeprint")); const printed = open(); dispatchEvent(new Event("afterprint"));
const after = open();
let file = "";
URL.createObjectURL = (blob) => { file = blob; return "#"; };
document.getElementById("download").click(); const csv = await file.text();
for (const link of document.querySelectorAll("nav a")) link.click();
const lost = [...document.querySelectorAll("nav a")].filter((a) => !document.querySelector(a.hash)).length;
const wide = document.documentElement.scrollWidth <= innerWidth;
document.getElementById("outcome").textContent = JSON.stringify({
  errors, before, up, down, focused, keyed, sorted, few, shown, told, point: tip.textContent, drawn, folded, printed,
  after, csv, lost, reached: open(), wide, dark: getComputedStyle(document.body).backgroundColor });
</script>
"""


def frame() -> pd.DataFrame:
    names = ["net1", "net2", "net3", "<script>alert(1)</script>", "net5"]
    rows = [
        {"model": name, "flops": 1e9 * (n + 1), "params": 1e6 * (9 - n), "acts": 1e6 * (n + 2), "backend": "eager",
         "latency_ms": [9.0, 10.0, 80.0, 7.0, 11.0][n], "status": "ok"}
        for n, name in enumerate(names)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def outcome(folder: Path, text: str, width: int, *, dark: bool) -> dict[str, object]:
    file = folder / "page.html"
    file.write_text(text.replace("<body>", f"<body>{ERRORS}", 1).replace("</body>", f"{ACTS}</body>"), encoding="utf-8")
    scheme = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900", *scheme]
    command += ["--virtual-time-budget=3000", f"--user-data-dir={folder / 'profile'}", "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r'<pre id="outcome">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-500:]
    told: dict[str, object] = json.loads(html.unescape(found[1]))
    return told


@pytest.mark.parametrize(("width", "dark"), [(500, False), (1600, True)])
def test_the_page_works_in_a_browser(tmp_path: Path, width: int, dark: bool) -> None:
    told = outcome(tmp_path, report.page(frame(), {}), width, dark=dark)
    assert told["errors"] == []
    assert told["up"] == ["<script>alert(1)</script>", "net1", "net2", "net5", "net3"]
    assert told["down"] == [*reversed(told["up"])]  # type: ignore[call-overload]  # a list
    assert told["few"] == ["net3"]
    assert (told["focused"], told["sorted"], told["keyed"]) == (True, "ascending", told["up"])
    assert told["shown"] == "1 of 5"
    assert "network: net" in str(told["told"])
    assert "latency (ms): " in str(told["point"])
    assert told["drawn"]
    assert not all(told["folded"])  # type: ignore[call-overload]  # a list
    assert all(told["printed"])  # type: ignore[call-overload]
    assert told["after"] == told["folded"]
    assert str(told["csv"]).splitlines()[1].startswith('"net3",')
    assert len(str(told["csv"]).splitlines()) == 2
    assert told["lost"] == 0
    assert sum(told["reached"]) > sum(told["folded"])  # type: ignore[call-overload]
    assert told["wide"]
    assert (told["dark"] == "rgb(255, 255, 255)") is not dark
