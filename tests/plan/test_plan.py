from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import UserError
from profiler.plan import cases, plan, read
from profiler.plan.read import digest, from_flags, load, loads, override, to_toml
from profiler.records.types import Budget


def errors(text: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        loads(text, "p.toml")
    return str(caught.value).splitlines()


def expand(text: str, usable_threads: int = 2):
    return cases.expand(loads(text), usable_threads)


# --- reading


def test_defaults():
    (case, *others) = expand('models = "resnet50"', usable_threads=6)
    assert (case.scaling, case.factor, case.batch, case.mode) == ("", 1.0, 1, "infer")
    assert (case.placement.device, case.placement.precision, case.placement.threads) == ("cpu", "fp32", 6)
    assert [case.backend, *(c.backend for c in others)] == ["eager", "torchscript", "onnxruntime"]
    assert loads('models = "resnet50"').budget == Budget(rounds=5, precision=None)


def test_a_precision_has_rounds_and_a_time_has_neither():
    assert override(loads('models = "resnet50"'), precision="1%").budget == Budget()
    timed = override(loads('models = "resnet50"'), time="3min")
    assert (timed.time, timed.budget.precision, timed.budget.min_rounds) == (180, None, 3)
    assert timed.budget.rounds > 1e6
    assert override(timed, rounds=4).time is None
    assert override(timed, rounds=4, time="1min").budget.rounds == 4


def test_a_time_is_no_part_of_what_a_plan_measures():
    plan = loads('models = "resnet50"')
    assert digest(override(plan, time="3min")) == digest(override(plan, time="1min")) == digest(plan)
    assert digest(override(plan, visit_s="3s")) != digest(plan)


def test_scalars_stand_for_lists():
    scalars = 'models = "resnet50"\nscalings = "w"\nfactors = 2\nthreads = 1\nbatches = 8'
    lists = 'models = ["resnet50"]\nscalings = ["w"]\nfactors = [2]\nthreads = [1]\nbatches = [8]'
    assert loads(scalars) == loads(lists)


def test_units_in_the_budget_and_in_flops():
    read = loads(
        'models = "regnety_400mf"\nscalings = "w"\nflops = ["1.6GF", 800000000]\n'
        '[budget]\nvisit_s = "1500ms"\nwarmup_s = 2\nprecision = "2%"'
    )
    assert read.flops == (1_600_000_000, 800_000_000)
    assert (read.budget.visit_s, read.budget.warmup_s, read.budget.precision) == (1.5, 2.0, 0.02)


def test_fewer_rounds_than_the_fewest_lower_the_fewest():
    read = override(load("quick"), rounds=1)
    assert (read.budget.rounds, read.budget.min_rounds) == (1, 1)


# What follows a plan's first line, models = "resnet50"; the key that is named; what is said of it.
MISTAKES = [
    ("model = 1", "model", "unknown key; closest: models; expected one of models, scalings, factors"),
    ('backends = "eagre"', "backends[0]", "no backend 'eagre': choose one of eager, torchscript"),
    ('backends = "eagre"', "backends[0]", "; closest: eager"),
    ('precisions = "fp8"', "precisions[0]", "'fp8' is not known; expected 'fp32', 'tf32', 'fp16' or 'bf16'"),
    ('modes = "predict"', "modes[0]", "'predict' is not known; expected 'infer' or 'train'"),
    ('devices = "gpu"', "devices[0]", "unknown device 'gpu'; expected cpu, cuda, cuda:N"),
    ('scalings = "dz"\nfactors = 2', "scalings[0]", "'dz' is not a scaling rule"),
    ("batches = [1, 0]", "batches[1]", "0 is wrong; expected 1 or more"),
    ("batches = []", "batches", "the list is empty"),
    ("threads = -1", "threads[0]", "-1 is wrong"),
    ('scalings = "w"\nflops = "lots"', "flops[0]", "'lots' is not a number of flops"),
    ("[budget]\nvisit = 1", "budget.visit", "unknown key; closest: visit_s; expected one of visit_s"),
    ('[budget]\nvisit_s = "fast"', "budget.visit_s", "'fast' is not a duration"),
    ('[[sweep]]\nname = "a"', "sweep[0].name", "unknown key"),
    ('[[sweep]]\n[[sweep]]\nmodels = "x"', "sweep[1].models[0]", "unknown model 'x'"),
    ("[[sweep]]\nmodels = []", "sweep[0].models", "the list is empty"),
    ('scalings = "w"', "scalings", "a scaling needs factors"),
    ('gaps = "10"', "gaps[0]", "'10' is not a duration"),
    ('gaps = ["0s", "61s"]', "gaps[1]", "61.0 is wrong; expected 60 at most"),
    ('gaps = "10ms"\nmodes = ["infer", "train"]', "gaps", "leave the mode train out"),
    ("factors = 2", "factors", "scaling needs a rule"),
    ('flops = "4GF"', "flops", "scaling needs a rule"),
    ('[[sweep]]\nflops = "4GF"', "sweep[0].flops", "scaling needs a rule"),
    ('scalings = "w"\nfactors = 2\nflops = "8GF"', "flops", "factors and flops exclude each other"),
    ("factors = [1 2]", "not valid TOML", "line 2, column 14); expected a plan, which is TOML"),
]


@pytest.mark.parametrize(("text", "key", "said"), MISTAKES)
def test_a_mistake_is_one_line_that_names_its_key(text, key, said):
    (line,) = errors(f'models = "resnet50"\n{text}')
    assert line.startswith(f"p.toml: {key}: ")
    assert said in line


def test_an_unknown_model_is_answered_with_the_closest():
    (line,) = errors('models = ["resnet50", "resnet5"]')
    assert line.startswith("p.toml: models[1]: unknown model 'resnet5'; closest: ")
    assert "resnet50" in line
    assert "`profiler models`" in line


@pytest.mark.parametrize(("text", "key"), [("batches = 1", "models"), ("[[sweep]]\nbatches = 1", "sweep[0].models")])
def test_a_plan_needs_a_model(text, key):
    assert errors(text) == [f"p.toml: {key}: no model is named; `profiler models` lists them"]


def test_own_models_alone_cannot_be_scaled():
    (line,) = errors('models = "m.onnx"\nscalings = "w"\nfactors = 2')
    assert line.startswith("p.toml: scalings: m.onnx cannot be scaled")


def test_every_mistake_of_a_file_is_reported():
    said = errors('models = ["resnet5", "resnet50"]\nbatches = 0\ndevices = ["cpu", "tpu"]\nseed = "x"')
    assert [line.split(": ")[1] for line in said] == ["models[0]", "devices[1]", "batches[0]", "seed"]


def test_an_unknown_plan_lists_the_built_in_ones(tmp_path):
    with pytest.raises(UserError, match=r"no plan 'quik'.*quick, paper.*closest: quick"):
        load("quik")
    with pytest.raises(UserError, match="directory"):
        load(tmp_path)
    (tmp_path / "bad.toml").write_bytes(b"\xff")
    with pytest.raises(UserError, match="not UTF-8"):
        load(tmp_path / "bad.toml")


def test_a_file_without_a_name_is_called_after_its_path(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('models = "resnet50"')
    assert load(path).name == "mine"
    assert load(str(path)).models == ("resnet50",)


# --- flags


def test_flags_say_what_a_file_says():
    from_file = loads(
        'models = "regnety_4.0gf"\nscalings = ["dWr", "w"]\nflops = ["8GF", "16GF"]\n'
        'backends = ["eager", "onnxruntime"]\nbatches = [1, 8]\nthreads = [1, 2]\n'
        'memory_formats = "channels_last"\nseed = 3\n[budget]\nprecision = "2%"\nrounds = 4'
    )
    from_flags = read.from_flags(
        models="regnety_4.0gf",
        scalings="dWr, w",
        flops="8GF,16GF",
        backends="eager,onnxruntime",
        batches="1,8",
        threads=["1", "2"],
        memory_formats="channels_last",
        devices=None,
        seed=3,
        precision="2%",
        rounds=4,
    )
    assert digest(from_flags) == digest(from_file)
    assert cases.expand(from_flags, 2) == cases.expand(from_file, 2)


def test_options_of_a_backend_keep_their_commas():
    flags = from_flags(models="resnet50", backends="eager,fake:duration_ms=1,seed=3,onnxruntime")
    assert flags.backends == ("eager", "fake:duration_ms=1,seed=3", "onnxruntime")


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"models": "resnet5"}, r"--model: unknown model 'resnet5'"),
        ({"models": "resnet50", "batches": "1,two"}, r"--batch: 'two' is wrong; expected a whole number$"),
        ({"models": "resnet50", "precision": "tight"}, r"--precision: 'tight' is not a share"),
        ({"models": "resnet50", "scalings": "w"}, r"--scale: a scaling needs factors"),
        ({"batches": "1"}, r"flags: models: no model is named"),
    ],
)
def test_a_mistake_in_a_flag_names_the_flag(flags, line):
    with pytest.raises(UserError, match=line):
        from_flags(**flags)


def test_a_flag_replaces_the_key_in_every_sweep():
    paper = load("paper")
    changed = override(paper, devices="cuda", batches="1", flops="8GF", timeout_s="10s")
    made = cases.expand(changed, 2)
    assert {(c.placement.device, c.batch) for c in made} == {("cuda", 1)}
    assert {c.target_flops for c in made} == {8_000_000_000}
    assert changed.budget == replace(paper.budget, timeout_s=10.0)
    assert paper == load("paper")


# --- cases


# --- writing

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
lists = {
    "models": st.lists(st.sampled_from(["resnet50", "regnety_400mf", "own.nets:f", 'odd "name"\\.onnx']), min_size=1),
    "backends": st.lists(st.sampled_from(["eager", "torchscript", "onnxruntime"]), min_size=1),
    "devices": st.lists(st.sampled_from(["cpu", "cuda:1", "xpu"]), min_size=1),
    "threads": st.lists(st.integers(0, 64), min_size=1),
    "batches": st.lists(st.integers(1, 512), min_size=1),
    "modes": st.lists(st.sampled_from(["infer", "train"]), min_size=1),
}


@st.composite
def plans(draw):
    keys = draw(st.fixed_dictionaries({}, optional=lists)) | {"models": ["resnet50", *draw(lists["models"])]}
    if draw(st.booleans()):
        keys["scalings"] = draw(st.lists(st.sampled_from(["d", "dWr", "d1_w2_r0.5"]), min_size=1))
        step = draw(st.sampled_from(["factors", "flops"]))
        numbers = st.floats(1e-3, 1e3) if step == "factors" else st.integers(1, 10**12)
        keys[step] = draw(st.lists(numbers, min_size=1))
    keys |= {"name": draw(names), "description": draw(names)}
    keys |= draw(st.fixed_dictionaries({}, optional={"seed": st.integers(0, 2**63 - 1)}))
    keys["budget"] = draw(
        st.fixed_dictionaries({}, optional={"visit_s": st.floats(1e-9, 1e9), "rounds": st.integers(1, 99)})
    )
    keys["sweep"] = draw(st.lists(st.fixed_dictionaries({}, optional=lists), max_size=3))
    for sweep in keys["sweep"]:
        sweep["models"] = ["regnety_400mf", *sweep.get("models", ())]
    return plan.Plan.model_validate(keys)


@given(plans())
def test_a_plan_survives_its_text(original):
    text = to_toml(original)
    again = loads(text)
    assert again == original
    assert digest(again) == digest(original)
    assert to_toml(again) == text


def test_the_digest_tells_meaning_from_words():
    text = 'models = "resnet50"\nbatches = 1'
    same = loads(f'name = "other"\ndescription = "words"\n{text}')
    assert digest(loads(text)) == digest(same) == digest(loads('models = ["resnet50"]'))
    assert digest(loads(text)) != digest(loads(f"{text}\ngaps = '5ms'"))
    changes = ["batches = 2", "seed = 1", "[budget]\nrounds = 4"]
    digests = {digest(loads(f'models = "resnet50"\n{change}')) for change in changes}
    assert len(digests - {digest(loads(text))}) == 3


# --- built-in plans and the guess at their time
