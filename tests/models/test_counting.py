"""Counts of torch modules: by hand, by closed forms, and the same however a module is brought."""

from __future__ import annotations

import random
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from profiler.errors import UserError
from profiler.models import Complexity, build, count, get, scale
from profiler.models.counting import KeepsError
from profiler.models.operators import attention, product
from profiler.models.rules import may_multiply
from tests.models.samples import ENCODER_ATTENTION, ENCODER_LINEAR, Encoder, Functional, Gpt, LstmHead, Written, trained

pytestmark = pytest.mark.usefixtures("one_thread")


class Calling(nn.Module):
    """A module of one function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def costs(module, *inputs, **keywords):
    """flops and acts; nothing is left uncounted."""
    found = count(module, inputs, keywords)
    assert not found.uncounted
    return found.flops, found.acts


class LookingUp(nn.Module):
    """Keeps its last result beside the input that it is of; or a table of its weights, computed once."""

    def __init__(self, *, table):
        super().__init__()
        self.layers, self.last = nn.Sequential(*(nn.Linear(8, 8) for _ in range(8))), nn.Linear(8, 8)
        self.table, self.seen = table, None

    def forward(self, x):
        if self.table:
            self.seen = self.layers(torch.eye(8)) if self.seen is None else self.seen
            return self.last(x) @ self.seen
        if self.seen is None or not torch.equal(self.seen[0], x):
            self.seen = x, self.layers(x)
        return self.seen[1]


def scripted(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch advises against it
        return torch.jit.script(module.eval())


def frozen(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.freeze(scripted(module), optimize_numerics=False)


def traced(module, *inputs):
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.trace(module.eval(), inputs)


def exported(module, *inputs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, about itself
        return torch.export.export(module.eval(), inputs).module()


def quantised(module, *types):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against it, at length
        return torch.ao.quantization.quantize_dynamic(module.eval(), set(types), torch.qint8)


# --- by hand


def added(*pairs):
    return tuple(map(sum, zip(*pairs, strict=True)))


def test_an_encoder_counts_linear_layers_and_products_of_attention():
    module, x = Encoder(), torch.zeros(1, 64, 256)
    assert costs(module, x) == added(ENCODER_LINEAR, ENCODER_ATTENTION)
    assert count(module, (x,)).layers == 2 * (4 + 2)


def test_the_fast_path_of_an_encoder_counts_the_same():
    """A scripted module takes it whatever is asked: one operator for the whole layer."""
    assert costs(scripted(Encoder()), torch.zeros(1, 64, 256)) == added(ENCODER_LINEAR, ENCODER_ATTENTION)


def test_a_recurrent_network_counts_products_without_biases():
    module, x = LstmHead(), torch.zeros(1, 50, 40)
    assert costs(module, x) == (2_970_240 + 10, 2 * 50 * 64 + 10)
    assert count(module, (x,)).layers == 3


def test_functions_count_as_their_modules():
    assert costs(Functional(), torch.zeros(1, 3, 32, 32)) == (8 * 30 * 30 * 27 + 8 * 10, 8 * 30 * 30 + 10)


def test_no_pool_counts():
    module = nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveMaxPool2d(1), nn.BatchNorm2d(3), nn.Softmax(1))
    assert costs(module, torch.zeros(1, 3, 8, 8)) == (0, 0)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_counts_as_the_convolution_of_the_same_work(rank, groups):
    there = getattr(nn, f"Conv{rank}d")(4, 6, 3, 2, padding=1, groups=groups, bias=False)
    back = getattr(nn, f"ConvTranspose{rank}d")(6, 4, 3, 2, padding=1, output_padding=1, groups=groups, bias=False)
    wide, narrow = torch.zeros(1, 4, *[8] * rank), torch.zeros(1, 6, *[4] * rank)
    assert costs(there, wide) == (6 * 4**rank * 4 // groups * 3**rank, 6 * 4**rank)
    assert costs(back, narrow) == (costs(there, wide)[0], 4 * 8**rank)


def test_a_block_of_a_language_model():
    lengths, module = torch.zeros(3, 20, dtype=torch.long), Gpt()
    linear = 20 * sum(out * (1 + 48) for out in (48, 32, 192)) + 20 * 48 * 193 + 20 * 100 * 48
    found = count(module, (lengths,), examples=3)
    assert found.flops == linear + 2 * 6 * 20 * 20 * 8
    assert found.acts == 20 * (48 + 32 + 192 + 48 + 100) + 6 * 20 * 20 + 20 * 48
    assert found.params == sum(one.numel() for one in module.parameters())


def test_attention_written_out_counts_as_the_fused_one():
    def written(q, k, v):
        return (q @ k.transpose(-2, -1)).softmax(-1) @ v

    q, k, v = torch.rand(2, 3, 5, 8), torch.rand(2, 3, 7, 8), torch.rand(2, 3, 7, 16)
    fused = Calling(nn.functional.scaled_dot_product_attention)
    assert costs(fused, q, k, v) == costs(Calling(written), q, k, v)
    assert costs(fused, q, k, v)[0] == 2 * 3 * 5 * 7 * (8 + 16)


@pytest.mark.parametrize("name", ["_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_attention_math"])
def test_a_fused_kernel_asked_for_by_name_counts_as_attention(name):
    q, k = torch.rand(2, 3, 5, 8), torch.rand(2, 3, 7, 8)
    kernel = Calling(getattr(torch.ops.aten, name))
    assert costs(kernel, q, k, k) == added(*((one.flops, one.acts) for one in attention(q.shape, k.shape, k.shape)))


RECURRENT = [
    (nn.LSTM(8, 6, 3), 4),
    (nn.GRU(8, 6, 2, bidirectional=True, bias=False), 3),
    (nn.RNN(8, 6), 1),
    (nn.RNN(8, 6, nonlinearity="relu"), 1),
    (nn.LSTM(8, 6, 2, proj_size=3, bidirectional=True, batch_first=True), 4),
]


@pytest.mark.parametrize(("module", "gates"), RECURRENT)
def test_every_recurrent_network_counts_its_products(module, gates):
    width, directions = module.proj_size or 6, 1 + module.bidirectional
    inputs = [8] + [directions * width] * (module.num_layers - 1)
    flops = sum(gates * 6 * (given + width) + 6 * module.proj_size for given in inputs)
    expected = 4 * 5 * directions * flops, 4 * 5 * directions * width * module.num_layers
    assert costs(module, torch.zeros(5, 4, 8)) == expected
    if not module.batch_first:
        assert costs(module, nn.utils.rnn.pack_padded_sequence(torch.zeros(5, 4, 8), [5, 5, 5, 5])) == expected


@pytest.mark.parametrize("cell", [nn.LSTMCell(8, 6), nn.GRUCell(8, 6), nn.RNNCell(8, 6)])
def test_a_cell_counts_as_one_step(cell):
    network = {nn.LSTMCell: nn.LSTM, nn.GRUCell: nn.GRU, nn.RNNCell: nn.RNN}[type(cell)](8, 6)
    assert costs(cell, torch.zeros(3, 8)) == costs(network, torch.zeros(1, 3, 8))


def test_sequences_of_unlike_length_count_their_own_steps():
    packed = nn.utils.rnn.pack_padded_sequence(torch.zeros(5, 2, 8), [5, 2])
    assert costs(nn.GRU(8, 6), packed) == costs(nn.GRU(8, 6), torch.zeros(7, 1, 8))


def test_a_bilinear_layer_counts_its_weights_per_output():
    assert costs(nn.Bilinear(3, 4, 5), torch.zeros(2, 3), torch.zeros(2, 4)) == (2 * 5 * (12 + 1), 10)


def test_a_deformable_convolution_counts_as_a_plain_one():
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias) -> Tensor")
    library.impl("deform_conv2d", lambda x, w, _offset, _mask, _bias: nn.functional.conv2d(x, w), "CPU")
    weight, bias, x = nn.Parameter(torch.zeros(6, 4, 3, 3)), nn.Parameter(torch.zeros(6)), torch.zeros(1, 4, 8, 8)
    for one, plain in ((bias, nn.Conv2d(4, 6, 3)), (torch.zeros(6), nn.Conv2d(4, 6, 3, bias=False))):
        found = costs(Calling(torch.ops.torchvision.deform_conv2d), x, weight, x, x, one)
        assert found == costs(plain, x)


# --- biases


def test_a_bias_written_by_hand_counts():
    x = torch.zeros(2, 5, 16)
    assert costs(Written(), x) == costs(nn.Linear(16, 24), x) == (10 * 24 * 17, 240)


def test_only_a_learned_row_added_to_a_product_is_a_bias():
    rows, module = torch.zeros(24), Written()
    sums = [
        lambda p, x: p.relu_() + module.b,
        lambda p, x: p + rows,
        lambda p, x: p + x[0, 0, :1],
        lambda p, x: p.add_(module.b) + module.b,
    ]
    for expected, add in zip((0, 0, 0, 240), sums, strict=True):
        module.forward = lambda x, add=add: add(x @ module.w, x)
        assert costs(module, torch.zeros(2, 5, 16)) == (10 * 24 * 16 + expected, 240)


class Recording(nn.Module):
    """Gradients are needed inside, so that torch takes its operators apart."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *inputs):
        with torch.inference_mode(mode=False):
            return self.inner(*[one.clone() for one in inputs])


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Linear(16, 24), (2, 5, 16)),
        (Written(), (2, 5, 16)),
        (Encoder(), (1, 64, 256)),
        (Functional(), (1, 3, 32, 32)),
    ],
)
def test_operators_that_arrive_in_parts_count_as_the_whole(module, shape):
    assert costs(Recording(module), torch.zeros(shape)) == costs(module, torch.zeros(shape))


def test_input_that_is_not_contiguous_counts_the_same():
    x = torch.zeros(5, 16, 2).transpose(1, 2)
    for module in (nn.Linear(16, 24), Recording(nn.Linear(16, 24))):
        assert costs(module, x) == (10 * 24 * 17, 240)


def test_what_is_added_to_every_element_is_no_bias():
    x, w, y = torch.rand(3, 4), torch.rand(4, 5), torch.rand(3, 5)
    assert costs(Calling(torch.addmm), y, x, w)[0] == 3 * 5 * 4
    assert costs(Calling(torch.addmm), y[0], x, w)[0] == 3 * 5 * 5
    assert costs(Calling(torch.baddbmm), y[:1, None], x[None], w[None])[0] == 3 * 5 * 4
    assert costs(Calling(lambda *given: torch.addmm(*given, beta=0)), y[0], x, w)[0] == 3 * 5 * 4


# --- however a module is brought

BROUGHT = {
    "scripted": lambda m, _: scripted(m),
    "traced": traced,
    "frozen": lambda m, _: frozen(m),
    "exported": exported,
    "compiled": lambda m, _: torch.compile(m, backend="eager"),
    "inside": lambda m, x: nn.Sequential(nn.Identity(), traced(m, x)),
}


@pytest.mark.parametrize(
    ("name", "form"),
    [(name, form) for name in ("resnet50", "regnetx_200mf") for form in ("traced", "exported")]
    + [("regnety_200mf", form) for form in BROUGHT],
)
def test_a_shallow_network_counts_the_same_in_every_form(name, form):
    module, x = trained(build(scale(get(name), "dw", 1e-3))), torch.rand(1, 3, 32, 32)
    assert astuple(count(BROUGHT[form](module, x), (x,))) == astuple(count(module, (x,)))


@pytest.mark.parametrize(
    ("module", "types", "x"),
    [
        (nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4, bias=False)), [nn.Linear], torch.rand(3, 16)),
        (LstmHead(), [nn.LSTM, nn.Linear], torch.rand(1, 50, 40)),
        (nn.Sequential(nn.GRU(8, 6, bidirectional=True)), [nn.GRU], torch.rand(5, 2, 8)),
        (nn.Sequential(nn.LSTMCell(8, 6)), [nn.LSTMCell], torch.rand(2, 8)),
    ],
)
def test_a_quantised_network_counts_as_the_float_one(module, types, x):
    found = count(quantised(module, *types), (x,))
    assert astuple(found) == astuple(count(module, (x,)))
    assert astuple(count(scripted(quantised(module, *types)), (x,))) == astuple(found)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_quantised_convolution_counts_as_the_float_one(rank):
    plain = getattr(nn, f"Conv{rank}d")(4, 6, 3, groups=2), getattr(nn, f"ConvTranspose{rank}d")(6, 4, 2, 2)
    space = torch.ao.nn.quantized
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        there, back = (
            getattr(space, f"Conv{rank}d")(4, 6, 3, groups=2),
            getattr(space, f"ConvTranspose{rank}d")(6, 4, 2, 2),
        )
        x = torch.rand(1, 4, *[6] * rank)
        narrow = torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)
    assert astuple(count(there, (narrow,))) == astuple(count(plain[0], (x,)))
    assert astuple(count(back, (there(narrow),))) == astuple(count(plain[1], (plain[0](x),)))


def test_fusing_scripts_are_said_to_be_uncounted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        optimised = torch.jit.optimize_for_inference(scripted(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())))
    found = count(optimised, (torch.rand(1, 3, 8, 8),))
    assert found.uncounted.startswith("no rule counts prim::mkldnn_convolution: flops and acts are at least")
    assert found.params == 4 * 28


def test_a_branch_counts_where_it_runs():
    one, two = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
    module = Calling(lambda x: torch.ops.higher_order.cond(x.sum() > 0, one, two, (x,)))
    assert (costs(module, torch.ones(1, 4)), costs(module, -torch.ones(1, 4))) == ((20, 4), (16, 4))


# --- what no rule knows

NO_RULE = {
    "cdist": (torch.cdist, "aten::_cdist_forward"),
    "fft": (lambda x, _: torch.fft.rfft(x), "aten::_fft_r2c"),
    "solve": (lambda x, _: torch.linalg.inv(x[:, :3]), "aten::linalg_inv_ex"),
    "sparse": (lambda x, y: torch.mm(x.to_sparse(), y), "aten::mm"),
    "custom": (lambda x, _: torch.ops.tests_counting.something(x), "tests_counting::something"),
}


@pytest.fixture(scope="module")
def something():
    library = torch.library.Library("tests_counting", "DEF")
    library.define("something(Tensor x) -> Tensor")
    library.impl("something", lambda x: x @ x.T, "CPU")
    return library


@pytest.mark.parametrize("what", NO_RULE)
def test_an_operator_without_a_rule_is_named(what, something):
    function, name = NO_RULE[what]
    found = count(Calling(lambda x: function(nn.functional.linear(x, x), x)), (torch.eye(3, 3),))
    assert found.uncounted == f"no rule counts {name}: flops and acts are at least what is given"
    assert (found.flops, found.acts) == (27, 9)


def test_names_of_operators_are_told_apart():
    named = {name.partition(".")[0] for name in torch._C._dispatch_get_all_op_names()}
    aten = {name for name in named if name.startswith("aten::") and may_multiply(name)}
    wanted = "_fft_c2c _foreach_mm _grouped_mm cholesky_solve conv_tbc linalg_svd _linalg_det _sparse_sparse_matmul qr "
    wanted += "_efficient_attention_forward _cudnn_rnn slow_conv_transpose2d _pdist_forward hspmm matrix_exp lu_solve"
    harmless = "upsample_linear1d upsample_bilinear2d native_group_norm linalg_vector_norm slice_inverse addcmul celu_ "
    harmless += (
        "_thnn_fused_lstm_cell leaky_relu_ _convert_weight_to_int4pack fft_fftfreq dist digamma detach add_ prod"
    )
    assert {f"aten::{name}" for name in wanted.split()} <= aten
    assert not {f"aten::{name}" for name in harmless.split()} & aten
    assert may_multiply("somebody::relu")


# --- what counting leaves behind


class Remembering(nn.Module):
    """Changes its input, its buffers and its attributes, and draws."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.register_buffer("steps", torch.zeros(()))
        self.seen = []

    def forward(self, x):
        self.steps += 1
        self.seen.append(1)
        self.cache = x.add_(torch.rand(()))
        return self.norm(nn.functional.dropout(self.linear(x), training=True))


def test_counting_leaves_no_trace():
    module, x = Remembering().train(), torch.zeros(2, 4)
    module.norm.eval()
    module.register_forward_hook(lambda *_: None)
    hooks, before = dict(module._forward_hooks), {k: v.clone() for k, v in module.state_dict().items()}
    drawn, fast = torch.get_rng_state(), torch.backends.mha.get_fastpath_enabled()
    assert count(module, (x,), examples=2) == Complexity(20, 28, 4)
    assert [part.training for part in module.modules()] == [True, True, False]
    assert all(torch.equal(module.state_dict()[key], value) for key, value in before.items())
    assert (module.seen, hasattr(module, "cache"), bool(x.any())) == ([], False, False)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert module._forward_hooks == hooks
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert not torch.is_inference_mode_enabled()


def test_a_module_that_cannot_be_copied_counts_and_keeps_its_mode():
    class Stubborn(nn.Linear):
        def __deepcopy__(self, memo):
            raise TypeError("no copies")

    module = Stubborn(4, 5).train()
    assert costs(module, torch.zeros(1, 4)) == (25, 5)
    assert module.training


def test_a_weight_that_is_computed_counts():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        module = nn.utils.weight_norm(nn.Linear(4, 5))
    assert costs(module, torch.zeros(1, 4)) == (25, 5)


@pytest.mark.parametrize("form", [lambda m: m, scripted])
def test_a_forward_that_fails_is_one_sentence(form):
    module = nn.Sequential(nn.Conv2d(5, 4, 1)).train()
    with pytest.raises(UserError, match=r"^could not be counted: RuntimeError: .*\w") as failed:
        count(form(module), (torch.zeros(1, 3, 8, 8),))
    assert "\n" not in str(failed.value)


def threaded(call):
    found = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]


def pooled(call):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


@pytest.mark.parametrize("through", [threaded, pooled])
def test_work_in_threads_is_said_to_be_uncounted(through):
    assert (
        "operators in threads of the model"
        in count(Calling(lambda x: through(lambda: x @ x)), (torch.zeros(4, 4),)).uncounted
    )
    assert threading.Thread.start.__name__ == "start"


def test_gradients_inside_a_forward_count_as_the_products_they_are():
    def forces(x):
        with torch.enable_grad():
            at = x.clone().requires_grad_()
            return torch.autograd.grad((at @ torch.ones(4, 2)).square().sum(), at)[0]

    found = count(Calling(forces), (torch.ones(3, 4),))
    assert (found.flops, found.acts, found.uncounted) == (2 * 3 * 4 * 2, 3 * 2 + 3 * 4, "")


def test_a_result_that_is_computed_later_counts_as_nothing_known():
    with pytest.raises(UserError, match=r"^could not be counted: the model returned a generator, which computes"):
        count(Calling(lambda x: (x @ x for _ in range(2))), (torch.zeros(4, 4),))


# --- learned numbers


def test_shared_parameters_count_once():
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    module[1].weight = module[0].weight
    module[2].weight = nn.Parameter(module[0].weight.data)
    for form in (module, scripted(module), exported(module, torch.zeros(1, 4))):
        assert count(form, (torch.zeros(1, 4),)).params == 16 + 3 * 4


def test_a_layer_that_runs_twice_counts_twice_and_is_learned_once():
    linear = nn.Linear(10, 10)
    found = count(nn.Sequential(linear, linear), (torch.zeros(2, 10),), examples=2)
    assert (found.flops, found.acts, found.layers, found.params) == (220, 20, 2, 110)


def test_running_numbers_of_a_frozen_norm_are_not_learned():
    norm = trained(nn.BatchNorm2d(5))
    norm.running_mean.normal_()
    norm.running_var.uniform_(1, 2)
    assert count(frozen(nn.Sequential(norm, nn.ReLU())), (torch.zeros(1, 5, 4, 4),)) == Complexity(0, 10, 0)


def test_an_embedding_is_learned_and_costs_nothing():
    assert count(nn.Embedding(10, 4), (torch.tensor([1, 2]),)) == Complexity(0, 40, 0)


# --- closed forms

SIZES = st.integers(1, 7)


@given(st.lists(SIZES, max_size=3), SIZES, SIZES, st.booleans())
@settings(max_examples=25, deadline=None)
def test_linear_layers_of_any_shape(leading, given_, out, biased):
    x = torch.zeros(*leading, given_, device="meta")
    rows = prod(leading)
    with torch.device("meta"):
        module = nn.Linear(given_, out, biased)
    assert costs(module, x) == (rows * out * (given_ + biased), rows * out)


@given(st.integers(1, 3), st.lists(SIZES, min_size=2, max_size=2), SIZES, st.integers(1, 3), st.booleans(), st.data())
@settings(max_examples=30, deadline=None)
def test_convolutions_of_any_shape(rank, channels, groups, kernel, biased, data):
    stride, dilation = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    sides = [data.draw(st.integers(dilation * (kernel - 1) + 1, 9)) for _ in range(rank)]
    w_in, w_out = (groups * one for one in channels)
    with torch.device("meta"):
        module = getattr(nn, f"Conv{rank}d")(w_in, w_out, kernel, stride, dilation=dilation, groups=groups, bias=biased)
        x = torch.zeros(2, w_in, *sides)
    elements = w_out * prod((side - dilation * (kernel - 1) - 1) // stride + 1 for side in sides)
    found = count(module, (x,), examples=2)
    assert (found.flops, found.acts) == (elements * (channels[0] * kernel**rank + biased), elements)


@given(st.lists(SIZES, max_size=2), SIZES, SIZES, SIZES)
@settings(max_examples=25, deadline=None)
def test_products_of_any_shape(batch, rows, inner, columns):
    a, b = torch.zeros(*batch, rows, inner, device="meta"), torch.zeros(inner, columns, device="meta")
    expected = product([*batch, rows, columns], inner)
    assert costs(Calling(torch.matmul), a, b) == (expected.flops, expected.acts)
    assert costs(Calling(lambda a, b: torch.einsum("...ij,jk->...ik", a, b)), a, b) == (expected.flops, expected.acts)
    assert costs(Calling(lambda a, b: torch.tensordot(a, b, 1)), a, b) == (expected.flops, expected.acts)


@pytest.mark.parametrize(
    ("equation", "sizes", "flops", "acts"),
    [
        ("ij,jk->ik", [(2, 3), (3, 5)], 30, 10),
        ("bhqd,bhkd->bhqk", [(2, 4, 5, 8), (2, 4, 7, 8)], 2 * 4 * 5 * 7 * 8, 2 * 4 * 5 * 7),
        ("ij, jk", [(2, 3), (3, 5)], 30, 10),
        ("i,i", [(7,), (7,)], 7, 1),
        ("...ij,...jk->...ik", [(4, 1, 2, 3), (6, 3, 5)], 24 * 30, 24 * 10),
        ("bij,jk->b", [(2, 3, 4), (4, 5)], 2 * 4, 2),
        ("i,j->ij", [(3,), (4,)], 0, 0),
        ("ij,ij->ij", [(3, 4), (3, 4)], 0, 0),
        ("ii,ij->j", [(3, 3), (3, 4)], 12, 4),
        ("ab,bc,cd->ad", [(2, 3), (3, 4), (4, 5)], 24 + 40, 8 + 10),
    ],
)
def test_sums_in_einsteins_notation(equation, sizes, flops, acts):
    given = [torch.zeros(size) for size in sizes]
    assert costs(Calling(lambda *given: torch.einsum(equation, *given)), *given) == (flops, acts)


def test_a_model_that_has_its_example_already_is_refused_as_one_that_has_not() -> None:
    fresh, warmed, example = LookingUp(table=False), LookingUp(table=False), torch.ones(1, 8)
    with torch.no_grad():
        warmed(example)
    for module in (fresh, warmed):
        with pytest.raises(KeepsError, match="a second forward of the same input does 2% of the work"):
            count(module, (example,))


def test_a_first_forward_may_set_up_what_later_ones_use_and_is_not_counted() -> None:
    module, example = LookingUp(table=True), torch.ones(1, 8)
    assert costs(module, example) == (72 + 64, 8 + 8)
    assert module.seen is None
    assert costs(Calling(lambda ids: module(ids.float())), torch.arange(8)[None]) == (72 + 64, 8 + 8)


def test_every_forward_draws_alike() -> None:
    def deep(x):
        drawn = int(torch.randint(64, ())), random.randrange(64), np.random.randint(64)  # noqa: NPY002 - as models do
        return sum(x @ x for _ in range(1 + sum(drawn)))

    drawn = random.getstate(), str(np.random.get_state())  # noqa: NPY002 - see above
    first = count(Calling(deep), (torch.ones(8, 8),))
    assert count(Calling(deep), (torch.ones(8, 8),)) == first
    assert (random.getstate(), str(np.random.get_state())) == drawn  # noqa: NPY002 - see above
