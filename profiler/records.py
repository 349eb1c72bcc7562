"""The frozen types that flow from plan to table.

Statistics are never stored beside the raw data they come from: they are computed in
:mod:`profiler.estimate`, so that a better estimator can be applied to old runs.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Literal

from backends.base import Fact, Placement
from profiler.models.complexity import Complexity

SCHEMA = 1

Mode = Literal["infer", "train"]
FailureStatus = Literal["error", "crashed", "oom", "timeout", "unsupported", "parity", "fallback"]


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure: a scaled network on a backend in a placement.

    Attributes:
        model: A name from :mod:`profiler.models`, ``package.module:factory``, or a path ending in ``.onnx``.
        scaling: Rule such as ``dWr``; empty for the unscaled network.
        factor: Scaling factor s; 1.0 for the unscaled network.
        target_flops: The flops that were asked for, where ``factor`` was solved for them.
        backend: Name with optional settings, as ``fake:duration_ms=1``.
        placement: Device, precision, threads, memory format.
        batch: Images per forward.
        mode: ``infer`` or ``train``.
    """

    model: str
    scaling: str
    factor: float
    backend: str
    placement: Placement
    batch: int = 1
    mode: Mode = "infer"
    target_flops: int | None = None

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that name this case in a journal; equal cases have equal keys."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def network(self) -> str:
        """The network as people say it: ``regnety_4.0gf dWr x4``."""
        return f"{self.model} {self.scaling} x{self.factor:.4g}" if self.scaling else self.model

    @property
    def label(self) -> str:
        """One line for progress and messages."""
        p = self.placement
        return f"{self.network} · {self.backend} · {p.device} {p.precision} t{p.threads} b{self.batch}"


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to measure, and how well.

    Attributes:
        visit_s: Wall time of the timed part of one visit, in seconds.
        min_samples: Samples that a visit takes even when they outlast ``visit_s``.
        warmup_s: The longest a visit may warm up, in seconds.
        rounds: The most visits a case gets.
        min_rounds: The fewest visits a case gets before its interval may end it.
        precision: Half width of the 95% interval over visits, relative, at which a case is finished.
        timeout_s: Wall time after which a visit is killed.
    """

    visit_s: float = 1.0
    min_samples: int = 5
    warmup_s: float = 3.0
    rounds: int = 10
    min_rounds: int = 3
    precision: float = 0.01
    timeout_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Warmup:
    """What happened before the first timed sample.

    Attributes:
        samples_ns: Time per forward of each warm-up sample.
        steady: Whether the drift test passed before the budget for warming up was spent.
    """

    samples_ns: tuple[int, ...]
    steady: bool


@dataclass(frozen=True, slots=True)
class Conditions:
    """What else the machine did during the timed part of a visit. None where the system does not tell.

    Attributes:
        involuntary_switches: Times the process was taken off a core against its will.
        steal_s: CPU time taken by the hypervisor, all cores, in seconds.
        stall_s: Time in which some task waited for a CPU (Linux pressure stall, ``some``), in seconds.
        throttled_s: Time the control group was throttled, in seconds.
        frequency_mhz: Mean frequency of the cores after the visit.
        load: Cores kept busy by other processes, on average.
    """

    involuntary_switches: int | None = None
    steal_s: float | None = None
    stall_s: float | None = None
    throttled_s: float | None = None
    frequency_mhz: float | None = None
    load: float | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """The raw data of one visit.

    Samples come in blocks, with a block of the reference workload before the first, between every two and after
    the last: ``len(reference_ns) == len(samples_ns) + 1``, or 0 when the visit ran without a reference.

    Attributes:
        samples_ns: Blocks of samples, each the time of ``calls_per_sample`` forwards and one sync.
        calls_per_sample: Forwards per sample.
        reference_ns: Blocks of times of the reference workload, one call each.
        nominal_ns: Time of one call of the reference on this machine when nothing disturbs it.
        warmup: Samples before the timed ones.
        parity: Largest absolute difference from eager's output, divided by eager's largest absolute output.
        conditions: What the machine did meanwhile.
        facts: What the backend says really ran.
        phases_s: Wall time of the visit's parts: build, load, parity, warmup, timed.
    """

    samples_ns: tuple[tuple[int, ...], ...]
    calls_per_sample: int
    reference_ns: tuple[tuple[int, ...], ...]
    nominal_ns: float | None
    warmup: Warmup
    parity: float | None
    conditions: Conditions
    facts: dict[str, Fact]
    phases_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a visit has no measurement.

    Attributes:
        status: The kind of failure.
        reason: One sentence for the table: the value, what was expected, the next step.
        detail: Traceback or the last output of the process, for whoever looks closer.
    """

    status: FailureStatus
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One visit, as one line of the journal.

    Attributes:
        case: What was measured.
        complexity: Exact flops, params and acts for one image; None for a model that could not be counted.
        resolution: Height and width of the input, in pixels.
        host: Key of the machine, see :mod:`profiler.host`.
        round: Number of the round, from 0.
        started: UTC time, ISO 8601.
        wall_s: Wall time of the whole visit as the parent saw it, in seconds.
        outcome: The raw data, or why there is none.
    """

    case: Case
    complexity: Complexity | None
    resolution: int | None
    host: str
    round: int
    started: str
    wall_s: float
    outcome: Measurement | Failure
    schema: int = SCHEMA
