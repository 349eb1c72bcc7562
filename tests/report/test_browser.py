"""The page in a real browser: no error, and the table sorts, filters and downloads; a hover says what a mark is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from profiler.report import page as report

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


@pytest.fixture(params=[(width, scheme) for width in (400, 900, 1600) for scheme in ("light", "dark")], ids=str)
def page(browser: Any, file: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page as a reader has it; afterwards it must have asked for nothing and complained of nothing."""
    width, scheme = request.param
    complaints: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    opened = context.new_page()
    opened.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    opened.on("request", lambda asked: None if asked.url == file.as_uri() else complaints.append(asked.url[:100]))
    opened.goto(file.as_uri())
    opened.set_default_timeout(20_000)
    yield opened
    context.close()
    assert complaints == []


def shown(page: Any) -> list[str]:
    found: list[str] = page.locator("table.sortable tbody tr:not([hidden]) td:first-child").all_text_contents()
    return found


def unfold(page: Any) -> None:
    """Open all sections, as printing does."""
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")


def test_the_table_sorts_by_mouse_and_by_keyboard_and_filters(page: Any) -> None:
    unfold(page)
    head = page.locator("table.sortable th", has_text="latency").first
    head.click()
    assert shown(page) == FASTEST_FIRST
    assert head.get_attribute("aria-sort") == "ascending"
    head.press("Enter")
    assert shown(page) == FASTEST_FIRST[::-1]
    assert head.get_attribute("aria-sort") == "descending"
    page.locator("#filter").fill("net3")
    assert shown(page) == ["net3"]
    assert page.locator("#shown").text_content() == "1 of 5"
    with page.expect_download() as download:
        page.locator("#download").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ['"net3"']


def test_a_hover_tells_what_a_mark_is_and_leaving_it_hides_that(page: Any) -> None:
    unfold(page)
    tip = page.locator("#tip")
    page.locator("figure [aria-roledescription=bar]").first.hover()
    assert "network: " in tip.text_content()
    page.locator("figure use").first.hover(force=True)
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
