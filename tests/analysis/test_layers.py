"""Layers of traces, scaled to a latency."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.analysis.faster import suggestions, tried
from profiler.analysis.layers import Explanation, explained
from profiler.analysis.quantity import Quantity
from profiler.measure.layers import Layer, Traced
from profiler.measure.peaks import Peaks, best_of, falling
from profiler.records.columns import Row
from profiler.report.explanation import advice_sentence, peaks_sentence, tried_sentence

PEAKS = Peaks(1e9, {1_000: 8e9, 1_000_000: 1e9}, 1_000.0, "")
ROW: Row = {"model": "net", "backend": "eager", "threads": 1, "batch": 1}


def explain(*traces: Traced, latency: float = 10.0, row: Row | None = None, peaks: Peaks | None = PEAKS) -> Explanation:
    return explained(ROW | (row or {}), Quantity(latency), traces, peaks)


def traced(*layers: Layer, inflation: float = 1.0) -> Traced:
    return Traced(layers, inflation * sum(layer.ns for layer in layers))


TIMES = st.lists(st.floats(1, 1e9), min_size=1, max_size=20)


@given(times=st.lists(TIMES, min_size=1, max_size=3), latency=st.floats(1e-3, 1e4))
def test_layers_add_up_to_the_latency_and_times_inflation_to_the_trace(
    times: list[list[float]], latency: float
) -> None:
    made = [traced(*(Layer(f"l{i}", "op", ns) for i, ns in enumerate(one))) for one in times]
    one = explain(*made, latency=latency)
    assert sum(layer.latency_ms for layer in one.layers) == pytest.approx(latency)
    assert sum(layer.share for layer in one.layers) == pytest.approx(1)
    for layer in one.layers:
        assert layer.latency_ms * one.inflation == pytest.approx(layer.traced_ms)
        assert layer.shares is None or layer.shares[0] <= layer.share * (1 + 1e-9)
    for groups in (one.by_operator(), one.by_stage(1)):
        assert sum(group.latency_ms for group in groups) == pytest.approx(latency)


def test_a_layer_of_known_cost_that_is_inserted_is_recovered_whatever_tracing_inflates() -> None:
    plain = [Layer("a", "op", 3e6), Layer("b", "op", 5e6)]
    more = [*plain, Layer("c", "op", 2e6)]
    before = explain(traced(*(Layer(one.name, one.operator, 3 * one.ns) for one in plain)), latency=8.0)
    after = explain(
        *(traced(*(Layer(one.name, one.operator, k * one.ns) for one in more)) for k in (2, 5)), latency=10.0
    )
    assert {one.name: one.latency_ms for one in before.layers} == pytest.approx({"a": 3, "b": 5})
    assert {one.name: one.latency_ms for one in after.layers} == pytest.approx({"a": 3, "b": 5, "c": 2})
    assert (before.inflation, after.inflation) == pytest.approx((3, 3.5))
    assert [one.name for one in after.costliest(2)] == ["b", "a"]


def test_what_lies_between_layers_is_shared_out_by_calls_as_far_as_the_trace_saw_it() -> None:
    layers = [Layer("large", "op", 4e6), Layer("small", "op", 2e6, calls=3)]
    told = {ms: explain(Traced(tuple(layers), 9e6), latency=ms) for ms in (3.0, 8.0, 18.0)}
    assert {one.name: one.latency_ms for one in told[8.0].layers} == pytest.approx({"large": 4.5, "small": 3.5})
    assert {one.name: one.traced_ms for one in told[8.0].layers} == pytest.approx({"large": 4.0, "small": 2.0})
    # Less than the layers, and more than a traced forward: one factor for what is left.
    assert {one.name: one.latency_ms for one in told[3.0].layers} == pytest.approx({"large": 2.0, "small": 1.0})
    assert {one.name: one.latency_ms for one in told[18.0].layers} == pytest.approx({"large": 9.5, "small": 8.5})
    assert all(one.inflation == pytest.approx(6.0 / ms) for ms, one in told.items())


def test_what_holds_a_layer_is_the_greatest_of_its_floors() -> None:
    layers = (
        Layer("product", "linear", 4e6, flops=2_000_000, moved_bytes=1_000),
        Layer("norm", "batch_norm", 4e6, flops=0, moved_bytes=3_000_000),
        Layer("view", "view", 2e6, flops=0, moved_bytes=0),
        Layer("unknown", "fft", 1e6),
    )
    found = {one.name: one for one in explain(traced(*layers), latency=11.0).layers}
    assert [one.bound for one in found.values()] == ["compute", "memory", "overhead", None]
    assert found["product"].of_roof == pytest.approx(2 / 4)
    assert found["norm"].of_roof == pytest.approx(3 / 4)
    assert found["view"].of_roof == pytest.approx(0.001 / 2)
    assert found["product"].per_second(found["product"].flops) == pytest.approx(2_000_000 / 4e-3)
    together = {one.name: one for one in explain(traced(*layers[:3]), latency=10.0).by_stage(0)}[""]
    assert together.roof_ms == pytest.approx(2 + 3 + 0.001)
    assert explain(traced(*layers)).by_stage(0)[0].roof_ms is None  # of one of them nobody knows


def test_layers_above_the_roof_are_said_with_what_to_do() -> None:
    above = (
        Layer(name, "linear", ns, flops=2_000_000, moved_bytes=1_000)
        for name, ns in (("a", 1e6), ("b", 1.6e6), ("c", 4e6))
    )
    said = peaks_sentence(explain(traced(*above), latency=6.6))
    assert "2 layers stand above the roof, at 200% at most: " in said
    assert said.endswith("repeat it when they are quiet.")
    below = traced(Layer("c", "linear", 4e6, flops=2_000_000, moved_bytes=1_000))
    assert "above the roof" not in peaks_sentence(explain(below, latency=4.0))


def test_without_peaks_nothing_is_said_of_a_roof() -> None:
    [layer] = explain(traced(Layer("a", "linear", 1e6, 1, 1, 1, 1)), peaks=None).layers
    assert layer.roof_ms is layer.bound is layer.of_roof is None


def test_peaks_only_grow_and_smaller_copies_are_no_slower() -> None:
    assert list(falling({1: 2.0, 2: 3.0, 4: 1.0}).values()) == [3e9, 3e9, 1e9]
    best = best_of(PEAKS, Peaks(2e9, {1_000: 7e9, 1_000_000: 2e9}, 500.0, "now"))
    assert best == Peaks(2e9, {1_000: 8e9, 1_000_000: 2e9}, 500.0, "now")
    speeds = [PEAKS.bandwidth(size) for size in (1, 1_000, 10_000, 10**6, 10**9)]
    assert all(fast >= slow for fast, slow in pairwise(speeds))


CONV = Layer("conv", "conv2d", 5e6, flops=4_900_000, params=100, moved_bytes=1_000)
NORM = Layer("bn", "batch_norm", 4e6, flops=0, params=2, moved_bytes=3_000_000)


@pytest.mark.parametrize(
    ("layer", "row", "trial", "at_most"),
    [
        (NORM, {}, {"backend": "onnxruntime"}, 4 / 9),
        (Layer("d", "conv2d depthwise", 4e6, 1_000, 10, 10, 1_000_000), {}, {"memory_format": "channels_last"}, 1 / 3),
        (Layer("fc", "linear", 4e6, 1_000, 10, 500_000, 2_100_000), {}, {"batch": "4"}, 1 / 3),
        (Layer("r", "ReorderInput", 4e6, 0, 0, 0, 10**6), {"backend": "onnxruntime"}, {}, 4 / 9),
    ],
)
def test_each_advice_rests_on_a_row_and_says_how_much_it_could_gain(
    layer: Layer, row: Row, trial: dict[str, str], at_most: float
) -> None:
    first, *_ = suggestions(explain(traced(CONV, layer), latency=9.0, row=row), cores=1)
    assert first.rests_on.name == layer.name
    assert first.trial == trial
    assert first.at_most == pytest.approx(at_most)
    assert first.share == pytest.approx(4 / 9)
    assert layer.name in advice_sentence(first)


def test_advice_that_gains_next_to_nothing_is_not_given() -> None:
    small = Layer("bn", "batch_norm", 1e5, flops=0, params=2, moved_bytes=75_000)
    assert suggestions(explain(traced(CONV, small), latency=5.1), cores=1) == []
    assert suggestions(explain(traced(CONV, NORM), latency=9.0), cores=1) != []


@pytest.mark.parametrize(
    ("backend", "kind", "remedy"),
    [
        ("eager", "depthwise", "channels last"),
        ("onnxruntime", "depthwise", "plain convolutions where channels are few"),
        ("compile", "grouped", "fewer or wider groups"),
    ],
)
def test_what_helps_a_depthwise_convolution_is_not_what_helps_a_grouped_one(
    backend: str, kind: str, remedy: str
) -> None:
    layer = Layer("d", f"conv2d {kind}", 4e6, 1_000, 10, 10, 1_000_000)
    [found] = suggestions(explain(traced(CONV, layer), latency=9.0, row={"backend": backend}), cores=1)
    assert found.remedy == remedy
    assert advice_sentence(found).startswith(f"{kind.capitalize()} convolutions, which use few weights")


@pytest.mark.parametrize(("count", "words"), [(1, "One layer is so small"), (3, "3 layers are so small")])
def test_small_layers_are_counted_as_people_count(count: int, words: str) -> None:
    large, row = Layer("conv", "conv2d", 5e3, flops=4_900, params=1, moved_bytes=10), {"backend": "onnxruntime"}
    small = [Layer(f"v{i}", "erf", 5e3, 0, 0, 0, 10) for i in range(count)]
    [found] = suggestions(explain(traced(large, *small), latency=5e-3 * (1 + count), row=row), cores=1)
    assert advice_sentence(found).startswith(words)
    assert (found.trial, found.at_most) == ({"batch": "4"}, pytest.approx(count / (1 + count)))
    slow = [replace(one, ns=5e4) for one in small]  # it does other things than start
    assert suggestions(explain(traced(large, *slow), latency=1.0, row=row), cores=1) == []


def test_threads_are_advised_only_where_more_cores_are_there() -> None:
    one = explain(traced(CONV), latency=5.0)
    assert suggestions(one, cores=1) == []
    [found] = suggestions(one, cores=4)
    assert (found.trial, found.at_most) == ({"threads": "4"}, pytest.approx(3 / 4))


def measured(latency: float, half: float, **more: str | int) -> Row:
    ends = {"latency_ci_low_ms": latency - half, "latency_ci_high_ms": latency + half}
    return ROW | {"latency_ms": latency, "reason": ""} | ends | more


@pytest.mark.parametrize(
    ("row", "gain", "verdict"),
    [
        (measured(20.0, 0.1, batch=4), 2.0, ": held"),
        (measured(80.0, 0.1, batch=4), 0.5, "did not hold"),
        (measured(9.9, 2.0), 1.01, "more --time may tell"),
    ],
)
def test_a_trial_is_compared_for_each_example(row: Row, gain: float, verdict: str) -> None:
    found = tried({"memory_format": "channels_last"}, measured(10.0, 0.1), row)
    assert found.gain is not None
    assert found.gain.value == pytest.approx(gain, rel=0.01)
    assert verdict in tried_sentence(found)
    assert "--memory-format channels_last" in tried_sentence(found)


def test_a_trial_that_cannot_run_says_why() -> None:
    failed: Row = ROW | {"latency_ms": None, "reason": "no such runtime"}
    found = tried({"backend": "onnxruntime"}, measured(10.0, 0.1), failed)
    assert (found.held, "no such runtime" in tried_sentence(found)) == (False, True)
