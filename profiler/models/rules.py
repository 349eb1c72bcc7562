"""What torch's operators cost: one rule per operator that multiply-adds, by its name in torch's dispatcher.

A rule gets the arguments by the names of the operator's schema, and what came out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from profiler.models.operators import Operation, attention, convolution, einsum, product, recurrent

Arguments: TypeAlias = Mapping[str, Any]
Rule: TypeAlias = Callable[[Arguments, Any], Iterable[Operation]]

#: Whose operators are known well enough to say by name which of them multiply-add.
_NAMESPACES = frozenset({"aten", "prim", "prims", "profiler", "quantized", "quantized_decomposed", "torchvision"})
#: Words in the names of operators that multiply-add, or may.
_SUSPECT = re.compile(
    "conv(olution)?([123]d)?|(addb|add|baddb|b|hsp|s|sspadd)?mm|addmv|mv|addr|v?dot|matmul|gemm|einsum|(bi|tri)?linear|"
    "attention|transformer|lstm|gru|rnn|cell|deform|[cp]dist|fft|linalg|cholesky|(slog|log)?det|eig(h|vals|valsh)?|geqrf|"
    "lstsq|lu|matrix|orgqr|ormqr|p?inverse|qr|sp?solve|solve|svd|\\w*Group"
)
#: Words in the names of operators that contain one of those and still only move, pack, compare or scale numbers.
_HARMLESS = re.compile("check|cross|diagonal|errors|r?fftfreq|flatten|norm|(pre|un)?pack|powsum|reorder|slice|thnn")
_QUANTISED = re.compile(
    r"quantized::(conv|conv_transpose|linear)([123]d)?"
    r"((_add|_relu|_leaky_relu|_tanh|_dynamic|_fp16|_unpacked_weight)*|_with_input\w+)"
)
_GATES = {"lstm": 4, "gru": 3, "rnn": 1}


@cache
def may_multiply(name: str) -> bool:
    """Whether an operator that no rule knows may multiply-add, as far as its name tells."""
    namespace, _, operator = name.partition("::")
    words = operator.split("_")
    known = namespace in _NAMESPACES
    return not known or (any(map(_SUSPECT.fullmatch, words)) and not any(map(_HARMLESS.fullmatch, words)))


@cache
def rule_of(name: str) -> Rule | None:
    """The rule for an operator, None where there is none; an operator in place costs what the other costs."""
    plain = name.removesuffix("_")
    return _packed if _QUANTISED.fullmatch(plain) else _RULES.get(plain)


def packed(script: Any) -> list[Tensor]:
    """The learned numbers inside a ``ScriptObject`` of torch's quantised operators; empty where it tells none."""
    if hasattr(script, "unpack"):
        return [part for part in _leaves(script.unpack()) if isinstance(part, Tensor)]
    if not str(script._type()).endswith("CellParamsBase"):  # noqa: SLF001 - it has no other way to say so
        return []
    # A recurrent cell holds its biases twice: beside its weights, and packed with them.
    parts = list(_leaves(script.__getstate__()))
    weights = [packed(part)[0] for part in parts if isinstance(part, torch.ScriptObject)]
    return weights + [part for part in parts if isinstance(part, Tensor)]


def _leaves(state: object) -> Iterable[object]:
    if isinstance(state, list | tuple):
        for part in state:
            yield from _leaves(part)
    else:
        yield state


def _first(a: Arguments) -> Tensor:
    found: Tensor = next(iter(a.values()))
    return found


def matrix_product(a: Arguments, out: Tensor) -> Iterable[Operation]:
    """A product whose left side is the first argument, perhaps with a bias."""
    yield product(out.shape, _first(a).shape[-1], biased=a.get("bias") is not None)


def _added_product(a: Arguments, out: Tensor) -> Iterable[Operation]:
    """``self`` is a bias where every row gets the same one; else it is a mask, or a sum with another output."""
    left = next(a[name] for name in ("mat1", "mat", "batch1") if name in a)
    added = a["self"]
    shared = added.dim() < 2 or (out.dim() == 2 and added.shape[0] < out.shape[0])
    yield product(out.shape, left.shape[-1], biased=shared and a.get("beta", 1) != 0)


def _summed_product(a: Arguments, out: Tensor) -> Iterable[Operation]:
    yield product(out.shape, a["batch1"].shape[0] * a["batch1"].shape[2])


def _outer(a: Arguments, out: Tensor) -> Iterable[Operation]:
    yield product(out.shape, a["vec1"].dim())


def _bilinear(a: Arguments, out: Tensor) -> Iterable[Operation]:
    yield product(out.shape, a["weight"][0].numel(), biased=a["bias"] is not None)


def _convolution(a: Arguments, out: Tensor) -> Iterable[Operation]:
    transposed = a.get("transposed", False)
    given, weight, biased = _first(a).shape, a["weight"].shape, a.get("bias") is not None
    yield convolution(given, out.shape, weight, transposed=transposed, biased=biased)


def _deformable(a: Arguments, out: Tensor) -> Iterable[Operation]:
    """Without a bias torchvision makes one of zeros, which is nobody's parameter."""
    weight, biased = a["weight"].shape, isinstance(a["bias"], nn.Parameter)
    yield convolution(a["input"].shape, out.shape, weight, biased=biased)


def _packed(a: Arguments, out: Tensor) -> Iterable[Operation]:
    script: Any = next((one for one in a.values() if isinstance(one, torch.ScriptObject)), None)
    weight, *bias = (a["weight"], a["bias"]) if script is None else packed(script)
    if weight.dim() == 2:
        yield product(out.shape, weight.shape[1], biased=bool(bias))
    elif script is not None:
        given, transposed = _first(a).shape, bool(script.transpose())
        yield convolution(given, out.shape, weight.shape, transposed=transposed, biased=bool(bias))


def _einsum(a: Arguments, _out: object) -> Iterable[Operation]:
    return einsum(a["equation"], [one.shape for one in a["tensors"]])


def _attention(a: Arguments, _out: object) -> Iterable[Operation]:
    return attention(*(a[name].shape for name in ("query", "key", "value")))


def _projected_attention(a: Arguments, _out: object) -> Iterable[Operation]:
    """Attention with the projections before and after it, as one operator."""
    query, keys = a["query"].shape, a["key"].shape
    batch, width, heads = query[0], a["embed_dim"], a["num_head"]
    yield product([batch, query[1] + 2 * keys[1], width], width, biased=True)
    split = [[batch, heads, length, width // heads] for length in (query[1], keys[1])]
    yield from attention(split[0], split[1], split[1])
    yield product(query, width, biased=True)


def _encoder_layer(a: Arguments, out: Tensor) -> Iterable[Operation]:
    source, inner = a["src"], a["ffn_weight_1"].shape[0]
    yield from _projected_attention({**a, "query": source, "key": source, "num_head": a["num_heads"]}, out)
    yield product([*out.shape[:-1], inner], out.shape[-1], biased=True)
    yield product(out.shape, inner, biased=True)


def _recurrent(gates: int) -> Rule:
    def rule(a: Arguments, _out: object) -> Iterable[Operation]:
        given, state = _first(a), a["hx"]
        hidden, width = (part.shape[-1] for part in (state[-1], state[0])) if gates == 4 else (state.shape[-1],) * 2
        return recurrent(
            gates,
            given.numel() // given.shape[-1],
            given.shape[-1],
            hidden,
            layers=a.get("num_layers", 1),
            directions=1 + a.get("bidirectional", False),
            projected=width if width != hidden else 0,
        )

    return rule


def _onednn_recurrent(a: Arguments, out: tuple[Tensor, ...]) -> Iterable[Operation]:
    """One layer in one direction."""
    given, weights = a["input"], a["weight0"].numel() + a["weight1"].numel()
    yield Operation(given.numel() // given.shape[-1] * weights, out[0].numel())


def _named(rule: Rule, names: str, namespace: str = "aten") -> dict[str, Rule]:
    return {f"{namespace}::{name}": rule for name in names.split()}


_RULES: Mapping[str, Rule] = {
    **_named(matrix_product, "matmul mm bmm mv dot vdot linear mkldnn_linear _int_mm _scaled_mm"),
    **_named(
        matrix_product, "_weight_int8pack_mm _weight_int4pack_mm _weight_int4pack_mm_for_cpu _dyn_quant_matmul_4bit"
    ),
    **_named(matrix_product, "matmul", "quantized"),
    **_named(_added_product, "addmm addmv baddbmm _addmm_activation"),
    **_named(_summed_product, "addbmm"),
    **_named(_outer, "addr"),
    **_named(_bilinear, "bilinear"),
    **_named(_einsum, "einsum"),
    **_named(_convolution, "convolution _convolution convolution_overrideable mkldnn_convolution cudnn_convolution"),
    **_named(
        _convolution, "cudnn_convolution_relu _conv_depthwise2d conv_depthwise3d thnn_conv2d _slow_conv2d_forward"
    ),
    **_named(_deformable, "deform_conv2d", "torchvision"),
    **_named(_attention, "scaled_dot_product_attention _scaled_dot_product_attention_math"),
    **_named(_attention, "_scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu"),
    **_named(_attention, "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention"),
    **_named(_attention, "_scaled_dot_product_fused_attention_overrideable"),
    **_named(_projected_attention, "_native_multi_head_attention"),
    **_named(_encoder_layer, "_transformer_encoder_layer_fwd"),
    **_named(_onednn_recurrent, "mkldnn_rnn_layer"),
    **{
        f"{space}::{prefix}{name}{suffix}": _recurrent(_GATES[name.partition("_")[0]])
        for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")
        for space, prefix, suffix in (
            ("aten", "", ""),
            ("aten", "", "_cell"),
            ("aten", "quantized_", ""),
            ("aten", "quantized_", "_cell"),
            ("quantized", "quantized_", "_cell_dynamic"),
        )
    },
}
