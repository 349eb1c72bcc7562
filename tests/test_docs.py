"""What README.md and docs/ show holds: every command runs or at least parses, examples are read, links lead on.

The commands run in reading order, in one folder and one process (importing what they need costs seconds each time),
with a budget of next to nothing: their numbers are not looked at here.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
import yaml

#: What typer raises for a wrong command line; recent ones bring a click of their own.
UsageError = typer.BadParameter.__mro__[1]
ROOT = Path(__file__).parents[1]
HOW_TO = (
    "own-model",
    "own-family",
    "runtimes",
    "gate",
    "answers",
    "accuracy",
    "baselines-history",
    "memory-training",
    "gpu",
    "fleet",
    "extend",
)
#: In the order in which they are read: later pages use what commands of earlier ones made.
PAGES = (
    ROOT / "README.md",
    ROOT / "docs" / "tutorial.md",
    *(ROOT / "docs" / "how-to" / f"{name}.md" for name in HOW_TO),
    *sorted((ROOT / "docs").glob("[!t]*.md")),
    ROOT / "docs" / "table.md",
    ROOT / "results" / "README.md",
    ROOT / "CONTRIBUTING.md",
)

#: Commands that are only parsed, and why.
PARSED = {
    "doctor": "takes as long as all others together; tests/machine/test_doctor.py runs it",
    "calibrate": "the runs calibrate; tests/measure/test_reference.py tests it",
    "doctor --device cuda:0": "wants a GPU",
    "run quick --device cuda:0": "wants a GPU",
    "run quick --device cuda:0 --lock-clocks 1410": "wants a GPU",
    "run quick --device cuda:0 --precision fp32,tf32": "wants a GPU",
    "gate quick --against results/baseline.jsonl": "measures a whole plan; tests/gate/test_stored.py runs it",
    "calibrate --threads 1": "as calibrate",
    "run fast-and-accurate": "takes half an hour; tests/report/test_claims.py has its end",
    "run --model bert.py:bert --shape sequence=32/64/128/256/512 --threads 1 --report"
    " --out results/bert": "wants transformers",
    "run --model torchvision:resnet18 --shape height=128/192/256/320,width=128/192/256/320 --threads 1"
    " --report --out results/resnet18": "wants torchvision",
    "advise vit.py:vit results/vit --flops 60MF": "builds a hundred networks; tests/analysis/ runs it",
    **dict.fromkeys(
        [
            "scheduler --port 8786 --scheduler-file scheduler.json",
            "worker --scheduler tcp://127.0.0.1:8786 --label xeon",
            "worker --scheduler tcp://127.0.0.1:8786 --label h100 --device cuda:0",
            "workers --scheduler tcp://127.0.0.1:8786",
            "run --scheduler tcp://127.0.0.1:8786 --model regnety_200mf --device xeon,h100 --out results/fleet",
            "scheduler --host 10.0.0.1 --tls certs",
            "worker --scheduler tls://10.0.0.1:8786 --label h100 --tls certs",
            "run quick --scheduler tls://10.0.0.1:8786 --tls certs",
            "run quick --scheduler tls://127.0.0.1:8786 --tls certs",
        ],
        "wants other machines; tests/run/test_fleet.py has a fleet",
    ),
    "fleet --make-certs certs": "wants the extra fleet; tests/run/test_certificates.py runs it",
    "fleet --ssh hosts.toml": "wants other machines; tests/run/test_remote.py has stand-ins",
    "explain resnet50 --backend onnxruntime --html layers.html --csv layers.csv": "tests/cli/test_explain.py runs it",
    "explain resnet50 --batch 4 --verify": "as explain",
    "explain resnet50 --backend onnxruntime --costs costs.json": "tests/analysis/test_layer_costs.py runs it",
    "explain results/quick --costs costs.json": "as --costs",
    "predict costs.json regnety_800mf": "as --costs",
    "report results/quick results/mine -o report.html": "the report of one run is written; tests/report/ has several",
}
#: What makes a measuring command fast, by what it begins with: fewer networks, and one short visit of each.
BRIEF = {
    "latency resnet50": ["--time", "10ms", "--threads", "1"],
    "load": ["--time", "200ms", "--threads", "1"],
    # No budget that a restless machine can miss.
    "frontier results/quick --latency": ["--latency", "1h"],
    "run quick": [
        "--visit", "20ms", "--rounds", "1", "--threads", "1", "--backend", "eager",
        "--model", "regnety_200mf", "--factor", "1,2", "--scale", "d,w,dWr",
    ],
    "run --model regnety_200mf --scale": [
        "--visit", "20ms", "--rounds", "1", "--threads", "1", "--backend", "eager", "--batch", "1", "--scale", "w",
    ],
    "run --model vit.py:vit": [
        "--visit", "20ms", "--rounds", "1", "--threads", "1", "--scale", "w,dWr",
    ],
    # tests/measure/ trains and watches memory.
    "run --model regnety_200mf --backend eager --mode infer,train": ["--dry-run"],
    "run": ["--visit", "20ms", "--rounds", "1", "--threads", "1"],
    # What was measured beside a neighbour may meet no limit of a quiet machine.
    "rank results/quick --latency": ["--latency", "10s"],
    "gate": ["--no-self-test"],
}  # fmt: skip
#: Exit codes other than 0 that a restless machine may bring about.
ALLOWED = {"gate": {3}}

DRIVER = """
import json, sys, time
from profiler.cli.app import main
from profiler.report import summary

for arguments in json.loads(sys.argv[1]):
    sys.argv = ["profiler", *arguments]
    start, code = time.perf_counter(), 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    if arguments[0] == "run":  # one page is enough
        summary._page = lambda *_: []
    sys.stderr.flush()
    print(f"\\n<<{code} {time.perf_counter() - start:.1f}>>", flush=True)
"""


class Block(NamedTuple):
    page: Path
    language: str
    text: str


def blocks() -> Iterator[Block]:
    for page in PAGES:
        shown = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        for language, text in shown:
            yield Block(page, language, text)


BLOCKS = list(blocks())
COMMANDS = list(
    dict.fromkeys(
        line[2:]
        for block in BLOCKS
        if block.language == "console"
        for line in block.text.splitlines()
        if line.startswith("$ ")
    )
)
#: Commands of the program, without its name.
OURS = [command.removeprefix("profiler ") for command in COMMANDS if command.startswith("profiler ")]


def examples(language: str, page: str = "") -> list[str]:
    return [block.text for block in BLOCKS if block.language == language and block.page.name.startswith(page)]


def brief(command: str) -> list[str]:
    if "--dry-run" in command:
        return shlex.split(command)
    fast = next((more for start, more in BRIEF.items() if command.startswith(start)), [])
    return [*shlex.split(command), *fast]


def parse(command: str) -> None:
    """Parse a command line of the program as it would be, and run nothing."""
    from profiler.cli.app import app

    found, words, context = typer.main.get_command(app), shlex.split(command), None
    with contextlib.suppress(typer.Exit):  # --help
        while True:
            context = found.make_context(found.name or "profiler", words, parent=context)
            if not isinstance(found, typer.core.TyperGroup):
                return
            _, found, words = found.resolve_command(context, [*getattr(context, "_protected_args", ()), *context.args])


def tox_environments() -> set[str]:
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "tox.ini", encoding="utf-8")
    assert {f"testenv:{name.strip()}" for name in config["tox"]["env_list"].split(",")} <= set(config)
    return {name.removeprefix("testenv:") for name in config if name.startswith("testenv:")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages show, the models they name, and the committed results."""
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    folder = tmp_path_factory.mktemp("docs")
    (folder / "results").mkdir()
    (folder / "results" / "reference").symlink_to(ROOT / "results" / "reference")
    for text in examples("python"):
        if named := re.match(r"# (\w+\.py)\n", text):
            (folder / named[1]).write_text(text, encoding="utf-8")
    [mine] = [text for text in examples("text", "accuracy") if text.startswith("model,")]
    (folder / "mine.csv").write_text(mine, encoding="utf-8")
    # What installing the example of a package with a backend would leave.
    [points] = [text for text in examples("toml", "extend") if "entry-points" in text]
    [(group, names)] = tomllib.loads(points)["project"]["entry-points"].items()
    info = folder / "evaluator-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evaluator\nVersion: 1\n", encoding="utf-8")
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in names.items())]
    (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    weight = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    shapes = {"x": ["n", 3, 16, 16], "y": None}
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "tiny", ends[:1], ends[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for name in ("tiny.onnx", "detector.onnx"):
        onnx.save(model, folder / name)
    return folder


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder), os.environ.get("PYTHONPATH", "")]),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def ran(folder: Path) -> Path:
    """The folder, once every command that is run has run in it."""
    commands = [command for command in OURS if command not in PARSED]
    done = run(folder, "-c", DRIVER, json.dumps([brief(command) for command in commands]))
    ends = re.findall(r"<<(\d+) ([\d.]+)>>", done.stdout)
    print(*zip(commands, ends, strict=False), sep="\n")  # for whoever wonders what takes so long: pytest -s
    failed = [
        (command, code)
        for command, (code, _) in zip(commands, ends, strict=False)
        if int(code) not in {0} | ALLOWED.get(command.split()[0], set())
    ]
    assert not failed, f"{failed}\n{done.stdout}\n{done.stderr}"
    assert len(ends) == len(commands), f"{done.stdout}\n{done.stderr}"
    assert "Warning" not in done.stdout + done.stderr
    return folder


def test_the_commands_of_the_profiler_run_in_order(ran: Path) -> None:
    for name in ("results/quick/cases.csv", "quick.csv", "latency.svg", "report.html"):
        assert (ran / name).stat().st_size > 0, name
    assert ",ok," in (ran / "results/evaluator/cases.csv").read_text(encoding="utf-8").replace(",unstable,", ",ok,")


@pytest.mark.parametrize("command", OURS)
def test_commands_parse(command: str) -> None:
    parse(command)


def test_only_commands_that_are_shown_are_excused() -> None:
    assert set(PARSED) <= {*OURS, "calibrate"}


@pytest.mark.parametrize("wrong", ["run quick --no-such-option", "no-such-command", "fit", "baseline no-such"])
def test_a_wrong_command_does_not_parse(wrong: str) -> None:
    with pytest.raises(UsageError):
        parse(wrong)


def test_commands_in_prose_parse() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = {command for command in re.findall(r"`profiler ([^`\n]+)`", text) if "COMMAND" not in command}
    assert len(named) >= 5
    for command in sorted(named):
        # Lower-case words alone name a command; with arguments it is meant as it stands.
        parse(f"{command} --help" if re.fullmatch(r"[a-z ]+", command) else command)


def test_commands_of_ci_parse() -> None:
    shown = examples("yaml")
    assert len(shown) >= 2
    found = []
    for text in shown:
        [job] = [job for jobs in [yaml.safe_load(text)] for job in jobs.get("jobs", jobs).values()]
        lines = [*job.get("script", []), *(step["run"] for step in job.get("steps", []) if "run" in step)]
        found += [line.partition("||")[0] for line in lines if line.startswith("profiler ")]
    assert len(found) == len(shown)
    for line in found:
        parse(line.removeprefix("profiler "))


def test_tox_has_the_environments_that_are_named() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"tox run -e (\w[\w-]*)", text))
    assert {"profile", "docs", "studies"} <= named <= tox_environments()


def test_the_readme_is_two_screens_with_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.encode()) <= 9500
    assert readme.index("$ profiler ") < readme.index("![")
    assert {"python -m pip install tox && tox run -e profile", "tox run"} <= set(COMMANDS)
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().endswith("tox run")


def test_everything_else_is_an_install_command() -> None:
    rest = [command for command in COMMANDS if not command.startswith("profiler ") and "tox run" not in command]
    assert all(command.startswith("python -m pip install ") for command in rest)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_exist(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_plan_is_read() -> None:
    from profiler.plan import read
    from profiler.plan.cases import expand

    [text] = examples("toml", "tutorial")
    assert len(expand(read.loads(text, "mine"), 2)) == 2 * 3 * 2 * 2


def test_the_suite_of_the_gate_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from profiler.gate import suite

    monkeypatch.chdir(tmp_path)
    for name in ("old.onnx", "new.onnx"):
        Path(name).touch()

    [text] = examples("toml", "gate")
    file = tmp_path / "gate.toml"
    file.write_text(text, encoding="utf-8")
    pairs = suite.load_suite(file)
    assert [pair.label for pair in pairs] == [
        "old.onnx @onnxruntime -> new.onnx @onnxruntime",
        "git:origin/main detector.model:build @eager -> detector.model:build @eager",
    ]
    limits = [(pair.max_slowdown, pair.max_memory_growth, pair.max_p99) for pair in pairs]
    assert limits == [(0.05, None, None), (0.03, 0.10, 0.20)]
    assert [pair.allowed for pair in pairs] == [(), ("output",)]


def test_the_tests_of_the_fixture_are_collected(tmp_path: Path) -> None:
    [text] = [text for text in examples("python") if "latency_gate" in text]
    file = tmp_path / "test_latency.py"
    file.write_text(text, encoding="utf-8")
    done = run(tmp_path, "-m", "pytest", "--setup-plan", "-q", str(file))
    assert done.stdout.count("latency_gate") >= 3, done.stdout + done.stderr


def test_programs_run(ran: Path) -> None:
    programs = [text for text in examples("python") if "latency_gate" not in text and not text.startswith("# ")]
    assert programs
    for text in programs:
        done = run(ran, "-c", text)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_every_kind_of_example_is_looked_at() -> None:
    assert {block.language for block in BLOCKS} <= {"console", "python", "toml", "yaml", "text"}


def test_results_in_git_are_small() -> None:
    folders = [ROOT / "results" / name for name in ("reference", "studies")]
    kept = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in kept} <= {".csv", ".md", ".png", ".txt"}
    assert [path for path in kept if path.stat().st_size > 200_000] == []
