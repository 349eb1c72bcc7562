"""The page in a real browser: no error, and the table sorts, filters and downloads; a hover says what a mark is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from profiler.analysis.layers import explained
from profiler.analysis.quantity import Quantity
from profiler.measure.layers import Layer, Traced
from profiler.report import page as report
from profiler.report.layers_page import write_layers_page
from tests import ROOT

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

NAMES = ["net1", "net2", "net3", "<script>alert(1)</script>", "net5"]
FASTEST_FIRST = ["<script>alert(1)</script>", "net1", "net2", "net5", "net3"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as engine:
        running = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {"model": name, "flops": 1e9 * (n + 1), "params": 1e6 * (9 - n), "acts": 1e6 * (n + 2), "backend": "eager",
         "latency_ms": [9.0, 10.0, 80.0, 7.0, 11.0][n], "status": "ok"}
        for n, name in enumerate(NAMES)
    ]  # fmt: skip
    written = tmp_path_factory.mktemp("page") / "page.html"
    written.write_text(report.page(pd.DataFrame(rows), {}), encoding="utf-8")
    return written


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two runtimes of the run ``quick``, with an unstable row and a name that is long."""
    frame = pd.read_csv(ROOT / "results" / "reference" / "quick" / "cases.csv").astype({"reason": object})
    frame = frame[frame["backend"] != "torchscript"].reset_index(drop=True)
    frame.loc[0, ["status", "reason"]] = ["unstable", "2% was asked for"]
    frame["model"] = frame["model"].replace("efficientnet_b0", "models/of_mine.py:a_detector_with_a_long_name")
    written = tmp_path_factory.mktemp("measured") / "page.html"
    written.write_text(report.page(frame, {}), encoding="utf-8")
    return written


@pytest.fixture(params=[(width, scheme) for width in (400, 800, 1600) for scheme in ("light", "dark")], ids=str)
def looks(request: pytest.FixtureRequest) -> tuple[int, str]:
    """Width of the window, in pixels, and its scheme."""
    looked: tuple[int, str] = request.param
    return looked


@pytest.fixture
def page(browser: Any, file: Path, looks: tuple[int, str]) -> Iterator[Any]:
    yield from opened(browser, file, looks)


@pytest.fixture
def measured_page(browser: Any, measured: Path, looks: tuple[int, str]) -> Iterator[Any]:
    yield from opened(browser, measured, looks)


def opened(browser: Any, file: Path, looks: tuple[int, str]) -> Iterator[Any]:
    """The page as a reader has it; afterwards it must have asked for nothing and complained of nothing."""
    width, scheme = looks
    complaints: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda asked: None if asked.url == file.as_uri() else complaints.append(asked.url[:100]))
    page.goto(file.as_uri())
    page.set_default_timeout(20_000)
    yield page
    context.close()
    assert complaints == []


def shown_in(page: Any) -> list[str]:
    found: list[str] = page.locator("table.sortable tbody tr:not([hidden]) td:first-child").all_text_contents()
    return found


def unfold(page: Any) -> None:
    """Open all sections, as printing does."""
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")


def test_the_table_sorts_by_mouse_and_by_keyboard_and_filters(page: Any) -> None:
    unfold(page)
    head = page.locator("table.sortable th", has_text="latency").first
    head.click()
    assert shown_in(page) == FASTEST_FIRST
    assert head.get_attribute("aria-sort") == "ascending"
    page.locator("#download").focus()
    for _ in range(head.evaluate("(th) => th.cellIndex") + 1):
        page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert shown_in(page) == FASTEST_FIRST[::-1]
    assert head.get_attribute("aria-sort") == "descending"
    page.locator("#filter").fill("net3")
    assert shown_in(page) == ["net3"]
    assert page.locator("#shown").text_content() == "1 of 5"
    with page.expect_download() as download:
        page.locator("#download").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ['"net3"']


def test_a_hover_tells_what_a_mark_is_and_leaving_it_hides_that(page: Any) -> None:
    unfold(page)
    tip = page.locator("#tip")
    page.locator("figure [aria-roledescription=bar]:visible").first.hover()
    assert "network: " in tip.text_content()
    page.locator("figure use:visible").first.hover(force=True)
    assert "latency (ms): " in tip.text_content()
    page.mouse.move(1, 1)
    assert tip.is_hidden()


def test_the_page_folds_prints_whole_and_links_to_what_it_has(page: Any) -> None:
    sections = page.locator("details")
    folded = sections.evaluate_all("(all) => all.map((one) => one.open)")
    assert not all(folded)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert all(sections.evaluate_all("(all) => all.map((one) => one.open)"))
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert sections.evaluate_all("(all) => all.map((one) => one.open)") == folded
    for link in page.locator("nav a").all():
        link.click()
        assert page.locator(link.get_attribute("href")).count() == 1
    assert sum(sections.evaluate_all("(all) => all.map((one) => one.open)")) > sum(folded)


def test_the_page_is_no_wider_than_the_window_and_follows_its_scheme(page: Any) -> None:
    unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    white = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert white is not dark


#: Of all that is drawn: its kind, its contrast with the page, and of text the height of its letters, in pixels.
DRAWN = """() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map((v) => v / 255).map((v) =>
      v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const mixed = (over, under, part) => {
    const [a, b] = [over, under].map((text) => text.match(/[\\d.]+/g).map(Number));
    return `rgb(${[0, 1, 2].map((i) => a[i] * part + b[i] * (1 - part)).join()})`;
  };
  const paper = getComputedStyle(document.body).backgroundColor;
  const seen = [...document.querySelectorAll("figure svg :is(text, use, path, line)")].filter((one) =>
    one.checkVisibility() && !one.closest("defs, .role-axis-grid, .role-axis-domain, .background, .foreground"));
  return seen.map((one) => {
    const style = getComputedStyle(one);
    const colour = style.fill !== "none" && one.tagName !== "line" ? style.fill : style.stroke;
    if (colour === "none" || style.opacity === "0") return null;
    const [a, b] = [light(mixed(colour, paper, Number(style.opacity))), light(paper)].sort((p, q) => q - p);
    const shown = one.getScreenCTM();
    const height = one.tagName === "text" ? parseFloat(style.fontSize) * Math.hypot(shown.a, shown.b) : null;
    return { kind: one.tagName, contrast: (a + 0.05) / (b + 0.05), height };
  }).filter((one) => one !== null);
}"""


def test_charts_are_legible_at_every_width_and_in_both_schemes(measured_page: Any) -> None:
    unfold(measured_page)
    assert measured_page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    edges = "[...document.querySelectorAll('figure svg')].map((one) => one.getBoundingClientRect().right)"
    assert max(measured_page.evaluate(edges)) <= measured_page.evaluate("innerWidth")
    drawn = measured_page.evaluate(DRAWN)
    assert {one["kind"] for one in drawn} == {"text", "use", "path", "line"}
    assert min(one["height"] for one in drawn if one["kind"] == "text") >= 9
    assert min(one["contrast"] for one in drawn if one["kind"] == "text") >= 4.5
    assert min(one["contrast"] for one in drawn) >= 3


def test_the_first_screen_tells_the_machine_the_versions_and_what_is_unsure(measured_page: Any) -> None:
    head = measured_page.locator("header").inner_text()
    for told in ("AMD EPYC (26/2/1)", "2026-11-29", "torch 2.13.0+cpu", "onnxruntime 1.32.0", "44: 43 ok, 1 unstable"):
        assert told in head
    assert "? unstable, 1 of them: 2% was asked for" in measured_page.locator(".answer").inner_text()
    assert measured_page.locator(".answer use[stroke]:visible").count() == 1


def test_a_name_in_a_module_s_box_is_whole_or_out_of_sight_and_a_click_filters_layers(
    browser: Any, tmp_path: Path, looks: tuple[int, str]
) -> None:
    names = ("stem.0", "body.0.a_module_with_a_long_name.0", "body.0.act", "body.10.act")
    traced = Traced(tuple(Layer(name, "relu", ns) for name, ns in zip(names, (1e6, 2e6, 30e6, 5e6), strict=True)), 38e6)
    row = {"model": "net", "backend": "eager", "threads": 1, "batch": 1}
    write_layers_page(explained(row, Quantity(10.0), [traced], None), [], [], tmp_path / "page.html")
    for page in opened(browser, tmp_path / "page.html", looks):
        boxes = page.locator(".box").evaluate_all(
            """(all) => all.map((box) => {
              const text = document.createRange(), outer = box.getBoundingClientRect();
              text.selectNodeContents(box);
              const inner = text.getBoundingClientRect();
              const seen = inner.right <= outer.right ? "whole" : "cut";
              return [box.textContent, inner.top >= outer.bottom ? "hidden" : seen];
            })"""
        )
        shown = dict(boxes)
        assert (shown["body"], shown["a_module_with_a_long_name.0"]) == ("whole", "hidden")
        assert "cut" not in shown.values()
        page.locator(".box", has_text="10.act").click()
        assert shown_in(page) == ["body.10.act"]
