"""The models that must run, by the name that a user gives after ``--model``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """One model, the shapes that are given with it, and by backend the words in which it says that it cannot run it."""

    model: str
    shape: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)


def _params(entries: list[Entry]) -> list[object]:
    return [pytest.param(entry, id=Path(entry.model).name) for entry in entries]


def _in(module: str, names: str) -> list[Entry]:
    return [Entry(f"{HERE / module}:{name}") for name in names.split()]


def _of(package: str, names: str) -> list[Entry]:
    return [Entry(f"{package}:{name}") for name in names.split()]


def packaged(package: str, path: str) -> str:
    """Return the path of a file inside an installed package, which is not imported."""
    found = find_spec(package)
    folders = list(found.submodule_search_locations or ()) if found else []
    return str(Path(folders[0] if folders else package) / path)


BACKENDS = ("eager", "torchscript", "onnxruntime")
NO_OPERATORS = "an operator that torchvision compiles"
TIMM = (
    "resnet18 vit_tiny_patch16_224 convnext_atto mobilenetv4_conv_small swin_tiny_patch4_window7_224 regnetz_c16 "
    "efficientvit_b0 mixer_s32_224 maxvit_tiny_tf_224 edgenext_xx_small"
)
PLAIN = "lstm gru bare_lstm audio segmentation uint8_images nodes encoder functions scripted exported"
TORCH_MODELS = _params(
    [
        *_of("timm", TIMM),
        *_of("torchvision", "resnet18 mobilenet_v3_small lraspp_mobilenet_v3_large raft_small"),
        Entry("torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", refused=dict.fromkeys(BACKENDS, NO_OPERATORS)),
        *_in("hub.py", "bert bert_by_keyword bert_by_position gpt2 vit whisper t5 clip"),
        *_in("plain.py", PLAIN),
    ]
)

_OCR, _LIGHT = "rapidocr_onnxruntime", "backend/test/data/light/light_{}.onnx"
ONNX_FILES = _params(
    [
        Entry(packaged(_OCR, "models/ch_PP-OCRv4_det_infer.onnx"), "x=1x3x320x320"),
        Entry(packaged(_OCR, "models/ch_PP-OCRv4_rec_infer.onnx"), "x=1x3x48x160"),
        Entry(packaged(_OCR, "models/ch_ppocr_mobile_v2.0_cls_infer.onnx"), "x=1x3x48x192"),
        *[Entry(packaged("onnx", _LIGHT.format(name))) for name in ("squeezenet", "resnet50", "densenet121")],
        Entry(packaged("basic_pitch", "saved_models/icassp_2022/nmp.onnx")),
        Entry(packaged("brainmaze_eeg_models", "spindles/_models/spindle-detector-eeg.onnx")),
    ]
)

#: Other models of the same kinds: each showed something that the ones above do not.
MORE_MODELS = _params(
    [
        *_of("timm", "levit_128s"),
        *_of("torchvision", "inception_v3 deeplabv3_mobilenet_v3_large"),
        Entry("torchvision:r3d_18", "height=48,width=48"),
        *_in("hub.py", "distilbert llama wav2vec2 detr"),
        *_in("plain.py", "normalised spectrum pruned lazy compiled scripted_loop"),
        Entry(f"{HERE / 'plain.py'}:quantised", refused={"onnxruntime": "torch cannot export the model to ONNX opset"}),
    ]
)
