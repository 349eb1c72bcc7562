from __future__ import annotations

import functools
import os
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from profiler.analysis.source import source_names
from profiler.cli.report import report_command
from profiler.errors import UserError
from profiler.report import page as report
from profiler.report import render
from profiler.report.html import _asset
from profiler.report.svg import embedded

HOSTILE = "</script><img src=x onerror=alert(1)> & 'quoted' \"text\""
FACTS = {
    "host": {"cpu": "Example CPU <1>", "cores": 2, "os": "Linux x86_64", "gpu": None},
    "versions": {"torch": "2.13.0"},
    "argv": ["run", "plan & more.toml", "--seed", "3"],
    "seed": 3,
    "plan": 'name = "<b>demo</b>"',
    "started": "2026-01-02T03:04:05+00:00",
}
VOID = {"meta", "input", "br", "img", "link", "hr"}
LOADS = {"src", "srcset", "data", "poster", "action", "background", "xlink:href"}


def table(n: int = 8, **columns: object) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "model": [f"net{i}" for i in range(n)],
            "family": [("a", "b")[i % 2] for i in range(n)],
            "scaling": [("", "dWr")[i % 2] for i in range(n)],
            "factor": [(1.0, 4.0)[i % 2] for i in range(n)],
            "acts": rng.uniform(2e6, 5e7, n).round(),
            "flops": rng.uniform(2e8, 8e9, n).round(),
            "params": rng.uniform(2e6, 6e7, n).round(),
            "backend": "eager",
            "device": "cpu",
            "precision": "fp32",
            "threads": 2,
            "batch": 1,
            "mode": "infer",
            "status": "ok",
            "reason": "",
            "disturbance": 1.02,
            "steal_s": np.nan,
            "host": "0123abcd",
            "cpu": "Table CPU",
        }
    )
    frame["latency_ms"] = 2 + frame["acts"] / 1e6 + rng.normal(size=n)
    return frame.assign(**columns)


class Page(HTMLParser):
    """Elements with their attributes, text outside scripts and styles, rows of tables, elements left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@functools.cache
def usual_text() -> str:
    """The usual page, whole, with its charts drawn."""
    return report.page(table(), FACTS)


@functools.cache
def usual() -> Page:
    return checked(usual_text())


def page(frame: pd.DataFrame, facts: dict[str, object] | None = None) -> Page:
    """The page without its charts, which take most of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "_drawn", lambda *_: dict)
        return checked(report.page(frame, FACTS if facts is None else facts))


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without charts, and no pictures beside them."""
    monkeypatch.setattr(report, "_drawn", lambda *_: dict)
    monkeypatch.setattr("profiler.cli.report.write_pictures", lambda *_: [])


def checked(text: str) -> Page:
    made = Page(text)
    assert made.open == []
    return made


def test_the_page_loads_nothing() -> None:
    for tag, attributes in usual().elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base"}
        assert not LOADS & attributes.keys(), (tag, attributes)
    style = _asset("page.css")
    assert style in usual_text()
    assert "@import" not in style
    assert "url(" not in style
    assert "import" not in _asset("page.js")
    assert "fetch" not in _asset("page.js")


def test_the_verdict_names_the_best_proxy_with_its_interval() -> None:
    text = usual().text
    assert "eager · cpu · fp32 · 2 threads · batch 1 · infer" in text
    assert "Activations predict latency best: r = 0.99" in text
    assert "over 8 networks; flops" in text


def test_every_failed_case_stands_there_with_its_reason_escaped() -> None:
    frame = table()
    frame.loc[2, ["status", "reason", "latency_ms"]] = ["oom", HOSTILE, np.nan]
    frame.loc[3, ["status", "reason", "latency_ms"]] = ["timeout", "killed after 300 s", np.nan]
    frame.loc[4, ["status", "reason"]] = ["unstable", "±8% after 10 rounds"]
    made = page(frame)
    where = "eager · cpu · fp32 · 2 threads · batch 1 · infer"
    assert ["net2", where, "oom", HOSTILE] in made.rows
    assert ["net3 dWr x4", where, "timeout", "killed after 300 s"] in made.rows
    assert ["net4", where, "unstable", "±8% after 10 rounds"] in made.rows
    assert "8: 5 ok, 1 oom, 1 timeout, 1 unstable" in made.text


def test_no_text_of_the_table_becomes_markup() -> None:
    frame = table(backend=f"{HOSTILE} backend", scaling=f"{HOSTILE} rule", cpu=f"{HOSTILE} cpu")
    frame["model"] += HOSTILE
    frame["family"] += HOSTILE
    frame.loc[0, "status"] = f"{HOSTILE} status"
    made = checked(report.page(frame, {}))
    assert "img" not in {tag for tag, _ in made.elements}
    for name in ("backend", "rule", "cpu", "status"):
        assert f"{HOSTILE} {name}" in made.text
    assert f"net1{HOSTILE}" in made.text
    assert f"b{HOSTILE}" in made.text


def test_no_text_of_the_facts_becomes_markup() -> None:
    facts = {"host": {"cpu": HOSTILE}, "versions": {HOSTILE: HOSTILE}, "argv": [HOSTILE], "plan": HOSTILE}
    made = page(table(), {"runs": {HOSTILE: facts, "other": {}}})
    assert not [tag for tag, _ in made.elements if tag == "img"]
    assert made.text.count("onerror") >= 6


def test_the_machine_and_the_commands_are_told() -> None:
    text = usual().text
    assert "Example CPU <1>, 2 cores, Linux x86_64" in text
    assert "profiler run 'plan & more.toml' --seed 3" in text
    assert 'name = "<b>demo</b>"' in text
    assert "2026-01-02 03:04 UTC" in text


def test_without_facts_the_table_names_the_machine() -> None:
    text = page(table(), {}).text
    assert "Table CPU" in text
    assert "not recorded in the table" in text


def test_charts_are_drawn_without_scripts_and_their_marks_say_what_they_are() -> None:
    text = usual_text()
    pictures = [attrs.get("aria-label") or "" for tag, attrs in usual().elements if tag == "svg" and attrs.get("role")]
    # The answer, for wide and for narrow windows; the fits; and what stands behind them.
    assert [said.partition(":")[0].partition(".")[0] for said in pictures] == [
        "Latency of each network", "Latency of each network", "Activations", "Flops", "Parameters",
        "Residuals of the two-term model",
    ]  # fmt: skip
    labels = [attrs.get("aria-label") or "" for tag, attrs in usual().elements if tag == "path"]
    assert any("network: net7 dWr x4" in label for label in labels)
    ids = [attrs["id"] for _, attrs in usual().elements if attrs.get("id")]
    assert len(ids) == len(set(ids))
    assert len(text) < 200_000


def test_places_are_rounded_and_what_is_told_is_not() -> None:
    drawn = (
        '<svg width="10.126"><text transform="translate(1.2345,2)">0.0005</text><line aria-label="0.1234" x2="0.001"/>'
    )
    light = embedded(drawn, "one", "said")
    assert 'width="10.13"' in light
    assert 'translate(1.23,2)">0.0005<' in light
    small = table(latency_ms=np.linspace(0.0011, 0.0018, 8), flops=np.linspace(1e5, 3e5, 8))
    text = report.page(small, {})
    assert "latency (ms): 0.0011;" in text
    assert ">0.0003<" in text


def test_a_group_without_a_fit_is_told_in_a_sentence() -> None:
    made = checked(report.page(table().head(2), {}))
    assert "No fit: only 2 networks measured: a line needs at least 3" in made.text
    assert "details" not in {tag for tag, attributes in made.elements if "open" in attributes}
    pictures = [attributes for tag, attributes in made.elements if tag == "svg" and attributes.get("role")]
    assert len(pictures) == 2  # the answer, wide and narrow


def test_the_first_screen_is_the_answer() -> None:
    made = page(table())
    assert made.text.index("predict latency best") < made.text.index("All cases")
    assert ["network", "eager (ms)"] in made.rows


def scaled() -> pd.DataFrame:
    """A base network and three sizes of it along two rules, on two backends, one also at batch 8, with memory."""
    steps = [("", 1.0), *((rule, s) for rule in ("w", "r") for s in (2.0, 4.0, 8.0))]
    rows = [
        {"model": "net", "family": "a", "scaling": rule, "factor": s, "flops": 1e9 * s, "params": 1e7 * s,
         "acts": 1e7 * s ** (0.5 if rule == "w" else 1.0), "backend": backend, "batch": batch, "status": "ok"}
        for rule, s in steps for backend, batch in (("eager", 1), ("onnxruntime", 1), ("eager", 8))
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    return frame.assign(latency_ms=frame["batch"] * frame["acts"] / 1e6, memory_peak_mib=frame["acts"] / 1e5)


@functools.cache
def scaled_page() -> Page:
    """With its charts in place, but not drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "svg", lambda _: "<svg></svg>")
        return checked(report.page(scaled(), {}))


def test_the_page_of_one_model_in_several_shapes_begins_with_latency_against_their_size() -> None:
    shapes = [f"size={32 * n}" for n in range(1, 5)]
    one = report.page(table(4, model="m.py:net", scaling="", factor=1.0, shape=shapes), {})
    assert "<h1>m.py:net in 4 shapes</h1>" in one
    assert one.index("Latency against the size of the inputs") < one.index("All cases")
    several = report.page(table(4, shape=shapes), {})
    assert "<h1>4 networks</h1>" in several
    assert several.index("Latency of each network") < several.index("All cases")


def test_growth_stands_beside_theory() -> None:
    made = scaled_page()
    assert ["scaled by", "theory, acts", "acts", "latency", "95% of latency", "scaled networks"] in made.rows
    by_width = next(row for row in made.rows if row[:1] == ["w"])
    assert by_width[1:4] == ["0.50", "0.50", "0.50"]
    assert next(row for row in made.rows if row[:1] == ["r"])[1:4] == ["1.00", "1.00", "1.00"]


def test_backends_batches_and_memory_have_charts_where_there_are_several() -> None:
    text = scaled_page().text
    for title in ("Side by side", "Throughput and latency against batch", "Memory and other costs"):
        assert title in text
        assert title not in usual().text


def test_speeds_and_the_range_of_predictions_are_told() -> None:
    text = usual().text
    assert "As speeds, each term alone: " in text
    assert "nine in ten lie between" in text


def test_every_chart_is_a_picture_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_drawn", lambda *_: dict)
    table().to_csv(tmp_path / "only.csv", index=False)
    report_command([tmp_path / "only.csv"], tmp_path / "page.html")
    assert {file.name for file in tmp_path.iterdir()} == {"only.csv", "page.html"}
    report_command([tmp_path / "only.csv"], tmp_path / "page.html", tmp_path / "charts")
    names = {file.name for file in (tmp_path / "charts").iterdir()}
    assert names == {f"{name}.{kind}" for name in ("answer", "latency-1", "behind-1") for kind in ("png", "svg")}


@pytest.mark.parametrize(
    "frame",
    [table().head(1), table(latency_ms=5.0), table(latency_ms=np.nan), table(acts=1e6), table(host=["a", "b"] * 4)],
    ids=["one model", "constant latency", "no latency", "constant acts", "mixed machines"],
)
def test_poor_tables_still_make_a_page(frame: pd.DataFrame) -> None:
    made = page(frame, {})
    assert "What predicts latency here" in made.text
    assert not [cell for row in made.rows for cell in row if "nan" in cell.lower().split()]


def test_the_full_table_sorts_by_exact_numbers() -> None:
    frame, made = table(), usual()
    sortable = [a for tag, a in made.elements if tag == "table" and a.get("class") == "sortable"]
    assert len(sortable) == 1
    keys = {a["data-v"] for tag, a in made.elements if tag == "td" and "data-v" in a}
    assert {f"{v:.9g}" for v in frame["latency_ms"]} <= keys
    heads = next(r[:4] for r in made.rows if "acts (M)" in r)
    assert heads == ["network", "where", "status", "latency (ms)"]


def test_rows_have_as_many_cells_as_headings() -> None:
    frame = table()
    frame.loc[0, ["status", "latency_ms"]] = ["oom", np.nan]
    made = page(frame)
    start = next(i for i, row in enumerate(made.rows) if "acts (M)" in row)
    widths = {len(row) for row in made.rows[start : start + 1 + len(frame)]}
    assert len(widths) == 1


def test_conditions_count_disturbed_cases_and_leave_unknowns_empty() -> None:
    frame = pd.concat([table(), table(backend="onnxruntime", steal_s=0.5)], ignore_index=True)
    frame.loc[1, "disturbance"] = 1.4
    made = page(frame)
    common = "cpu · fp32 · 2 threads · batch 1 · infer"
    assert [f"eager · {common}", "1.020", "1.400", "1", ""] in made.rows
    assert [f"onnxruntime · {common}", "1.020", "1.020", "0", "4"] in made.rows


def test_nothing_measured_is_said_and_not_drawn() -> None:
    made = checked(report.page(table(status="error", reason="no such model", latency_ms=np.nan), {}))
    assert "No fit: none of the 8 cases has a measurement." in made.text
    assert "svg" not in {tag for tag, _ in made.elements}


@pytest.mark.parametrize("mark", [{"simulated": True}, {"simulated": "true"}, {"backend": "fake:duration_ms=1"}])
def test_simulated_rows_are_marked_and_never_mixed(mark: dict[str, object]) -> None:
    assert report._all_simulated(table(**mark))
    with pytest.raises(UserError, match="8 of 16 rows are simulated"):
        report.page(pd.concat([table(), table(**mark)]), FACTS)


def test_a_simulated_page_says_so_and_a_real_one_does_not() -> None:
    assert report._SIMULATED in page(table(simulated=True)).text
    assert report._SIMULATED not in page(table(simulated=False)).text


@pytest.mark.usefixtures("plain")
def test_several_runs_are_told_apart(tmp_path: Path) -> None:
    for name, host in (("monday", "aaaa"), ("tuesday", "bbbb")):
        table(host=host).to_csv(tmp_path / f"{name}.csv", index=False)
    report_command([tmp_path / "monday.csv", tmp_path / "tuesday.csv"], tmp_path / "out" / "report.html")
    made = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "monday, tuesday" in made.text
    assert "monday · host aaaa · eager" in made.text
    assert "tuesday · host bbbb · eager" in made.text


@pytest.mark.usefixtures("plain")
def test_one_run_needs_no_name(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "only.csv", index=False)
    report_command([tmp_path / "only.csv"], tmp_path / "report.html")
    assert "only · " not in Page((tmp_path / "report.html").read_text(encoding="utf-8")).text


def test_runs_of_one_name_are_told_apart_by_what_differs() -> None:
    assert source_names([Path("a/t.csv"), Path("b/t.csv")]) == ["a", "b"]
    assert source_names([Path("/a/x/t.csv"), Path("/b/x/t.csv"), Path("/b/t.csv")]) == ["a/x", "b/x", "/b"]
    assert source_names([Path("/a/run"), Path("/b/run"), Path("/b/other")]) == ["a/run", "b/run", "b/other"]
    assert source_names([Path("/x/run1/journal.jsonl"), Path("/x/run2")]) == ["run1", "run2"]


def test_a_source_named_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for sources in (["t.csv", "./t.csv"], ["run", "other", "run/journal.jsonl"]):
        with pytest.raises(UserError, match=f"{sources[0]} is named twice"):
            source_names([tmp_path / name for name in sources])


@pytest.mark.usefixtures("plain")
def test_a_page_is_no_file_of_another_kind(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "only.csv", index=False)
    for name in ("page.pdf", "page", "only.csv"):
        with pytest.raises(UserError, match=rf"its name ends in \.html; write {Path(name).stem}\.html"):
            report_command([tmp_path / "only.csv"], tmp_path / name)
    report_command([tmp_path / "only.csv"], Path(os.devnull))
    assert [file.name for file in tmp_path.iterdir()] == ["only.csv"]


def test_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run given"):
        report_command([], tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []
