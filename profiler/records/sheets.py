"""Read a table from CSV, however it was made: what is no number, or none that can be, is said and not computed with."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from profiler.errors import UserError
from profiler.records.columns import COLUMNS, FORMULA
from profiler.records.outside import file_bytes, shown, text_of
from profiler.records.ranges import MOST

if TYPE_CHECKING:
    import pandas as pd

    _Column: TypeAlias = pd.Series[Any]

#: Columns of words: a version 2.10 is no number, nor is a key 12e345678901. All others hold numbers.
_TEXTS = frozenset(
    (
        *("model", "family", "scaling", "step", "backend", "device", "precision", "mode", "status", "reason"),
        *(
            "gpu_slowdown",
            "launch_bound",
            "simulated",
            "memory_source",
            "optimizer",
            "batch_asked",
            "memory_format",
            "uncounted",
        ),
        *("inputs", "shape", "content", "case", "backend_version", "torch_version", "onnxruntime_version", "provider"),
        *("recipe", "top1_source", "host", "cpu", "os", "python", "started", "run"),
    )
)
#: Columns whose numbers begin at 1.
_FROM_ONE = frozenset(("threads", "batch", "resolution"))
#: Columns that are computed with: words in one of them spoil the table.
_COMPUTED = frozenset(("flops", "params", "acts", "layers", "padding_flops", "factor", "threads", "batch"))
#: What stands in a table where nothing was measured.
_HOLES = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null", "None")
#: What else separates columns, and what people call it.
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read_csv(path: Path) -> pd.DataFrame:
    """Read a table that ``write_csv`` wrote, or that anything else did; holes are NaN.

    Raises:
        UserError: It cannot be read, is no table with commas, was cut off, or a number is out of its range.
    """
    try:
        text = text_of(file_bytes(path))
        _check_lines(text)
        found = _parsed(text)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); expected a run folder, a journal or a CSV."
        ) from error
    except (ValueError, csv.Error) as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{path} is not a CSV table ({str(error).splitlines()[0]}).") from error
    for name in found.columns:
        try:
            found[name] = _unmarked(found[name]) if name in _TEXTS else _numbers(name, found[name])
        except _OddCellError as odd:
            network = f" ({found['model'].iloc[odd.row]})" if "model" in found else ""
            raise UserError(f"{path}: row {odd.row + 1}{network}: {odd}") from odd
    return found


def _check_lines(text: str) -> None:
    """See that each line has as many cells as the first one names.

    Raises:
        ValueError: They are separated by something else, a name stands twice, a line has more, or the last was cut off.
    """
    lines = csv.reader(io.StringIO(text))
    heads = next(lines, [])
    _check_separator(heads, text.partition("\n")[0])
    last = len(heads)
    if twice := [head for head in heads if head and heads.count(head) > 1]:
        raise ValueError(f"its first line names {shown(twice[0])} twice, and the columns may differ; keep one of them")
    for cells in lines:
        if any(cells[len(heads) :]):
            raise ValueError(f"line {lines.line_num} has {len(cells)} cells, and the first line names {len(heads)}")
        last = len(cells) or last
    if last < len(heads) and not text.endswith(("\n", "\r")):
        raise ValueError(f"its last line was cut off: it has {last} cells of {len(heads)}")


def _check_separator(heads: list[str], line: str) -> None:
    for separator, name in _SEPARATORS.items():
        if "model" not in heads and line.count(separator) > max(0, len(heads) - 1):
            raise ValueError(
                f"{name} separate its columns, and commas are expected; save it with commas, and with points in numbers"
            )


def _parsed(text: str) -> pd.DataFrame:
    import pandas as pd

    names = next(csv.reader(io.StringIO(text)), [])
    return pd.read_csv(
        io.StringIO(text),
        dtype=str,
        keep_default_na=False,
        na_values={name: [""] if name in _TEXTS else [*_HOLES] for name in names},
        index_col=False,
    )


def _unmarked(column: _Column) -> _Column:
    """Take away the apostrophes that keep spreadsheets from reading formulas."""
    marked = column.str.match(f"'{FORMULA.pattern}", na=False)
    return column.where(~marked, column.str[1:])


class _OddCellError(Exception):
    def __init__(self, row: int, name: str, cell: object) -> None:
        self.row = row
        super().__init__(f"column {name!r} holds {shown(cell)}; expected {_expected(name)}, or an empty cell")


def _numbers(name: str, column: _Column) -> _Column:
    """Return a column as numbers; as it is where words are among them.

    Raises:
        _OddCellError: A number is out of the range of its column, or there are words where numbers are computed with.
    """
    import pandas as pd

    told = [_number(cell) for cell in column]
    words = [row for row, value in enumerate(told) if value is None]
    if words and name in _COMPUTED:
        raise _OddCellError(words[0], name, column.iloc[words[0]])
    if words:
        return column
    for row, value in enumerate(told):
        if value is not None and not _possible(name, value):
            raise _OddCellError(row, name, column.iloc[row])
    return pd.Series(told, index=column.index)


def _number(cell: object) -> int | float | None:
    """Return a cell as a number, to the last bit; a hole is NaN, and None is no number."""
    try:
        return int(str(cell))
    except ValueError:
        pass
    try:
        return float(str(cell))
    except ValueError:
        return None


def _signed(name: str) -> bool:
    return name == "epoch_error" or name not in COLUMNS


def _possible(name: str, value: float) -> bool:
    if isinstance(value, float) and math.isnan(value):
        return True
    least = 1 if name in _FROM_ONE else -MOST if _signed(name) else 0
    return least <= value <= MOST and (value == 0 or abs(value) * MOST >= 1)


def _expected(name: str) -> str:
    if name in _FROM_ONE:
        return "a number from 1"
    return f"a number of at most {MOST:g}" if _signed(name) else f"a number from 0 to {MOST:g}"
