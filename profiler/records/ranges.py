"""What a number from outside may be: types that are checked where a file is read, never where a value is made.

The ends are far beyond what any machine does, and near enough that no sum, power or logarithm of them overflows.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

#: Larger than any count or amount in a record or a table; its square is still a number.
MOST = 10**18

Count = Annotated[int, Field(ge=0, le=MOST)]
Positive = Annotated[int, Field(ge=1, le=MOST)]
Amount = Annotated[float, Field(ge=0, le=MOST, allow_inf_nan=False)]
#: What a machine does per second, and anything else that is divided by.
Rate = Annotated[float, Field(gt=0, le=MOST, allow_inf_nan=False)]
#: Calls of something that is repeated until a clock can tell its time.
Repeats = Annotated[int, Field(ge=1, le=10**9)]
#: A time that a clock told, in ns: at most a day.
Ns = Annotated[int, Field(ge=1, le=10**14)]
#: The mean of such times.
MeanNs = Annotated[float, Field(ge=1, le=1e14, allow_inf_nan=False)]
#: A call of the reference, which is made to last 4 ms, or one unit of it on a slow machine; in ns.
ReferenceNs = Annotated[float, Field(ge=1e5, le=1e10, allow_inf_nan=False)]
#: What a network is scaled by; the end is that of ``profiler.models.scaling``.
Factor = Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)]
#: A name, a path, a key.
Name = Annotated[str, Field(max_length=4096)]
