from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from profiler.analysis.fit import fit
from profiler.analysis.source import read_table
from profiler.backends.base import Placement
from profiler.cli.report import report_command
from profiler.errors import UserError
from profiler.records.circumstances import Conditions
from profiler.records.journal import Journal
from profiler.records.types import Case, Measurement, Record, Warmup
from profiler.report import page
from profiler.report.claims import claims_markdown, claims_table, print_claims
from profiler.report.summary import finish
from tests import ROOT
from tests.analysis.test_claims import FASTER, scaled


@pytest.fixture
def both() -> pd.DataFrame:
    """Two runtimes: time goes into activations on one, into flops on the other."""
    costs = {"x": lambda counts: counts.acts / 1e6, "y": lambda counts: counts.flops / 1e8}
    return pd.concat([scaled(cost, backend=name, device="cpu") for name, cost in costs.items()], ignore_index=True)


def test_the_document_has_a_row_for_each_claim_and_a_column_for_each_group(both: pd.DataFrame) -> None:
    head, rule, *rows, empty, note = claims_markdown(both, fit(both)).splitlines()
    assert head == "| the paper, on a GPU | x | y |"
    assert rule == "| --- | --- | --- |"
    assert len(rows) == 6
    assert all(row.count("|") == 4 for row in rows)
    assert "| activations predict latency better than flops do | holds: r of acts 1.00" in rows[0]
    assert "| does not hold: r of acts" in rows[0]
    assert (empty, note[:6]) == ("", "Dollár")


def test_it_is_printed_with_each_claim_named_once(both: pd.DataFrame) -> None:
    console = Console(file=io.StringIO(), width=200)
    print_claims(both, fit(both), console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert said.count(FASTER) == 1
    assert "holds: dWr takes 0.79 [0.73, 0.85] of the time of dwr" in said


def test_a_narrow_terminal_gets_a_line_for_each_group_below_its_claim(both: pd.DataFrame) -> None:
    console = Console(file=io.StringIO(), width=80)
    print_claims(both, fit(both), console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    at = lines.index(FASTER)
    assert [line[:5] for line in lines[at + 1 : at + 4]] == ["  x: ", "  y: ", "dWr i"]
    assert lines[at + 1].endswith("of the time of dwr")


def test_the_page_has_it(both: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "can_draw", lambda: False)
    text = page.page(both, {})
    assert "What the paper claims, and what holds here" in text
    assert text.count(f"<td>{FASTER}</td>") == 2
    one = both[both["scaling"] == ""]
    assert "What the paper claims, and what holds here" not in page.page(one, {})
    assert claims_table(one, fit(one)) is None


def test_the_command_writes_it(both: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("profiler.cli.report.can_draw", lambda: False)
    monkeypatch.setattr(page, "can_draw", lambda: False)
    monkeypatch.setattr("profiler.cli.report.write_page", lambda *_: None)
    both.to_csv(tmp_path / "t.csv", index=False)
    report_command([tmp_path / "t.csv"], tmp_path / "page.html", claims=tmp_path / "claims.md")
    assert (tmp_path / "claims.md").read_text(encoding="utf-8") == claims_markdown(both, fit(both))


@pytest.mark.parametrize("plan", ["fast-and-accurate", "fast-and-accurate-gpu", "mine"])
def test_a_run_of_the_plan_ends_with_it(plan: str, tmp_path: Path) -> None:
    networks = [("", 1.0), ("dwr", 2.0), ("dWr", 2.0)]
    cases = [Case("regnety_400mf", rule, factor, "eager", Placement(threads=1)) for rule, factor in networks]
    with Journal.open(tmp_path, {"plan": f'models = ["regnety_400mf"]\nname = "{plan}"\n', "cases": cases}) as journal:
        for number, case in enumerate(cases):
            samples, reference = ((2_000_000 + 1000 * number,),), ((1_000_000,),) * 2
            made = Measurement(samples, 1, reference, 1e6, Warmup((), steady=True), 0.0, Conditions(), {})
            journal.append(Record(case, None, 224, "h1", 0, "2026-01-01T00:00:00+00:00", 1.0, made))
    console = Console(file=io.StringIO(), width=200)
    finish(tmp_path, 1.0, console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("the paper claims" in said) == (plan != "mine")
    assert (tmp_path / "claims.md").exists() == (plan != "mine")


def test_a_run_without_rules_says_so(both: pd.DataFrame) -> None:
    one = both[both["scaling"] == ""]
    with pytest.raises(UserError, match="no claim can be judged"):
        claims_markdown(one, fit(one))


@pytest.mark.parametrize("run", ["fast-and-accurate", "sweep", "sweep_xeon"])
def test_the_documented_tables_are_those_of_the_runs(run: str) -> None:
    table = (ROOT / "results" / "reference" / run / "claims.md").read_text(encoding="utf-8").partition("\n\n")[0]
    assert table.count("\n") >= 7
    assert table in (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    assert (table in (ROOT / "README.md").read_text(encoding="utf-8")) == (run == "fast-and-accurate")


def test_how_many_rows_are_unstable_is_said_where_the_claims_stand() -> None:
    frame = pd.read_csv(ROOT / "results" / "reference" / "fast-and-accurate" / "cases.csv")
    unsure, known = (frame["status"] == "unstable").sum(), frame["precision_reached"].median()
    for name in ("README.md", "docs/claims.md"):
        text = " ".join((ROOT / name).read_text(encoding="utf-8").split())
        assert f"±{known:.0%} in the median" in text
        assert f"{unsure} of {len(frame)} are `unstable`" in text


def test_the_table_of_a_run_follows_from_its_rows() -> None:
    folder = ROOT / "results" / "reference" / "fast-and-accurate"
    frame = read_table(folder / "cases.csv")
    assert claims_markdown(frame, fit(frame)) == (folder / "claims.md").read_text(encoding="utf-8")
