"""From the name of a model to what a backend loads: one source for each form of a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from profiler.models import files, libraries, live, naming, onnx_file, own_family, zoo
from profiler.models.loaded import Asked, Loaded
from profiler.models.naming import Form

_SOURCES: Mapping[Form, Callable[[Asked], Loaded]] = {
    "zoo": zoo.load_network,
    "factory": own_family.load_own,
    "file factory": own_family.load_own,
    "onnx": onnx_file.load_onnx,
    "torchscript": files.load_torchscript,
    "exported": files.load_exported,
    "timm": libraries.load_timm,
    "torchvision": libraries.load_torchvision,
    "live": live.load_live,
}


def load_model(asked: Asked) -> Loaded:
    """Return the model that is asked for; raises UserError with one sentence when it cannot be had."""
    return _SOURCES[naming.form(asked.model)](asked)
