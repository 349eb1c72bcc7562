from __future__ import annotations

import pandas as pd
import pytest

from profiler.analysis.source import chosen_rows
from profiler.errors import UserError
from tests.analysis.tables import networks


def test_rows_are_chosen_by_any_key() -> None:
    frame = pd.concat([networks(batch=b, threads=t) for b in (1, 8) for t in (1.0, 2.0)])
    chosen = chosen_rows(frame, "eager", "batch=8, threads=2")
    assert len(chosen) == len(frame) / 4
    assert set(chosen["batch"]) == {8}
    assert chosen_rows(frame, None, None) is frame


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("batch", "--where 'batch': expected KEY=VALUE, such as batch=8"),
        ("colour=red", "keys are run, host, fleet_label, backend"),
        ("batch=3", "no row of batch '3': the table has 1"),
        ("threads=1", "no row of threads '1': the table has no column threads"),
    ],
)
def test_conditions_that_choose_nothing_are_one_sentence(where: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        chosen_rows(networks(batch=1), None, where)
