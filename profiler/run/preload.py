"""What the fork server holds ready: importing this loads the runtimes that a visit may need.

Only for the fork server and what is forked from it. Whatever is loaded here costs a visit nothing.
"""

from __future__ import annotations

import contextlib
import gc
import importlib

from profiler.run.child import undisturbed

#: The modules that visits were seen to import, beside those that these import themselves. The last two are behind
#: torch's meta device, on which networks are built, and take half a second.
_MODULES = (
    "numpy.random",
    "torch",
    "onnxruntime",
    "openvino",
    "profiler.measure.visit",
    "profiler.run.child",
    "profiler.models.modules",
    "profiler.backends.eager",
    "profiler.backends.torchscript",
    "profiler.backends.compile",
    "profiler.backends.aoti",
    "profiler.backends.onnxruntime",
    "profiler.backends.openvino",
    "profiler.backends.fake",
    "torch._refs",
    "torch.fx.experimental.symbolic_shapes",
)

undisturbed()
gc.disable()  # imports make little garbage and many objects: looking for it takes an eighth of their time
for _name in _MODULES:
    with contextlib.suppress(ImportError):
        importlib.import_module(_name)

# Collected once here instead of in every visit, which then has only its own garbage to look through.
gc.collect()
gc.freeze()
gc.enable()
