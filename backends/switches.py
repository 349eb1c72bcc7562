"""torch's global switches, which decide what an operation computes and what it costs: held for a while, then put back.

Since version 2.9 torch has two sets of them for the precision of fp32: one for the whole process (``allow_tf32``, the
float32 matmul precision), and one for each operation of a library (``fp32_precision``), which is what counts and which
inherits from switches above it. Who has set one and asks the other gets an exception. Here both are set alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar

from profiler.backends.base import BackendError

_T = TypeVar("_T")

#: Switches of matrix products in half precision, and how torch sets them by default.
_HALF = {
    "allow_fp16_reduced_precision_reduction": True,
    "allow_bf16_reduced_precision_reduction": True,
    "allow_fp16_accumulation": False,
}


@dataclass(frozen=True, slots=True)
class Switches:
    """One state of them all.

    Attributes:
        threads: Intra-op threads on the host.
        matmul: ``highest``, ``high`` or ``medium``: torch's float32 matmul precision.
        cudnn_tf32: Whether cuDNN may use TF32, by the older switch.
        onednn_tf32: Whether oneDNN may on Intel GPUs; None in a build without them.
        libraries: Precision of all, of CUDA's libraries and of oneDNN, which operations inherit; none before torch 2.9.
        operations: Precision of each operation that has its own; none before torch 2.9.
        cudnn: Whether cuDNN is used at all.
        cudnn_benchmark: Whether it tries its algorithms.
        cudnn_deterministic: Whether it keeps to deterministic ones.
        mkldnn: Whether oneDNN is used at all.
        half: Those of ``_HALF``, with the second half of their value where they have one.
        deterministic: torch's debug mode for deterministic algorithms; 0 is off.
    """

    threads: int
    matmul: str
    cudnn_tf32: bool
    onednn_tf32: bool | None
    libraries: tuple[str, ...]
    operations: tuple[str, ...]
    cudnn: bool
    cudnn_benchmark: bool
    cudnn_deterministic: bool
    mkldnn: bool
    half: tuple[object, ...]
    deterministic: int


#: What was put last by those who hold switches; None while nobody does.
_held: ContextVar[Switches | None] = ContextVar("held switches", default=None)


@contextmanager
def held(
    threads: int,
    *,
    convolutions_in_tf32: bool = False,
    products_in_tf32: bool = False,
    cudnn_benchmark: bool = False,
) -> Iterator[None]:
    """Let torch compute fp32 as asked on ``threads`` threads, whatever state the process is in; put that back after it.

    By default torch has convolutions in TF32, of cuDNN alone, and products not.

    Raises:
        BackendError: torch runs with another number of threads than asked.
    """
    before = _read()
    asked = _fp32(before, convolutions=convolutions_in_tf32, products=products_in_tf32)
    wanted = replace(asked, threads=threads, cudnn_benchmark=cudnn_benchmark)
    with _holding(before, wanted):
        yield


@contextmanager
def plain(threads: int, device_type: str) -> Iterator[None]:
    """Let torch compute as it does when nobody has touched a switch, fp32 in fp32, on ``threads`` threads of the host.

    For what must cost the same whatever a model or its author has set. Raises as ``held``.
    """
    import torch

    before = _read()
    half = tuple(default for name, default in _HALF.items() if name in _half_names())
    asked = _fp32(before, convolutions=False, products=False)
    wanted = replace(asked, threads=threads, cudnn_benchmark=False, half=half, deterministic=0)
    with _holding(before, replace(wanted, mkldnn=True)):
        if torch.is_autocast_enabled(device_type):
            with torch.autocast(device_type, enabled=False):
                yield
        else:
            yield


def current() -> Switches | None:
    """Return what is held now; None while nobody holds anything."""
    return _held.get()


def resume(switches: Switches | None) -> None:
    """Put ``switches`` again: someone else has held others since, or a model has changed them while it was built."""
    if switches is not None:
        _put(switches)
        _held.set(switches)


@contextmanager
def _holding(before: Switches, wanted: Switches) -> Iterator[None]:
    import torch

    outer = _held.get()
    try:
        resume(wanted)
        found = torch.get_num_threads()
        if found != wanted.threads:
            raise BackendError(
                f"torch runs {found} threads where {wanted.threads} were asked:"
                " unset OMP_NUM_THREADS, OMP_THREAD_LIMIT and MKL_NUM_THREADS"
            )
        yield
    finally:
        _put(before)
        _held.set(outer)


def _fp32(before: Switches, *, convolutions: bool, products: bool) -> Switches:
    of_cudnn = [owner == "cudnn" for owner, _ in _operations()]
    return replace(
        before,
        matmul="high" if products else "highest",
        cudnn_tf32=convolutions,
        onednn_tf32=None if before.onednn_tf32 is None else products,
        operations=tuple("tf32" if (convolutions if its else products) else "ieee" for its in of_cudnn),
        cudnn=True,
        cudnn_deterministic=False,
    )


def _read() -> Switches:
    """Return the switches as they are; what precision each operation has is undefined until the next ``_put``."""
    import torch

    cudnn, mkldnn = torch.backends.cudnn, torch.backends.mkldnn
    every = _libraries(), [operation for _, operation in _operations()]
    libraries, operations = (tuple(str(one.fp32_precision) for one in ones) for ones in every)
    return Switches(
        threads=torch.get_num_threads(),
        matmul=_older(torch.get_float32_matmul_precision),
        cudnn_tf32=_older(lambda: bool(cudnn.allow_tf32)),
        onednn_tf32=getattr(mkldnn, "allow_tf32", None),
        libraries=libraries,
        operations=operations,
        cudnn=cudnn.enabled,
        cudnn_benchmark=cudnn.benchmark,
        cudnn_deterministic=cudnn.deterministic,
        mkldnn=bool(mkldnn.enabled),
        half=tuple(_half(name) for name in _half_names()),
        deterministic=torch.get_deterministic_debug_mode(),
    )


def _put(switches: Switches) -> None:
    import torch

    if torch.get_num_threads() != switches.threads:  # setting them throws caches away, even to the same number
        torch.set_num_threads(switches.threads)
    for library, precision in zip(_libraries(), switches.libraries, strict=True):
        if library.fp32_precision != precision:  # or it would no longer inherit
            _agree()
            library.set_flags(_fp32_precision=precision)
    _agree()
    torch.set_float32_matmul_precision(switches.matmul)
    torch.backends.cudnn.set_flags(  # type: ignore[no-untyped-call]
        _enabled=switches.cudnn,
        _benchmark=switches.cudnn_benchmark,
        _deterministic=switches.cudnn_deterministic,
        _allow_tf32=switches.cudnn_tf32,
        **_kept(),
    )
    onednn = {} if bool(torch.backends.mkldnn.enabled) is switches.mkldnn else {"_enabled": switches.mkldnn}
    if switches.onednn_tf32 is not None:
        onednn["_allow_tf32"] = switches.onednn_tf32
    if onednn:
        torch.backends.mkldnn.set_flags(**onednn, **_kept())  # type: ignore[no-untyped-call]
    for (_, operation), precision in zip(_operations(), switches.operations, strict=True):
        operation.fp32_precision = precision
    for name, value in zip(_half_names(), switches.half, strict=True):
        setattr(torch.backends.cuda.matmul, name, value)
    if torch.get_deterministic_debug_mode() != switches.deterministic:
        torch.set_deterministic_debug_mode(switches.deterministic)


def _agree() -> None:
    """Let operations agree with the older switches, which torch refuses to read, and so to replace, until they do."""
    import torch

    _older(lambda: torch.backends.cudnn.allow_tf32)


def _older(ask: Callable[[], _T]) -> _T:
    """Return what an older switch says, which torch does not tell while an operation has another precision."""
    with suppress(RuntimeError):
        return ask()
    for precision in ("ieee", "tf32"):
        for _, operation in _operations():
            operation.fp32_precision = precision
        with suppress(RuntimeError):
            return ask()
    return ask()


def _kept() -> dict[str, Any]:
    """What keeps a library's flags from setting its precision too."""
    return {"_fp32_precision": None} if _libraries() else {}


@cache
def _libraries() -> tuple[Any, ...]:
    """What operations inherit their precision from, each after what it inherits from itself; none before torch 2.9."""
    from torch import backends

    return (backends, backends.cudnn, backends.mkldnn) if hasattr(backends, "fp32_precision") else ()


@cache
def _operations() -> tuple[tuple[str, Any], ...]:
    """What has a precision of its own in this torch, behind the name of its library; those of CUDA before oneDNN."""
    from torch import backends

    names = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")
    owners = [name.partition(".")[::2] for name in names]
    found = [(owner, getattr(getattr(backends, owner), name, None)) for owner, name in owners]
    return tuple((owner, operation) for owner, operation in found if hasattr(operation, "fp32_precision"))


@cache
def _half_names() -> tuple[str, ...]:
    """The names of ``_HALF`` that this torch has."""
    import torch

    return tuple(name for name in _HALF if hasattr(torch.backends.cuda.matmul, name))


def _half(name: str) -> object:
    """Return a value as it is set: with split-k, where that is a switch of its own."""
    import torch

    value, split = (getattr(torch.backends.cuda.matmul, f"{name}{end}", None) for end in ("", "_split_k"))
    return value if split is None else (value, split)
