"""The frozen types that flow from plan to table; statistics are computed from them in ``profiler.records.estimate``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Tag

from profiler.backends.base import Fact, Placement
from profiler.models.complexity import Complexity
from profiler.models.loaded import Asked
from profiler.records.circumstances import Conditions
from profiler.records.keys import key_of
from profiler.records.ranges import Amount, Count, Factor, MeanNs, Name, Ns, Positive, Repeats
from profiler.units import format_duration


def now() -> str:
    """Return the UTC time to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


#: Images of ImageNet-1k's training set.
IMAGENET = 1_281_167


@dataclass(frozen=True, slots=True)
class Feed:
    """The epoch asked about, and where its images come from.

    Attributes:
        images: Images of one epoch.
        folder: The user's images; None makes a small set once.
        workers: Processes that load; None takes the cores that training leaves.
    """

    images: int = IMAGENET
    folder: str | None = None
    workers: int | None = None


SCHEMA = 1
Mode = Literal["infer", "train"]
#: What a visit is for. Each disturbs the others, so each has visits of its own.
Pass = Literal["latency", "memory", "epoch"]
_FailureStatus = Literal["error", "crashed", "oom", "timeout", "unsupported", "parity", "fallback"]


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure: a scaled network on a backend in a placement.

    Attributes:
        model: A name from ``profiler.models``, ``package.module:factory``, or a path ending in ``.onnx``.
        scaling: Rule such as ``dWr``; empty for the unscaled network.
        factor: Scaling factor s; 1.0 for the unscaled network.
        target_flops: The flops that were asked for, where ``factor`` was solved for them.
        step: The step beside the rule that a target needed, as ``Arch.step``; empty on the rule.
        batch_asked: ``max`` where ``batch`` is the largest that was found to fit.
        backend: Name with optional settings, as ``fake:duration_ms=1``.
        placement: Device, precision, threads, memory format.
        batch: Images per forward.
        mode: ``infer`` or ``train``.
        shape: Shapes of inputs, or values of dimensions, that were asked for; empty for the model's own.
        input_file: ``.npz`` file with the values of inputs; empty for the model's own.
        content: Digest of what was measured: code, weights, values of the inputs. Empty before the model was looked at.
        fleet_label: Label of the machines of a fleet that measure it; empty for this machine.
        gap_s: How long it idles before each timed forward, in seconds; 0 for forwards back to back.
    """

    model: Name
    scaling: Name
    factor: Factor
    backend: Name
    placement: Placement
    batch: Positive = 1
    mode: Mode = "infer"
    target_flops: Positive | None = None
    batch_asked: Literal["max"] | None = None
    step: str = ""
    shape: str = ""
    input_file: str = ""
    content: str = ""
    fleet_label: str = ""
    gap_s: Amount = 0.0

    def asked(self, cache: Path | None = None, batch: int | None = None) -> Asked:
        """Return what this case asks of the source of its model; ``batch`` replaces its own."""
        batch = batch or self.batch
        return Asked(self.model, self.scaling, self.factor, self.step, batch, self.shape, self.input_file, cache)

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that name this case in a journal; equal cases have equal keys."""
        return key_of(self, repr(self.factor))

    @property
    def network(self) -> str:
        """The network as people say it: ``regnety_4.0gf dWr x4``, ``net.onnx height=320,width=320``.

        A step beside the rule follows it, as ``d3+1``.
        """
        scaled = f"{self.model} {self.scaling} x{self.factor:.4g}" if self.scaling else self.model
        return " ".join(filter(None, (scaled, self.step, self.shape, self.input_file)))

    def same_but_for_content(self, other: Case) -> bool:
        """Whether the same was asked for, though the model may have changed in between."""
        return replace(self, content="") == replace(other, content="")

    def another_content(self, other: Case) -> bool:
        """Whether the same was asked for and is known to have changed; an empty content is not known."""
        known = bool(self.content and other.content)
        return known and self.content != other.content and self.same_but_for_content(other)

    @property
    def label(self) -> str:
        """One line for progress and messages."""
        p, mode = self.placement, "" if self.mode == "infer" else f" {self.mode}"
        where = f"{p.device} {p.precision} t{p.threads} b{self.batch}"
        on = f"{self.fleet_label}: " if self.fleet_label else ""
        where += f" ({self.batch_asked})" if self.batch_asked else ""
        where += f" {format_duration(self.gap_s)} apart" if self.gap_s else ""
        return f"{self.network} · {self.backend}{mode} · {on}{where}"


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to measure, and how well.

    Attributes:
        visit_s: Wall time of the timed part of one visit, in seconds.
        min_samples: Samples that a visit takes even when they outlast ``visit_s``.
        warmup_s: The longest a visit may warm up, in seconds.
        rounds: The most visits a case gets.
        min_rounds: The fewest visits a case gets before its interval may end it.
        precision: Half width of the 95% interval over visits, relative, at which a case is finished; None for none.
        timeout_s: Wall time after which a visit is killed.
    """

    visit_s: Amount = 1.0
    min_samples: Count = 5
    warmup_s: Amount = 3.0
    rounds: Count = 12
    min_rounds: Count = 5
    precision: Amount | None = 0.01
    timeout_s: Amount = 300.0

    @property
    def pilot(self) -> int:
        """How many visits of a case are made before their spread may end it, see ``profiler.records.intervals``."""
        return self.rounds if self.precision is None else self.min_rounds


@dataclass(frozen=True, slots=True)
class Warmup:
    """What happened before the first timed sample.

    Attributes:
        samples_ns: Time per forward of each warm-up sample.
        steady: Whether samples, and an accelerator's clock where it is told, stood still before time was up.
    """

    samples_ns: tuple[Count, ...]
    steady: bool

    @property
    def typical_ns(self) -> int:
        """A rough time of one forward, in ns: the fastest of the later half."""
        return min(self.samples_ns[len(self.samples_ns) // 2 :])


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
        phases_s: Wall time of the visit's parts: device, build, load, first (forward), parity, warmup, timed, events,
            energy; and waited, the part of timed in which nothing was begun because the reference was disturbed.
        device_ns: Times of single forwards by events on the device, after the timed part; empty where it has none.
        parts_ns: Times of the parts of a few training steps after the timed ones, by part; empty for inference.
        energy_j: Energy of the GPU per forward or step, from its counter, in a pass after the timed one.
        core_wait_ns: How long threads of the visit were ready to run but had no core, in all, in each block of samples;
            empty where the system does not tell, or where there are more threads than cores.
        clock_mhz: An accelerator's clock before the first block and after each, by kernels that wait; empty elsewhere.
        stream_gb_s: Bandwidth of writing to its memory at the same moments.
        input_ns: Times of copying the inputs from the host to an accelerator, each on its own, after the timed part.
        output_ns: Times of copying the outputs back.
    """

    samples_ns: tuple[tuple[Ns, ...], ...]
    calls_per_sample: Repeats
    reference_ns: tuple[tuple[Ns, ...], ...]
    nominal_ns: MeanNs | None
    warmup: Warmup
    parity: float | None
    conditions: Conditions
    facts: dict[str, Fact]
    phases_s: dict[str, Amount] = field(default_factory=dict)
    device_ns: tuple[Count, ...] = ()
    parts_ns: dict[str, tuple[Count, ...]] = field(default_factory=dict)
    energy_j: Amount | None = None
    core_wait_ns: tuple[Count, ...] = ()
    clock_mhz: tuple[Amount, ...] = ()
    stream_gb_s: tuple[Amount, ...] = ()
    input_ns: tuple[Count, ...] = ()
    output_ns: tuple[Count, ...] = ()


@dataclass(frozen=True, slots=True)
class Memory:
    """Peaks of memory in one visit, in bytes above the level before loading, by source.

    Sources are ``process`` (resident set), ``device`` (all of an accelerator's memory in use), ``allocated`` and
    ``reserved`` (torch's allocator there) and ``nvml`` (the driver's count for the process), as far as they tell.

    Attributes:
        load_bytes: Peak while the model was loaded.
        run_bytes: Peak while it ran; what was loaded is part of it.
        arena_bytes: Most bytes in use at once in the runtime's own allocator; None where it does not tell.
        facts: What the backend says really ran.
    """

    load_bytes: dict[str, Count]
    run_bytes: dict[str, Count]
    arena_bytes: Count | None = None
    facts: dict[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Epoch:
    """Training steps, loader and both together, by turns in one visit; each time is the mean of one block, in ns.

    Attributes:
        step_ns: Time of a training step, its batch kept on the host.
        loader_ns: Time in which the loader alone makes a batch.
        joint_ns: Time of a step fed by the loader: what an epoch is made of.
        images: Images of the epoch that was asked about.
        workers: Processes that load; with 0 the training process loads too, between its steps.
        cores: Cores that this process may use.
        files: Image files that were read over and over.
        facts: What the backend says really ran.
    """

    step_ns: tuple[MeanNs, ...]
    loader_ns: tuple[MeanNs, ...]
    joint_ns: tuple[MeanNs, ...]
    images: Positive
    workers: Count
    cores: Positive
    files: Count
    facts: dict[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a visit has no measurement.

    Attributes:
        status: The kind of failure.
        reason: One sentence for the table: the value, what was expected, the next step.
        detail: Traceback or the last output of the process, for whoever looks closer.
    """

    status: _FailureStatus
    reason: str
    detail: str = ""


#: What only one kind of outcome has.
_OWN_FIELD = {"samples_ns": "measurement", "load_bytes": "memory", "step_ns": "epoch", "status": "failure"}


def _kind(outcome: object) -> str | None:
    """Tell the kind of an outcome, so that what is wrong in it is said of its own kind."""
    has = outcome.__contains__ if isinstance(outcome, dict) else lambda name: hasattr(outcome, name)
    return next((kind for name, kind in _OWN_FIELD.items() if has(name)), None)


#: What comes of a visit.
Outcome = Annotated[
    Annotated[Measurement, Tag("measurement")]
    | Annotated[Memory, Tag("memory")]
    | Annotated[Epoch, Tag("epoch")]
    | Annotated[Failure, Tag("failure")],
    Discriminator(_kind),
]


@dataclass(frozen=True, slots=True)
class Record:
    """One visit, as one line of the journal.

    Attributes:
        case: What was measured.
        complexity: Flops, params and acts for one example; None for a model that could not be counted.
        resolution: Height and width of the input, in pixels.
        host: Key of the machine, see ``profiler.machine.host``.
        round: Number of the round, from 0.
        started: UTC time, ISO 8601.
        wall_s: Wall time of the whole visit as the parent saw it, in seconds.
        outcome: The raw data, or why there is none.
        measures: What the visit was for; it decides the type of ``outcome`` unless that is a Failure.
        inputs: Names, types and shapes of the inputs; empty in records made before they were kept.
        uncounted: Why the model could not be counted; empty where it could.
        family: The user's family that it is scaled in; empty for others.
        worker: Name of the worker of a fleet that made it; empty for this machine.
    """

    case: Case
    complexity: Complexity | None
    resolution: Positive | None
    host: Name
    round: Count
    started: Name
    wall_s: Amount
    outcome: Outcome
    schema: int = SCHEMA
    measures: Pass = "latency"
    inputs: str = ""
    uncounted: str = ""
    family: str = ""
    worker: str = ""
