"""Peaks: what is multiplied and moved, counted by torch itself, and what becomes of its times."""

from __future__ import annotations

import pytest
import torch

from profiler.backends.base import Placement
from profiler.backends.torch_layers import LayerWatch
from profiler.measure import peaks
from profiler.measure.layers import _Sizes
from profiler.models.layer_counts import OperatorCounts
from profiler.records.types import now

#: ns that every turn takes here.
TURN = 1000.0


def test_each_rate_is_what_was_done_by_the_time_of_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "_EDGES", (16, 32))
    monkeypatch.setattr(peaks, "_IMAGES", ((1, 4, 8, "contiguous"), (2, 4, 8, "channels_last")))
    monkeypatch.setattr(peaks, "_WORKING_SETS", (1 << 10, 1 << 14))
    done: list[tuple[int, int, int]] = []

    def turn(run: object) -> float:
        sizes, counts = _Sizes(), OperatorCounts()
        with torch.inference_mode():
            with LayerWatch(sizes):
                run()  # type: ignore[operator]
            with LayerWatch(counts):
                run()  # type: ignore[operator]
        flops = sum(one.flops for several in counts.operations.values() for one in several)
        moved = sum(one.moved for one in sizes.layers.values())
        done.append((flops, moved, sum(len(one.shapes) for one in sizes.layers.values())))
        return TURN

    monkeypatch.setattr(peaks, "_fastest", turn)
    found = peaks.measure_peaks(peaks.PeaksTask(Placement(), now()))
    products, copies, tiny = done[:4], done[4:6], done[6]
    assert [flops for flops, _, _ in products] == [16**3, 32**3, 9 * (4 * 8) ** 2, 2 * 9 * (4 * 8) ** 2]
    assert found.flops_per_s == pytest.approx(max(flops for flops, _, _ in products) / TURN * 1e9)
    # What is written over is counted as what goes in too: three tensors for a copy that reads one and writes one.
    assert [moved * 2 // 3 for _, moved, _ in copies] == [1 << 10, 1 << 14]
    assert found.bytes_per_s[1 << 14] == pytest.approx((1 << 14) / TURN * 1e9)
    assert found.overhead_ns == pytest.approx(TURN / tiny[2])
