"""What torch.compile makes, kept as one archive: compiled in a folder of its own, and read back from there."""

from __future__ import annotations

import json
import os
import shutil
import sysconfig
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from profiler.backends.base import BackendError, Fact, Placement
from profiler.backends.stages import stage

if TYPE_CHECKING:
    from torch import nn

    from profiler.backends.pytorch import Placed

ARCHIVE, FACTS = "inductor.zip", "facts.json"

#: Variables that say where Inductor and Triton keep what they compile.
_FOLDERS = {"TORCHINDUCTOR_CACHE_DIR": "", "TRITON_CACHE_DIR": "triton"}

#: Where torch looks for the CUDA toolkit that nothing names, and where a toolkit has its headers.
_CUDA, _CUDA_HEADERS = Path("/usr/local/cuda"), ("include/cuda.h", "targets/*/include/cuda.h")

#: Graph breaks whose reasons are told; what else there is, is counted.
_TOLD = 3


def compiler_missing(placement: Placement) -> str | None:
    """Return what Inductor needs and does not find to compile for the device of ``placement``, or None."""
    if placement.device_type != "cpu":
        if find_spec("triton") is None:
            return "torch.compile needs Triton on a GPU: pip install triton, or use eager"
        # Triton compiles what launches its kernels, with one of these.
        own = os.environ.get("CC")
        if not any(map(shutil.which, [own] if own else ["gcc", "clang"])):
            said = f"there is no {own!r}" if own else "there is neither gcc nor clang"
            return f"torch.compile needs a C compiler for Triton and {said}: install one, or use eager"
    elif lacked := _no_cxx():
        return f"torch.compile {lacked}: install one, or use torchscript"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "torch.compile needs Python.h, which is not here: install python3-dev, or use torchscript"
    return None


def toolkit_missing(placement: Placement) -> str | None:
    """Return what AOTInductor needs beyond that to make a package for the device of ``placement``, or None."""
    import torch

    if placement.device_type != "cuda" or torch.version.hip:
        return None
    if lacked := _no_cxx():
        return f"AOTInductor {lacked}: install one, or use compile"
    nvcc = shutil.which("nvcc")
    named = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    home = Path(named) if named else Path(nvcc).parents[1] if nvcc else _CUDA
    if any(True for pattern in _CUDA_HEADERS for _ in home.glob(pattern)):
        return None
    return f"AOTInductor needs cuda.h and {home} has none: install the CUDA toolkit and set CUDA_HOME, or use compile"


def _no_cxx() -> str | None:
    compiler = os.environ.get("CXX") or "g++"
    return None if shutil.which(compiler) else f"needs a C++ compiler and there is no {compiler!r}"


@contextmanager
def unpacked(archive: Path | None) -> Iterator[Path]:
    """Let Inductor keep what it compiles in a folder that begins with what ``archive`` holds; remove it at the end."""
    import torch

    with tempfile.TemporaryDirectory(prefix="latency-profiler-", ignore_cleanup_errors=True) as folder:
        if archive is not None:
            shutil.unpack_archive(archive, folder)
        before = {name: os.environ.get(name) for name in _FOLDERS}
        os.environ.update({name: str(Path(folder) / below) for name, below in _FOLDERS.items()})
        _forget()
        try:
            with torch._inductor.config.patch(compile_threads=1):  # noqa: SLF001 - workers would outlive the compilation
                yield Path(folder)
        finally:
            _forget()
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


@contextmanager
def silence() -> Iterator[None]:
    """Keep warnings of torch's to its own developers, on importing and on compiling, from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _forget() -> None:
    """Throw away what torch.compile holds in memory, or nothing would be read from the folder."""
    import torch

    with silence():
        from torch._inductor import utils

    torch._dynamo.reset()  # noqa: SLF001 - torch.compiler.reset leaves the counters
    torch._dynamo.utils.counters.clear()  # noqa: SLF001
    utils.clear_inductor_caches()


def compiled(module: nn.Module, mode: str | None, *, dynamic: bool) -> Callable[..., object]:
    """Return what torch.compile makes of ``module``: the first call compiles it."""
    import torch

    with silence():
        return cast("Callable[..., object]", torch.compile(module, mode=mode, dynamic=dynamic))


def keep(call: Callable[..., object], placed: Placed, folder: Path) -> None:
    """Compile ``call`` for its inputs; write what that made, and its time where somebody takes it, to ``folder``."""
    facts: dict[str, Fact] = {}
    with unpacked(None) as made:
        with stage("compile", facts):
            first_call(call, placed)
        shutil.make_archive(str(folder / Path(ARCHIVE).stem), "zip", made)
    (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")


def first_call(call: Callable[..., object], placed: Placed) -> None:
    """Call what torch.compile returned, which compiles it, or reads it where it was compiled.

    Raises:
        BackendError: torch cannot compile it, in one sentence.
    """
    import torch

    try:
        with torch.inference_mode(), silence():
            call(*placed.args, **placed.kwargs)
    except (RuntimeError, TypeError, NotImplementedError, AttributeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        said = lines[0][:200].rstrip(".")
        raise BackendError(f"torch.compile cannot compile the model ({said}): use eager") from error


def told() -> dict[str, Fact]:
    """Return what torch counted since it was told to forget: graphs, breaks between them and why, and cache misses."""
    from torch._dynamo.utils import counters

    breaks: Mapping[str, int] = counters["graph_break"]
    reasons = [_reason(text) for text in breaks]
    more = f" and {len(reasons) - _TOLD} more" if len(reasons) > _TOLD else ""
    graphs = int(counters["stats"]["unique_graphs"])
    note = f"torch.compile broke the model into {graphs} graphs ({'; '.join(reasons[:_TOLD])}{more})"
    return {
        "graphs": graphs,
        "graph_breaks": sum(breaks.values()),
        "compile_note": note if reasons else None,
        "graphs_compiled": int(counters["inductor"]["fxgraph_cache_miss"]),
        "graphs_read": int(counters["inductor"]["fxgraph_cache_hit"]),
    }


def not_replayed() -> int:
    """Return how many graphs are launched kernel by kernel where CUDA graphs were asked for; torch only logs why."""
    from torch._dynamo.utils import counters

    return int(counters["inductor"]["cudagraph_skips"])


def _reason(text: Any) -> str:
    """Return the first two lines of torch's explanation of a graph break as one."""
    lines = [line.strip().removeprefix("Explanation: ").rstrip(".") for line in str(text).splitlines() if line.strip()]
    return ": ".join(lines[:2])[:160]
