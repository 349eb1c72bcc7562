"""What a run says before it measures anything: notes, its cases, how long they take, what would fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from profiler.models.naming import is_brought
from profiler.plan.cases import complexities
from profiler.plan.duration import estimate_seconds, round_seconds
from profiler.plan.plan import Plan
from profiler.records.types import Case
from profiler.report.plain import plain_table, print_sentence, standard_console
from profiler.run.describing import Described
from profiler.run.rehearsal import rehearse
from profiler.units import format_duration

#: More cases than fit a terminal are counted, not listed.
_LISTED = 24


def say_notes(notes: Iterable[str], console: Console) -> None:
    """Print what is to be known of a plan, and is no error."""
    for note in notes:
        print_sentence(console, f"note: {note}", "dim")


def too_long(plan: Plan, cases: Sequence[Case]) -> str:
    """Return that first visits take longer than the time asked for, as far as flops tell; empty where they do not."""
    return "" if plan.time is None else _beyond(plan.time, round_seconds(cases, complexities(cases), plan.budget))


def _beyond(asked: float, first: float) -> str:
    if first <= asked:
        return ""
    return f"one visit of each takes about {format_duration(first)}, more than the {format_duration(asked)} asked for"


def show_plan(
    plan: Plan, cases: Sequence[Case], console: Console, *, elsewhere: bool = False, each: bool = False
) -> int:
    """Print the cases, how long they take, and what would fail; return 1 where something would.

    Args:
        plan: Whence they are.
        cases: Of the plan.
        console: Where what is not the list goes.
        elsewhere: They are measured on other machines.
        each: List every case, however many.
    """
    if each or len(cases) <= _LISTED:
        for case in cases:
            print(case.label)
    else:
        listed = standard_console()
        for table in (networks_table(cases), _settings_table(cases)):
            listed.print(table)
        print(f"-v lists every one of the {len(cases)} cases")
    known, problems = rehearse(cases, elsewhere=True) if elsewhere else rehearse(cases)
    brought = [case for case in known.cases if case.key in known.found and is_brought(case.model)]
    for said in dict.fromkeys(_inputs(case, known) for case in brought):
        print_sentence(console, said)
    print_sentence(console, _how_long(plan, cases, known))
    for problem in problems:
        print_sentence(console, f"would fail: {problem}", "red")
    return 1 if problems else 0


def _how_long(plan: Plan, cases: Sequence[Case], known: Described) -> str:
    networks = len({case.network for case in cases})
    counted = [
        f"{number} {name}{'s' * (number != 1)}" for number, name in ((len(cases), "case"), (networks, "network"))
    ]
    counts = complexities(known.cases) | {
        case.key: known.found[case.key].complexity for case in known.cases if case.key in known.found
    }
    said = " of ".join(counted)
    if plan.time is None:
        seconds = estimate_seconds(known.cases, counts, plan.budget)
        return f"{said}; about {format_duration(seconds)}, estimated from flops before anything was measured"
    long = _beyond(plan.time, round_seconds(known.cases, counts, plan.budget))
    return f"{said}; {long or f'about {format_duration(plan.time)}, as asked for'}"


def networks_table(cases: Sequence[Case]) -> Table:
    """A row for each model: how many of its networks each rule makes, and its cases."""
    rules = list(dict.fromkeys(case.scaling for case in cases))
    table = plain_table("model", *(rule or "as it is" for rule in rules), "cases")
    table.padding = (0, 1, 0, 0)
    networks = dict.fromkeys((case.model, case.scaling, case.network) for case in cases)
    made, total = Counter((model, rule) for model, rule, _ in networks), Counter(case.model for case in cases)
    for model, number in total.items():
        cells = (str(made[model, rule] or "") for rule in rules)
        table.add_row(*map(escape, (model, *cells, str(number))))
    return table


def _settings_table(cases: Sequence[Case]) -> Table:
    table = plain_table("where", "cases")
    table.padding = (0, 1, 0, 0)
    for setting, number in Counter(case.label.partition(" · ")[2] for case in cases).items():
        table.add_row(escape(setting), str(number))
    return table


def _inputs(case: Case, known: Described) -> str:
    return f"{case.network} takes {known.found[case.key].inputs[case.batch]}"
