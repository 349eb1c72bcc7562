"""Dispatch only: every command lives in the module of its name and is imported when it is called.

Importing this module costs typer and nothing else, so that ``profiler --help`` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from profiler.cli.options import Json, Many, Model, RunPath

app = typer.Typer(
    name="profiler",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="What a network costs on your hardware: latency of scaled networks, and what predicts it.",
)


def _version(asked: bool) -> None:
    if asked:
        from profiler import __version__

        typer.echo(f"latency-profiler {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def models(
    pattern: Annotated[str | None, typer.Argument(metavar="[PATTERN]", help="Part of a name.")] = None,
    json: Json = False,
) -> None:
    """List the networks there are, with their exact complexity."""
    from profiler.cli.models import list_models

    list_models(json, pattern)


@app.command()
def complexity(
    model: Model,
    scale: Annotated[
        str, typer.Option("--scale", metavar="RULE", help="d, w, dwr, dWr, d1_w8_g8_r1, alpha=0.8, ...")
    ] = "",
    factor: Annotated[float | None, typer.Option("--factor", metavar="S", help="Scale flops by about S.")] = None,
    flops: Annotated[str | None, typer.Option("--flops", metavar="T", help="Solve for a target, as 16GF.")] = None,
    json: Json = False,
) -> None:
    """Print a network's exact flops, params and acts, scaled or not."""
    from profiler.cli.models import run as command

    command(model, scale, factor, flops, json)


@app.command()
def run(
    plan: Annotated[str | None, typer.Argument(metavar="[PLAN]", help="quick, paper, or a TOML file.")] = None,
    model: Annotated[
        Many, typer.Option("--model", metavar="A,B", help="Names, package.module:factory, or .onnx files.")
    ] = None,
    scale: Annotated[Many, typer.Option("--scale", metavar="R,R", help="Scaling rules.")] = None,
    factor: Annotated[Many, typer.Option("--factor", metavar="S,S", help="Scaling factors.")] = None,
    flops: Annotated[Many, typer.Option("--flops", metavar="T,T", help="Target flops instead of factors.")] = None,
    backend: Annotated[
        Many, typer.Option("--backend", metavar="B,B", help="eager, torchscript, onnxruntime, ...")
    ] = None,
    device: Annotated[Many, typer.Option("--device", "--devices", metavar="D,D", help="cpu, cuda:0, ...")] = None,
    precision: Annotated[
        Many,
        typer.Option(
            "--precision",
            metavar="P,P",
            help="Of numbers: fp32, fp16, bf16; of the result: a case is finished when its 95% interval is within this, as 1%.",
        ),
    ] = None,
    threads: Annotated[Many, typer.Option("--threads", metavar="N,N", help="Threads; 0 is every usable core.")] = None,
    batch: Annotated[
        Many, typer.Option("--batch", metavar="N,N", help="Images per forward; max finds the largest that fits.")
    ] = None,
    mode: Annotated[Many, typer.Option("--mode", metavar="M,M", help="infer, train.")] = None,
    memory: Annotated[bool, typer.Option("--memory", help="Peak memory too, in a visit of its own.")] = False,
    epoch: Annotated[
        bool, typer.Option("--epoch", help="For mode train: an epoch's time, with a loader over image files.")
    ] = False,
    images: Annotated[
        int | None, typer.Option("--images", metavar="N", help="Images of an epoch [1281167, ImageNet's].")
    ] = None,
    images_from: Annotated[
        str | None, typer.Option("--images-from", metavar="DIR", help="Images to load [a small set is made once].")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", help="Processes that load [cores that training leaves].")
    ] = None,
    memory_format: Annotated[
        Many, typer.Option("--memory-format", metavar="F,F", help="contiguous, channels_last.")
    ] = None,
    rounds: Annotated[int | None, typer.Option("--rounds", metavar="N", help="The most visits a case gets.")] = None,
    visit: Annotated[str | None, typer.Option("--visit", metavar="1s", help="Timed part of one visit.")] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="300s", help="A visit is stopped after this.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Seed of the random order.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the run [results/PLAN-DATE].")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted run; measures nothing twice.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be measured, and how long it takes.")
    ] = False,
    isolation: Annotated[str | None, typer.Option("--isolation", metavar="HOW", help="forkserver or spawn.")] = None,
    pin: Annotated[bool, typer.Option("--pin", help="Pin each visit to as many cores as it has threads.")] = False,
    memory_limit: Annotated[
        str | None, typer.Option("--memory-limit", metavar="4GiB", help="Memory a visit may take.")
    ] = None,
) -> None:
    """Measure a plan: a fresh process per visit, every visit kept, a CSV, charts and a report at the end."""
    from profiler.cli.run import Options, command

    numbers, interval = _precisions(precision)
    flags: dict[str, object] = {
        "models": model,
        "scalings": scale,
        "factors": factor,
        "flops": flops,
        "backends": backend,
        "devices": device,
        "precisions": numbers,
        "threads": threads,
        "batches": batch,
        "modes": mode,
        "memory_formats": memory_format,
        "memory": memory or None,
        "epoch": epoch or None,
        "images": images,
        "images_from": images_from,
        "workers": workers,
        "seed": seed,
        "precision": interval,
        "rounds": rounds,
        "visit_s": visit,
        "timeout_s": timeout,
    }
    raise typer.Exit(command(plan, flags, Options(out, resume, dry_run, isolation, pin, memory_limit)))


def _precisions(text: str | None) -> tuple[str | None, str | None]:
    """Tell the precision of numbers (``fp32,bf16``) from that of the result (``1%``): one flag takes both."""
    words = [word.strip() for word in text.split(",")] if text else []
    results = [word for word in words if word[:1].isdigit() or word[:1] == "."]
    numbers = [word for word in words if word not in results]
    return ",".join(numbers) or None, results[-1] if results else None


@app.command()
def export(
    run: RunPath,
    csv: Annotated[Path, typer.Option("--csv", metavar="FILE", help="Where to write the table.")],
) -> None:
    """Write a run's table, one row per case, at any time."""
    from profiler.cli.export import run as command

    command(run, csv)


@app.command()
def fit(
    source: RunPath,
    y: Annotated[str | None, typer.Option("--y", metavar="COLUMN", help="What to predict [latency_ms].")] = None,
    chart: Annotated[
        Path | None, typer.Option("--chart", metavar="FILE", help="Write a chart: .html, .png or .svg.")
    ] = None,
    weighted: Annotated[
        bool, typer.Option("--weighted", help="Weigh networks by how surely they were measured.")
    ] = False,
    json: Json = False,
) -> None:
    """Fit latency against activations, flops and parameters; any CSV with those columns will do."""
    from profiler.cli.fit import run as command

    command(source, json, y, chart, weighted=weighted)


@app.command()
def predict(
    source: RunPath,
    model: Model,
    scale: Annotated[str, typer.Option("--scale", metavar="RULE", help="As for `profiler complexity`.")] = "",
    factor: Annotated[float | None, typer.Option("--factor", metavar="S", help="Scale flops by about S.")] = None,
    flops: Annotated[str | None, typer.Option("--flops", metavar="T", help="Solve for a target, as 16GF.")] = None,
    backend: Annotated[str | None, typer.Option("--backend", metavar="B", help="Only this backend.")] = None,
    where: Annotated[str | None, typer.Option("--where", metavar="K=V,K=V", help="Only rows as batch=8.")] = None,
    json: Json = False,
) -> None:
    """Predict what an unmeasured network costs, with a 90% interval, from a run."""
    from profiler.cli.predict import run as command

    command(source, model, scale, factor, flops, backend, json, where)


@app.command()
def advise(
    base: Annotated[str, typer.Argument(metavar="BASE", help="The network to scale.")],
    source: RunPath,
    flops: Annotated[str | None, typer.Option("--flops", metavar="T", help="Flops to meet within 2%, as 4GF.")] = None,
    latency: Annotated[str | None, typer.Option("--latency", metavar="L", help="The most latency, as 20ms.")] = None,
    memory: Annotated[str | None, typer.Option("--memory", metavar="M", help="The most memory, as 500MiB.")] = None,
    backend: Annotated[str | None, typer.Option("--backend", metavar="B", help="Which backend of the run.")] = None,
    where: Annotated[str | None, typer.Option("--where", metavar="K=V,K=V", help="Which rows, as batch=8.")] = None,
    verify: Annotated[
        int, typer.Option("--verify", metavar="K", min=0, help="Measure the best K, and dwr at equal flops.")
    ] = 0,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder of those measurements.")] = None,
    json: Json = False,
) -> None:
    """Search for the best way to scale a network to a target on the device of a run."""
    from profiler.cli.advise import run as command

    raise typer.Exit(command(base, source, (flops, latency, memory), backend, verify, out, json, where))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, journals or CSVs.")],
    y: Annotated[str | None, typer.Option("--y", metavar="COLUMN", help="What to compare [latency_ms].")] = None,
    json: Json = False,
) -> None:
    """Put devices, backends, precisions and runs side by side, network by network."""
    from profiler.cli.compare import run as command

    command(runs, y, json)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, journals or CSVs.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The page.")] = Path("report.html"),
) -> None:
    """Write one self-contained page: charts, fits, failures, the table, and how to reproduce it."""
    from profiler.cli.report import run as command

    command(runs, output)


@app.command()
def gate(
    suite: Annotated[
        str | None, typer.Argument(metavar="[SUITE]", help="A TOML file with [[pair]] tables; with --against, a plan.")
    ] = None,
    baseline: Annotated[
        Many,
        typer.Option(
            "--baseline", metavar="A", help="MODEL [RULE xS] [@BACKEND], or git:REF [MODEL].", show_default=False
        ),
    ] = None,
    candidate: Annotated[Many, typer.Option("--candidate", metavar="B", help="As --baseline.")] = None,
    max_slowdown: Annotated[
        Many, typer.Option("--max-slowdown", metavar="5%", help="The slow-down that must be caught [5%], or off.")
    ] = None,
    max_memory_growth: Annotated[
        Many, typer.Option("--max-memory-growth", metavar="10%", help="The growth of peak memory that fails [off].")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="FILE", help="Compare a plan, measured now, with a stored run.")
    ] = None,
    backend: Annotated[Many, typer.Option("--backend", metavar="B", help="Of sides that name none.")] = None,
    device: Annotated[Many, typer.Option("--device", metavar="D", help="cpu, cuda:0, ...")] = None,
    precision: Annotated[Many, typer.Option("--precision", metavar="P", help="fp32, fp16 or bf16.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", metavar="N", help="Threads [1].")] = None,
    batch: Annotated[int | None, typer.Option("--batch", metavar="N", help="Images per forward [1].")] = None,
    time: Annotated[
        Many, typer.Option("--time", metavar="5min", help="A trial begins no look that would end after this.")
    ] = None,
    self_test: Annotated[
        bool,
        typer.Option("--self-test/--no-self-test", help="Compare the baseline with itself first, once per machine."),
    ] = True,
    baseline_python: Annotated[
        Many, typer.Option("--baseline-python", metavar="FILE", help="Interpreter of a git: baseline.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Seed of the order within blocks.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="With --against: folder of the run.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="With --against: continue an interrupted run.")] = False,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", metavar="FILE", help="Write a markdown table.")] = None,
    json: Json = False,
) -> None:
    """Fail when a candidate is slower than its baseline: 0 pass, 1 regression, 2 error, 3 inconclusive, 4 not comparable."""
    from profiler.cli.gate import Outputs, command

    flags: dict[str, object] = {
        "baseline": baseline,
        "candidate": candidate,
        "max_slowdown": max_slowdown,
        "max_memory_growth": max_memory_growth,
        "backend": backend,
        "device": device,
        "precision": precision,
        "threads": threads,
        "batch": batch,
    }
    how = {
        "time": time,
        "self_test": self_test,
        "seed": seed,
        "baseline_python": baseline_python,
        "against": against,
        "out": out,
        "resume": resume,
    }
    raise typer.Exit(command(suite, flags, how, Outputs(json, junit, markdown)))


baseline_app = typer.Typer(no_args_is_help=True, help="Keep a run as the baseline of later ones.")
app.add_typer(baseline_app, name="baseline")
Stored = Annotated[Path, typer.Argument(metavar="[FILE]", help="The baseline.")]
_BASELINE = Path("results") / "baseline.jsonl"


@baseline_app.command()
def update(
    run: RunPath,
    file: Stored = _BASELINE,
    replace: Annotated[bool, typer.Option("--replace", help="Drop a baseline of another machine.")] = False,
) -> None:
    """Store a run's latencies, in place of the same cases."""
    from profiler.gate.baseline import update as command

    command(run, file, replace=replace)


@baseline_app.command()
def show(file: Stored = _BASELINE, json: Json = False) -> None:
    """List what a baseline holds."""
    from profiler.cli.baseline import show as command

    command(file, json)


@app.command()
def history(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the runs are.")],
    y: Annotated[str | None, typer.Option("--y", metavar="COLUMN", help="What to follow [latency_ms].")] = None,
    json: Json = False,
) -> None:
    """List the runs of each machine over time, with points of change; advisory."""
    from profiler.cli.history import run as command

    command(folder, json, y)


@app.command()
def calibrate(
    threads: Annotated[
        str | None, typer.Option("--threads", metavar="N,N", help="Thread counts [1, all cores].")
    ] = None,
    device: Annotated[str, typer.Option("--device", metavar="D", help="Device.")] = "cpu",
    precision: Annotated[str, typer.Option("--precision", metavar="P", help="fp32, fp16 or bf16.")] = "fp32",
) -> None:
    """Measure the nominal time of the reference workload again, on a quiet machine, and keep it."""
    from profiler.cli.calibrate import run as command

    command(threads, device, precision)


@app.command()
def doctor(
    device: Annotated[str, typer.Option("--device", metavar="D", help="cpu, cuda:0, ...")] = "cpu",
    json: Json = False,
) -> None:
    """Check whether this machine can be measured and its numbers believed; exits 1 when a check fails."""
    from profiler.cli.doctor import run as command

    raise typer.Exit(command(device, json))


def _fail(message: str, code: int) -> NoReturn:
    print(f"profiler: {message}", file=sys.stderr)
    raise SystemExit(code)


def main() -> None:
    """Run the command line; a known error is one sentence on standard error and a non-zero exit."""
    from profiler.errors import UserError

    try:
        app()
    except UserError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe went away (`| head`): not an error of ours.
        sys.stderr.close()
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        _fail("stopped", 130)
