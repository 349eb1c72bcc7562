"""The models that must run, by the name that a user gives after ``--model``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """One model: its name, the shapes that are given with it, and what a backend says where it cannot run it."""

    model: str
    shape: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return Path(self.model).name


def _in(module: str, names: str) -> list[Entry]:
    return [Entry(f"{HERE / module}:{name}") for name in names.split()]


def _of(package: str, names: str) -> list[Entry]:
    return [Entry(f"{package}:{name}") for name in names.split()]


def _file(package: str, path: str, shape: str = "") -> Entry:
    """A file inside an installed package, which is not imported."""
    found = find_spec(package)
    folders = found.submodule_search_locations if found else None
    return Entry(str(Path(folders[0]) / path) if folders else f"{package}/{path}", shape)


LIGHT = "backend/test/data/light/light_{}.onnx"
TORCH_MODELS = [
    *_of(
        "timm",
        "resnet18 vit_tiny_patch16_224 convnext_atto mobilenetv4_conv_small swin_tiny_patch4_window7_224 "
        "regnetz_c16 efficientvit_b0 mixer_s32_224 maxvit_tiny_tf_224 edgenext_xx_small",
    ),
    *_of("torchvision", "resnet18 mobilenet_v3_small lraspp_mobilenet_v3_large"),
    *_of("torchvision", "raft_small"),
    *_in("hub.py", "bert bert_by_keyword bert_by_position gpt2 vit whisper t5 clip"),
    *_in("plain.py", "lstm gru bare_lstm audio segmentation uint8_images nodes encoder functions scripted exported"),
]
ONNX_FILES = [
    _file("rapidocr_onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx", "x=1x3x320x320"),
    _file("rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx", "x=1x3x48x160"),
    _file("rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx", "x=1x3x48x192"),
    _file("onnx", LIGHT.format("squeezenet")),
    _file("onnx", LIGHT.format("resnet50")),
    _file("onnx", LIGHT.format("densenet121")),
    _file("basic_pitch", "saved_models/icassp_2022/nmp.onnx"),
    _file("brainmaze_eeg_models", "spindle.onnx"),
]
