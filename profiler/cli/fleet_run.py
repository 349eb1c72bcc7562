"""``profiler run --scheduler``: a plan whose devices are labels of a fleet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from rich.console import Console

from profiler.cli.dry_run import say_notes, show_plan
from profiler.cli.run import How, finished, folder_of
from profiler.errors import UserError
from profiler.plan.cases import expand, notes, wanted
from profiler.plan.plan import Plan
from profiler.plan.read import from_flags, load, override
from profiler.records.crowding import crowds
from profiler.records.types import Case
from profiler.run.batch import with_batches
from profiler.run.experiment import measure_into, opened_lab
from profiler.run.families import families
from profiler.run.far import FleetDisplay, found_sites, site_facts
from profiler.run.fitting import fleet_probe
from profiler.run.fleet import Fleet, joined
from profiler.run.going_on import again
from profiler.run.placing import Placing, Way
from profiler.run.processes import Isolation
from profiler.run.schedule import Progress
from profiler.units import parse_duration


def run_on_fleet(
    source: str | None, flags: Mapping[str, object], how: How, isolation: Isolation | None, console: Console
) -> int:
    """Measure a plan on the machines of a fleet and return the exit code, as ``profiler run`` does on this one.

    Raises:
        UserError: The scheduler does not answer, or a label has no worker.
    """
    assert how.meeting is not None
    plan = override(load(source, "fleet"), "fleet", **flags) if source else from_flags("fleet", **flags)
    patience_s = _patience(how.patience)
    with joined(how.meeting) as fleet:
        return _on(fleet, plan, how, isolation, console, patience_s)


def _patience(text: str) -> float:
    try:
        return parse_duration(text)
    except UserError as error:
        raise UserError(f"--patience: {error}") from error


def _on(fleet: Fleet, plan: Plan, how: How, isolation: Isolation | None, console: Console, patience_s: float) -> int:
    sites, members = found_sites(fleet, plan, patience_s)
    if not any("devices" in sweep.model_fields_set for sweep in plan.sweeps):
        plan = override(plan, "fleet", devices=list(sites))
    own = families(wanted(plan))
    cases = expand(plan, 1, own, sites)
    crowded = [note for label, site in sites.items() for note in crowds(_of(cases, label), site.cores)]
    full = how.detail == "full"
    say_notes((*notes(plan, own, fleet=True, brief=not full), *dict.fromkeys(crowded)), console)
    if how.dry_run:
        return show_plan(plan, cases, console, elsewhere=True, each=full)
    folder, limits = folder_of(plan, how), how.limits()
    facts = site_facts(sites, members)

    def measure() -> Progress:
        with opened_lab(plan, isolation=isolation) as lab, FleetDisplay(console, list(sites)) as shown:
            memory = limits(cases[0].placement).memory_bytes
            placing = Placing(fleet, Way(sites, patience_s, memory, how.pin, isolation), shown)
            alone, go_on = replace(lab, another=None, limits=limits), again(folder)
            say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
            found = with_batches(cases, folder, alone, say, how.resume, fleet_probe(placing, alone, cases))
            into = partial(measure_into, folder, plan, found, alone, console=console, watcher=shown, measure=placing)
            return into(resume=how.resume, go_on=go_on, passes=plan.passes, facts=facts)

    return finished(measure, folder, how)


def _of(cases: tuple[Case, ...], label: str) -> list[Case]:
    return [case for case in cases if case.fleet_label == label]
