"""The rebuilt functions return the native functions' values, in every combination of arguments."""

import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from _exact import (
    DTYPES,
    assert_same,
    draw_real,
)
from torch import nn

from pydisent.jacobian.decompositions import DECOMPOSITIONS, DecomposedFunctions


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("affine", [(), (0,), (0, 1)])
@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_norms(dtype, affine, eps):
    x = draw_real(3, 4, 2, 6, dtype=dtype) * 2 + 1
    tail = [draw_real(2, 6, dtype=dtype, seed=1 + i) for i in affine]
    channels = dict(
        zip(["weight", "bias"], [draw_real(4, dtype=dtype, seed=1 + i) for i in affine])
    )
    assert_same(F.layer_norm, x, (2, 6), *tail, eps=eps, dtype=dtype)
    assert_same(torch.layer_norm, x, (2, 6), *tail, eps=eps, dtype=dtype)
    assert_same(F.group_norm, x, 2, **channels, eps=eps, dtype=dtype)
    assert_same(torch.group_norm, x, 2, **channels, eps=eps, dtype=dtype)
    assert_same(F.instance_norm, x, **channels, eps=eps, dtype=dtype)
    assert_same(F.rms_norm, x, (2, 6), *tail[:1], eps=eps, dtype=dtype)
    assert_same(torch.rms_norm, x, (2, 6), *tail[:1], dtype=dtype)
    assert_same(F.batch_norm, x, None, None, **channels, training=True, eps=eps, dtype=dtype)
    if dtype == torch.bfloat16:  # running statistics, and what goes with them, stay in float32
        channels = {name: t.float() for name, t in channels.items()}
    wide = torch.promote_types(dtype, torch.float32)
    statistics = draw_real(4, dtype=wide), draw_real(4, dtype=wide, seed=5).abs() + 0.5
    assert_same(F.batch_norm, x, *statistics, **channels, eps=eps, dtype=dtype)
    assert_same(F.instance_norm, x, *statistics, **channels, use_input_stats=False, dtype=dtype)


def test_torch_level_norms_take_their_own_argument_order():
    x, weight, bias = draw_real(3, 4, 5), draw_real(4, seed=1), draw_real(4, seed=2)
    mean, variance = draw_real(4, seed=3), draw_real(4, seed=4).abs() + 0.5
    assert_same(torch.batch_norm, x, weight, bias, mean, variance, False, 0.1, 1e-5, False)
    assert_same(torch.instance_norm, x, weight, bias, mean, variance, False, 0.1, 1e-5, False)
    assert_same(torch.instance_norm, x, weight, bias, None, None, True, 0.1, 1e-5, False)


MASKS = ["none", "bool", "float", "causal", "closed row", "per head"]


@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("gqa", [False, True])
def test_scaled_dot_product_attention(dtype, mask, scale, gqa):
    query = draw_real(2, 4, 5, 3, dtype=dtype)
    key, value = (draw_real(2, 2 if gqa else 4, 6, 3, dtype=dtype, seed=s) for s in (1, 2))
    keep = draw_real(5, 6, seed=3) > -0.5
    keep[:, 0] = True
    closed = keep.clone()
    closed[2] = False
    given = {
        "none": {},
        "bool": {"attn_mask": keep},
        "float": {"attn_mask": draw_real(5, 6, dtype=dtype, seed=4)},
        "causal": {"is_causal": True},
        "closed row": {"attn_mask": closed},
        "per head": {"attn_mask": draw_real(2, 4, 5, 6, dtype=dtype, seed=4)},
    }[mask]
    assert_same(F.scaled_dot_product_attention, query, key, value, **given, scale=scale,
          enable_gqa=gqa, dtype=dtype)  # fmt: skip


def test_attention_dropout_keeps_the_expectation():
    q, k, v = (draw_real(64, 2, 8, 4, seed=s) for s in range(3))
    torch.manual_seed(0)
    attention = DECOMPOSITIONS[F.scaled_dot_product_attention]
    dropped, whole = attention(q, k, v, dropout_p=0.5), attention(q, k, v)
    assert not torch.equal(dropped, whole)
    # The mean of 64 · 2 · 8 draws of each feature; its standard error is below 0.03.
    torch.testing.assert_close(dropped.mean((0, 1, 2)), whole.mean((0, 1, 2)), atol=0.1, rtol=0)


@pytest.mark.parametrize("bias_kv", [False, True])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("need", ["none", "mean", "heads"])
@pytest.mark.parametrize("batched", [False, True])
def test_multi_head_attention(bias_kv, zero, separate, need, batched):
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(
        6, 2, bias=not zero, add_bias_kv=bias_kv, add_zero_attn=zero, batch_first=True,
        kdim=5 if separate else None, vdim=7 if separate else None,
    ).double()  # fmt: skip
    nn.init.normal_(attention.in_proj_bias) if not zero else None
    query, key, value = draw_real(2, 4, 6), draw_real(2, 3, 5 if separate else 6, seed=1), None
    value = draw_real(2, 3, 7, seed=2) if separate else key
    masks = [None, draw_real(4, 3, seed=3) > 1, draw_real(4, 3, seed=3)]
    if batched:
        masks.append(draw_real(4, 4, 3, seed=4))
    paddings = [None, torch.tensor([[False, False, True], [False, True, False]])]
    if not batched:
        query, key, value = query[0], key[0], value[0]
        paddings[1] = paddings[1][0]
    for mask, padding in itertools.product(masks, paddings):
        if mask is not None and mask.dtype == torch.bool:
            mask[:, 0] = False
        if padding is not None and mask is not None and mask.dtype != torch.bool:
            padding = torch.zeros_like(padding, dtype=mask.dtype).masked_fill_(padding, -math.inf)
        options = {
            "key_padding_mask": padding,
            "attn_mask": mask,
            "need_weights": need != "none",
            "average_attn_weights": need == "mean",
        }
        expected = attention(query, key, value, **options)
        with DecomposedFunctions():
            got = attention(query, key, value, **options)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_causal_hint_of_multi_head_attention():
    torch.manual_seed(0)
    attention, x = nn.MultiheadAttention(6, 2, batch_first=True).double(), draw_real(2, 4, 6)
    mask = nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64)
    for need in (False, True):
        expected = attention(x, x, x, attn_mask=mask, is_causal=True, need_weights=need)
        with DecomposedFunctions():
            got = attention(x, x, x, attn_mask=mask, is_causal=True, need_weights=need)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("grad", [True, False])
def test_transformer_layers_leave_their_fast_paths(mode, grad):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True).double()
    stack = nn.TransformerEncoder(layer, 2)
    stack.train(mode == "train")
    x = draw_real(2, 4, 6)
    used = []
    kept = DECOMPOSITIONS[F.multi_head_attention_forward]

    def spy(*args, **kwargs):
        used.append(1)
        return kept(*args, **kwargs)

    DECOMPOSITIONS[F.multi_head_attention_forward] = spy
    try:
        with torch.set_grad_enabled(grad):
            expected = stack(x)
            with DecomposedFunctions():
                got = stack(x)
    finally:
        DECOMPOSITIONS[F.multi_head_attention_forward] = kept
    assert len(used) == 2
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("momentum", [0.3, None])
def test_running_statistics_are_written_only_when_asked(write, momentum):
    norms = nn.Sequential(
        nn.BatchNorm1d(4, momentum=momentum), nn.InstanceNorm1d(4, track_running_stats=True)
    )
    before, native = copy.deepcopy(norms), copy.deepcopy(norms)
    x = draw_real(3, 4, 5, dtype=torch.float32) * 2 + 1
    native(x)
    with DecomposedFunctions(write_statistics=write):
        norms(x)
    expected = native if write else before
    for name in ("0.running_mean", "0.running_var", "1.running_mean", "1.running_var"):
        torch.testing.assert_close(norms.get_buffer(name), expected.get_buffer(name))


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_elementwise_and_distances(dtype):
    x = draw_real(4, 6, dtype=dtype) * 3
    for dim in (0, 1, -1):
        assert_same(F.glu, x, dim, dtype=dtype)
        assert_same(torch.logcumsumexp, x * 100, dim, dtype=dtype)
    assert_same(F.hardsigmoid, x, dtype=dtype)
    assert_same(F.rrelu, x, 0.1, 0.4, dtype=dtype)
    for p in (0.0, 0.5, 1.0, 2.0, 3.0, math.inf):
        assert_same(torch.cdist, x, x[1:] + 1, p, dtype=dtype)
        assert_same(torch.pdist, x, p, dtype=dtype)
    for dim in (0, 1, 2, -1):
        v = draw_real(3, 2, 4, dtype=dtype)
        shape = [v.shape[d] if d == dim else 1 for d in range(3)]
        g = draw_real(*(shape if dim >= 0 else []), dtype=dtype, seed=1)
        assert_same(torch._weight_norm, v, g, dim, dtype=dtype)


def test_in_place_variants_write_their_argument():
    for function in (F.hardsigmoid, F.rrelu):
        x = draw_real(4, 6)
        expected = function(x)
        with DecomposedFunctions():
            assert function(x, inplace=True) is x
        torch.testing.assert_close(x, expected)


def test_random_leaky_relu_in_training_mode():
    x = draw_real(1000)
    with DecomposedFunctions():
        y = F.rrelu(x, 0.2, 0.3, training=True)
    assert torch.equal(y[x > 0], x[x > 0])
    slopes = (y / x)[x < 0]
    assert slopes.min() >= 0.2
    assert slopes.max() <= 0.3
    assert slopes.std() > 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_leaky_relu_draws_what_pytorch_draws(dtype):
    x = draw_real(1000).to(dtype)
    torch.manual_seed(3)
    expected, after = F.rrelu(x, 0.2, 0.3, training=True), torch.rand(3)
    torch.manual_seed(3)
    with DecomposedFunctions():
        torch.testing.assert_close(F.rrelu(x, 0.2, 0.3, training=True), expected)
    assert torch.equal(torch.rand(3), after)


def test_distances_between_equal_points_have_a_zero_derivative():
    x = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    with DecomposedFunctions():
        torch.cdist(x, x).sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_linear_algebra():
    a = draw_real(2, 3, 3) + 2 * torch.eye(3)
    for b, left in [
        (draw_real(2, 3, 4), True),
        (draw_real(2, 4, 3), False),
        (draw_real(2, 3), True),
    ]:
        assert_same(torch.linalg.solve, a, b, left=left)
    assert_same(torch.linalg.solve, a[0], draw_real(3))
    assert_same(torch.conv_tbc, draw_real(5, 2, 3), draw_real(2, 3, 4), draw_real(4), 1)


def test_bad_arguments_are_named():
    x = draw_real(2, 4, 3)
    with DecomposedFunctions():
        with pytest.raises(ValueError, match="normalized_shape"):
            F.layer_norm(x, (4,))
        with pytest.raises(ValueError, match="num_groups"):
            F.group_norm(x, 3)
        with pytest.raises(ValueError, match="running_mean"):
            F.batch_norm(x, None, None)
        with pytest.raises(ValueError, match="attn_mask"):
            F.scaled_dot_product_attention(x, x, x, attn_mask=x @ x.mT, is_causal=True)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_recurrent_cells(batch, bias):
    for native, gates in ((torch.lstm_cell, 4), (torch.gru_cell, 3)):
        x, h, c = draw_real(batch, 4), draw_real(batch, 5, seed=1), draw_real(batch, 5, seed=2)
        weights = draw_real(5 * gates, 4, seed=3), draw_real(5 * gates, 5, seed=4)
        biases = (draw_real(5 * gates, seed=5), draw_real(5 * gates, seed=6)) if bias else ()
        assert_same(native, x, (h, c) if gates == 4 else h, *weights, *biases)
