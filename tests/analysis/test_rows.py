from __future__ import annotations

import numpy as np
import pytest

from profiler.analysis.fit import fit
from profiler.errors import UserError
from tests.analysis.tables import networks, pooled


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.drop(columns="acts"), "missing column acts: the table has model"),
        (lambda f: f.drop(columns="latency_ms"), "missing column latency_ms"),
        (lambda f: f.head(0), "no rows"),
        (
            lambda f: f.astype({"flops": object}).assign(flops="many"),
            r"'flops' holds 'many' in row 1 \(net0\)",
        ),
    ],
)
def test_bad_tables_are_one_sentence(change: object, said: str) -> None:
    assert callable(change)
    with pytest.raises(UserError, match=said):
        fit(change(networks()))


def test_failed_and_empty_rows_are_left_out_and_named() -> None:
    frame = networks()
    frame.loc[0, ["status", "reason", "latency_ms"]] = ["oom", "needs 12 GB", np.nan]
    frame.loc[1, "acts"] = np.nan
    frame.loc[2, "latency_ms"] = 0
    frame.loc[3, "status"] = "unstable"
    one = pooled(frame)
    assert one.n == 21
    assert one.left_out == (
        ("net0", "oom: needs 12 GB"),
        ("net1", "no number in acts"),
        ("net2", "latency_ms is 0, not positive"),
    )
    assert one.lines == pooled(frame.drop(index=[0, 1, 2])).lines


def test_a_failed_row_may_hold_anything() -> None:
    frame = networks().astype({"latency_ms": object})
    frame.loc[0, ["status", "latency_ms"]] = ["error", "n/a"]
    assert pooled(frame).n == 23
