"""What the C library does with memory that a forward has freed: keep it, or hand it back.

By default glibc hands large blocks back to the kernel and faults them in again, page by page, at the next forward; or
it does not, by the chance of what lies above them. The same RegNetY-400MF in eager PyTorch on two threads took 7.6 ms
in one process and 11 to 13 ms in the next, with 0 or 2900 page faults per forward. A visit that times keeps what was
freed, as the caching allocators of accelerators do. A visit that watches memory hands every large block back at once,
so that the resident set is what is in use.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Literal

_Policy = Literal["kept", "returned", "system"]

# malloc.h of glibc
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
#: Blocks from this size on, in bytes, are mapped, and so returned, one by one; glibc's own start value, held fixed.
_LARGE = 128 << 10
#: How many may be mapped at a time; glibc's own value, which ``keep_freed`` sets to none.
_MAPPED = 65_536


def keep_freed() -> _Policy:
    """Make this process keep freed memory, and say whether it does; ``system`` without glibc."""
    return "kept" if _mallopt({_MMAP_MAX: 0, _TRIM_THRESHOLD: -1}) else "system"


def return_freed() -> _Policy:
    """Make this process return large freed blocks at once, and say whether it does; ``system`` without glibc."""
    return "returned" if _mallopt({_MMAP_MAX: _MAPPED, _MMAP_THRESHOLD: _LARGE, _TRIM_THRESHOLD: _LARGE}) else "system"


def _mallopt(options: dict[int, int]) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    done = {name: mallopt(name, value) for name, value in options.items()}
    return all(done.values())
