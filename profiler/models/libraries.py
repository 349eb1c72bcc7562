"""Models of packages: ``timm:NAME`` and ``torchvision:NAME``, with random weights; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Any

from profiler.errors import UserError
from profiler.models import content
from profiler.models.examples import IMAGE, normal
from profiler.models.loaded import Asked, Loaded
from profiler.models.shapes import parse_shapes
from profiler.models.torch_source import called, from_module
from profiler.models.torchvision_import import import_without_operators

#: What is passed for one image by torchvision's task, as its folders are called; one image for all others.
_EXAMPLES: Mapping[str, Callable[[tuple[int, int, int]], object]] = {
    "detection": lambda image: ([normal(image)],),
    "optical_flow": lambda image: (normal((1, *image)), normal((1, *image))),
    "video": lambda image: normal((1, 3, 16, *image[1:])),
}


def load_timm(asked: Asked) -> Loaded:
    """Return a model of timm, its input in the size that timm says."""
    timm, name = _package("timm", asked), asked.model.partition(":")[2]
    if not timm.is_model(name):
        _refuse(asked, name, timm.list_models())
    module = called(lambda: timm.create_model(name, pretrained=False), asked.model)
    size = tuple(getattr(module, "default_cfg", {}).get("input_size", IMAGE))
    return _loaded(module, lambda image: normal((1, *image)), size, asked, "timm")


def load_torchvision(asked: Asked) -> Loaded:
    """Return a model of torchvision, its inputs by its task."""
    package, name = _package("torchvision", asked), asked.model.partition(":")[2]
    models = package.models
    if name not in models.list_models():
        _refuse(asked, name, models.list_models())
    keywords: dict[str, Any] = {"weights": None}
    build = models.get_model_builder(name)
    if "weights_backbone" in build.__annotations__:
        keywords["weights_backbone"] = None
    module = called(lambda: build(**keywords), asked.model)
    task = build.__module__.split(".")[2] if build.__module__.count(".") > 2 else ""
    size = (IMAGE[0], *_sides(models.get_model_weights(name), module))
    return _loaded(module, _EXAMPLES.get(task, lambda image: normal((1, *image))), size, asked, "torchvision")


def _sides(weights: Any, module: Any) -> tuple[int, int]:
    """Return the height and width that a model says, else those that its published weights are given, else 224."""
    transforms = weights.DEFAULT.transforms() if hasattr(weights, "DEFAULT") else None
    crop = getattr(module, "image_size", None) or getattr(transforms, "crop_size", None) or IMAGE[1:]
    sides = (crop,) if isinstance(crop, int) else tuple(crop)
    return int(sides[0]), int(sides[-1])


def _loaded(
    module: Any, example: Callable[[tuple[int, int, int]], object], size: tuple[int, ...], asked: Asked, package: str
) -> Loaded:
    """Return ``module`` with an image of the height and width asked for."""
    shapes = parse_shapes(asked.shape) if asked.shape else {}
    sides = [
        shapes[name].sizes[0] if name in shapes else own
        for name, own in zip(("height", "width"), size[1:], strict=True)
    ]
    code = content.of_parts(package, version(package), asked.model)
    image = (size[0], sides[0], sides[1])
    return from_module(module, example(image), asked, code, ("height", "width"))


def _package(name: str, asked: Asked) -> Any:
    import_without_operators()
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(
            f"model {asked.model!r} needs the package {name}, which cannot be imported ({error}): pip install {name}"
        ) from error
    except RuntimeError as error:
        said = " ".join(str(error).split())[:120]
        raise UserError(
            f"model {asked.model!r}: {name} does not work beside this torch ({said}): install the {name} that was "
            "built for it"
        ) from error


def _refuse(asked: Asked, name: str, known: list[str]) -> None:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=3, cutoff=0.5)
    closest = f"; closest: {', '.join(close)}" if close else ""
    raise UserError(f"model {asked.model!r}: the package has no model {name!r}{closest}; expected one that it lists")
