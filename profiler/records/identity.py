"""What a row says of the case itself: what was asked, what the model is, where it ran, and under which versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from profiler import models
from profiler.errors import UserError
from profiler.models.arch import Arch
from profiler.models.naming import is_brought, may_be_family
from profiler.models.published import figures_of, told_source
from profiler.models.zoo import arch_of
from profiler.records.columns import Row, Value
from profiler.records.lines import RunSession
from profiler.records.types import Case, Measurement, Record


def of_asked(case: Case) -> Row:
    """Return what was asked for."""
    place = case.placement
    return {
        "model": case.model,
        "scaling": case.scaling,
        "factor": case.factor,
        "target_flops": case.target_flops,
        "step": case.step or None,
        "backend": case.backend,
        "device": place.device,
        "precision": place.precision,
        "threads": place.threads,
        "memory_format": place.memory_format,
        "batch": case.batch,
        "batch_asked": case.batch_asked,
        "mode": case.mode,
        "shape": case.shape or None,
        "content": case.content or None,
        "case": case.key,
        "fleet_label": case.fleet_label or None,
        "gap_ms": case.gap_s * 1e3 if case.gap_s else None,
    }


def of_network(case: Case, visits: Sequence[Record]) -> Row:
    """Return counts as the visits recorded them, else computed, and the inputs."""
    arch = _arch(case)
    exact = models.complexity(arch) if arch else None
    counted = next((r.complexity for r in visits if r.complexity), exact)
    resolution = next((r.resolution for r in visits if r.resolution), arch.resolution if arch else None)
    # What is only a lower bound is no count.
    whole = counted if counted and not counted.uncounted else None
    counts: Row = {"flops": whole.flops, "acts": whole.acts} if whole else {}
    counts["params"] = counted.params if counted else None
    why = counted.uncounted if counted else next((r.uncounted for r in visits if r.uncounted), "")
    counts["uncounted"] = why or None
    counts["inputs"] = next((r.inputs for r in reversed(visits) if r.inputs), None)
    # Records that are older than one of these counts lack it.
    newest = [each for each in (whole, exact) if each]
    counts["layers"] = next((each.layers for each in newest if each.layers), None)
    counts["padding_flops"] = next((n for n in (each.padding_flops for each in newest) if n is not None), None)
    scaled = case.model if case.scaling and may_be_family(case.model) else None
    own = next((r.family for r in visits if r.family), scaled)
    return counts | {"family": arch.family if arch else own, "resolution": resolution} | _of_accuracy(case, resolution)


def _of_accuracy(case: Case, resolution: int | None) -> Row:
    """Return the published accuracy of a network that is not scaled; nothing where there is none."""
    found = figures_of(case.model, resolution) if case.factor == 1 and not case.step else []
    return {"top1": found[0].top1, "top1_source": told_source(found[0].recipe, found[0].source)} if found else {}


def _arch(case: Case) -> Arch | None:
    if is_brought(case.model):
        return None
    try:
        return arch_of(case.asked())
    except UserError:  # a network that this version no longer knows
        return None


def of_host(visits: Sequence[Record], sessions: Sequence[RunSession]) -> Row:
    """Return the machine of the visits, and when they began."""
    if not visits:
        return {}
    key = visits[0].host
    facts = next((s.hosts[key] for s in reversed(sessions) if key in s.hosts), {})
    row: Row = {name: scalar(facts.get(name)) for name in ("cpu", "os", "python")}
    return row | {"host": key, "started": min(record.started for record in visits)}


def of_facts(good: Sequence[Measurement], backend: str) -> Row:
    """What really ran, as the latest visit says, and the worst parity of all."""
    if not good:
        return {}
    facts = good[-1].facts
    name = backend.partition(":")[0]
    parities = [m.parity for m in good if m.parity is not None]
    return {
        "parity": max(parities) if parities else None,
        "provider": facts.get("provider"),
        **{name: scalar(facts.get(name)) for name in ("relative_error", "cosine", "top1_agreement", "top1_inputs")},
        # A backend inside torch has torch's version.
        "backend_version": facts.get(name) or facts.get("torch"),
    }


def of_versions(good: Sequence[Measurement], sessions: Sequence[RunSession]) -> Row:
    """Versions as the process read them back, else as installed (an export needs torch too)."""
    facts = good[-1].facts if good else {}
    installed = mapping_in(sessions[-1].facts, "versions") if sessions else {}
    names = {"torch_version": ("torch",), "onnxruntime_version": ("onnxruntime", "onnxruntime-gpu")}
    found = {column: [facts.get(n) or installed.get(n) for n in choices] for column, choices in names.items()}
    return {column: scalar(next(filter(None, values), None)) for column, values in found.items()}


def mapping_in(facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a mapping among ``facts``; empty where there is none of this name."""
    found = facts.get(name)
    return found if isinstance(found, Mapping) else {}


def scalar(value: object) -> Value:
    """Return ``value`` where it can stand in a cell, else None."""
    return value if isinstance(value, str | int | float) else None
