"""What random programs (``_programs.py``) are made of: a catalogue of steps."""

from __future__ import annotations

import random
import re
import textwrap
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "BiasAct", "HalvedInPlace", "NumpySine", "SineAndCosine", "Swish", "SwishWithJvp", "built",
    "latents", "weight",
]  # fmt: skip

BATCH, SIZE = 3, 4

# A step is one line, or an indented block; "!" marks what is done once, before the function.
#   {x} {w}  real (3, 6)       {v}  any real tensor, the batch in front    {k}  real (3, 2, 3)
#   {c} {d}  complex (3, 6)    {u}  any complex tensor                     {y} {t}  new names
# W (4, 6), V (6, 6) and the complex C (6, 6) are learnable. G is a torch.Generator.

TEXT: dict[str, str] = {}

TEXT["plain"] = """
linear: {y} = {x} @ V
tanh: {y} = torch.tanh({v})
squash: {y} = torch.tanh(0.5 * {v})
sin: {y} = {v}.sin()
exp: {y} = torch.exp(0.3 * {v})
square: {y} = {v} * {v}
product: {y} = {x} * {w}
difference: {y} = 0.7 * {x} - {w}
quotient: {y} = {x} / (1.5 + {w} ** 2)
power: {y} = ({v} ** 2 + 0.5) ** 0.7
tensor_power: {y} = ({x} ** 2 + 0.5) ** torch.sigmoid({w})
scalar_base: {y} = 1.3 ** {v}
reflected: {y} = 1.0 - 0.5 / (2.0 + {v} * {v})
root: {y} = torch.sqrt(1.5 + {v} ** 2).log()
absolute: {y} = {v}.abs()
relu: {y} = F.relu({v})
leaky_relu: {y} = F.leaky_relu({v}, 0.2)
softplus: {y} = F.softplus({v})
gelu: {y} = F.gelu({v}, approximate="tanh")
silu: {y} = F.silu({v})
elu_module: {y} = nn.ELU(0.7)({v})
clamp: {y} = {v}.clamp(-0.8, 0.9)
maximum: {y} = torch.maximum({x}, 0.5 * {w})
where: {y} = torch.where({x} > 0, {x}.sin(), {x} * {w})
atan2: {y} = torch.atan2({x}, 2.0 + {w} ** 2)
hypot: {y} = torch.hypot({x}, 1.0 + {w} ** 2)
lerp: {y} = torch.lerp({x}, {w}, torch.sigmoid({w}))
softmax: {y} = torch.softmax({x}, 1)
logsumexp: {y} = {x} - torch.logsumexp({x}, 1, keepdim=True)
cumulative: {y} = {x}.cumsum(1) * 0.5 + torch.sigmoid({w}).cumprod(1)
products: {y} = {x} + ({w} * 0.7).prod(1, keepdim=True)
variance: {y} = {x} / (1.0 + {x}.var(1, keepdim=True))
normalized_twins: {y} = {x} + F.normalize({w}[:, :1].expand(3, 6), dim=1)
normalized: {y} = F.normalize({x}, dim=1)
norm: {y} = {x} / torch.linalg.vector_norm({x}, dim=1, keepdim=True)
cosine: {y} = {x} * F.cosine_similarity({x}, {w} + 1.0, dim=1)[:, None]
einsum: {y} = torch.einsum("bi,ij,bj->bj", {x}, V, {w})
batched_product: {y} = {k}.mT @ {k}
inverse: {y} = torch.linalg.inv({k}.mT @ {k} + 2 * torch.eye(3, dtype=z.dtype))
addmm: {y} = torch.addmm({x}, {w}, V, beta=0.5)
linear_function: {y} = F.linear({x}, V, V[0])
linear_module:
    ! layer = built(nn.Linear, 6, 6)
    {y} = layer({x})
bilinear: {y} = F.bilinear({x}, {w}, V * V[:, :1, None], V[1])
conv1d: {y} = F.conv1d({x}[:, None], V[None, :1, :3], padding=1)[:, 0]
conv1d_features:
    ! conv = built(nn.Conv1d, 2, 2, 2, padding=1)
    {y} = conv({k})
conv_transpose1d: {y} = F.conv_transpose1d({k}, V[:2, None, :2])
circular: {y} = F.conv1d(F.pad({x}[:, None], (1, 1), mode="circular"), V[None, :1, 1:4])[:, 0]
pools: {y} = F.max_pool1d({x}[:, None], 2)[:, 0] + F.avg_pool1d({x}[:, None], 2)[:, 0]
interpolate: {y} = F.interpolate({k}, size=4, mode="linear")
"""

TEXT["views"] = """
row: {y} = {v}.reshape(3, -1)[:, torch.arange(6) % {v}[0].numel()]
reshape: {y} = {x}.reshape(3, 2, 3)
flatten: {y} = {k}.flatten(1)
unflatten: {y} = {x}.unflatten(1, (2, 3))
view_shared: {y} = {x}.contiguous().view(3, 3, 2)
alias: {y} = {x}[:]
same: {y} = {x}.to(torch.float64).contiguous()
permute: {y} = {k}.permute(0, 2, 1)
permute_there_and_back: {y} = {k}.permute(1, 2, 0).mul(1.5).permute(2, 0, 1)
transpose: {y} = {x}.t().sin().t()
transposes: {y} = {k}.mT.movedim(1, 2).swapaxes(1, 2)
turned: {y} = ({x}.T * {w}.T).T
unfold: {y} = {x}.unfold(1, 3, 1)
unfold_sum: {y} = {x}.unfold(1, 2, 1).sin().sum(-1)
unfold_strided: {y} = {x}.unfold(1, 4, 2).flatten(1)[:, ::2]
expand: {y} = {x}[:, :1].expand(3, 6)
expand_middle: {y} = {x}[:, None].expand(-1, 2, -1)
expand_product: {y} = {x}[:, :1].expand(3, 6) * {w}
broadcast_to: {y} = torch.broadcast_to({x}[:, 2:3], (3, 6))
broadcast_tensors:
    a, b = torch.broadcast_tensors({x}[:, None, :3], {w}[:, 4:, None])
    {y} = a * b
mean_expanded: {y} = {x} - {x}.mean(1, keepdim=True).expand_as({x})
amax_expanded: {y} = {x} - {x}.amax(1, keepdim=True).expand(3, 6)
slice: {y} = {x}[:, 1:5]
slice_step: {y} = {x}[:, ::2]
slice_odd: {y} = {x}[:, 1::2] * {w}[:, ::2]
narrow: {y} = {x}.narrow(1, 1, 4)
select: {y} = {x}[:, 2]
ellipsis: {y} = {v}[..., -1:]
new_axis: {y} = {x}[:, :, None] * {w}[:, None, :2]
squeeze: {y} = {x}.unsqueeze(1).squeeze(1)
chunk: {y}, {t} = {x}.chunk(2, 1)
chunk_cat:
    a, b = {x}.chunk(2, 1)
    {y} = torch.cat([b, a * b], 1)
split_cat:
    a, b = torch.split({x}, [2, 4], 1)
    {y} = torch.cat([b, a.sin()], dim=1)
unbind_stack: {y} = torch.stack({x}.unbind(1)[::-1], 1)
unbind_loop: {y} = torch.stack([(i + 1) * t.sin() for i, t in enumerate({x}.unbind(1))], 1)
unpacked:
    a, b, *rest = {x}.unbind(1)
    {y} = torch.stack([a * b, *rest, b], 1)
samples: {y} = torch.stack([s.sin() * (i + 1) for i, s in enumerate({x})])
samples_unbound: {y} = torch.stack([a * b for a, b in zip({x}.unbind(0), {w}.unbind(0))])
samples_cat: {y} = torch.cat([{x}[i : i + 1] * (1 + i) for i in range(len({x}))])
diagonal: {y} = {k}.diagonal(dim1=1, dim2=2)
diagonal_embed: {y} = torch.diag_embed({k}.sum(2))
flip: {y} = {x}.flip(1)
flip_product: {y} = {x} * torch.flip({w}, (1,))
roll: {y} = {x}.roll(2, 1)
rot90: {y} = torch.rot90({k}, 1, (1, 2))
repeat: {y} = {x}[:, :3].repeat(1, 2)
tile: {y} = {x}[:, :2].tile(3)
repeat_interleave: {y} = {x}[:, :3].repeat_interleave(2, dim=1)
strided: {y} = {x}.contiguous().as_strided((3, 2, 3), (6, 3, 1))
strided_overlap: {y} = {x}.contiguous().as_strided((3, 5, 2), (6, 1, 1))
strided_overlap_product:
    a = {x}.contiguous().as_strided((3, 4, 3), (6, 1, 1))
    {y} = (a * a.mean(2, keepdim=True)).sum(2)
index_list: {y} = {x}[:, [0, 2, 2, 5]]
index_select: {y} = {x}.index_select(1, torch.tensor([5, 0, 0, 1, 2, 3]))
index_mask: {y} = {x}[:, torch.tensor([True, False, True, True, False, True])]
index_pairs: {y} = {k}[:, [0, 1], [2, 0]]
triangle: {y} = ({x}[:, :, None] * {w}[:, None, :])[:, :3, :3].tril()
padded: {y} = F.pad({x}[:, 1:4], (1, 2))
padded_reflect: {y} = F.pad({k}, (1, 1), mode="reflect")
cat_views: {y} = torch.cat([{x}[:, ::2], {w}[:, 1::2]], 1).reshape(3, 3, 2).mT.flatten(1)
hstack: {y} = torch.hstack(({x}[:, :2], {w}[:, 2:]))
clone: {y} = {v}.clone()
"""

TEXT["writes"] = """
mul_: {v}.mul_(0.7)
add_: {v}.add_(0.3)
sub_rows: {x}.sub_({w}, alpha=0.5)
add_itself: {x}.add_({x}.flip(1))
mul_learnable: {x}.mul_(V[0])
div_: {v}.div_(1.7)
neg_: {v}.neg_()
sin_: {v}.sin_()
sin_of_copy:
    {y} = {v}.clone()
    {y}.sin_()
tanh_: {v}.tanh_()
sigmoid_: {v}.sigmoid_()
exp_: {v}.mul_(0.3).exp_()
square_: {v}.square_()
pow_: {v}.pow_(2)
relu_: {v}.relu_()
relu_function: {y} = F.relu({v}, inplace=True)
relu_module: {y} = nn.ReLU(True)({v})
leaky_relu_: {y} = F.leaky_relu({v}, 0.2, inplace=True)
elu_: {y} = F.elu({v}, inplace=True)
silu_: {y} = F.silu({v}, inplace=True)
hardtanh_: {y} = F.hardtanh({v}, -0.8, 0.9, inplace=True)
clamp_: {v}.clamp_(min=-0.6)
iadd: {x} += {w}.roll(1, 1)
imul: {x} *= 1.0 + V[1]
isub: {v} -= 0.2
itruediv: {v} /= 1.3
ipow: {v} **= 2
addcmul_: {x}.addcmul_({w}[:, :1].cos(), V[2], value=0.5)
addmm_: {x}.addmm_({w}.cos(), V, beta=0.5)
lerp_: {x}.lerp_({w}.cos(), 0.3)
foreach_:
    {y} = {x} * 2.0
    torch._foreach_mul_([{x}, {y}], 0.5)
write_column: {x}[:, 1] = {w}[:, 2] * 0.5
write_columns: {x}[:, 1:4] = {w}[:, :3].sin()
write_step: {x}[:, ::2] = 0.3
write_from_itself: {x}[:, -1] = {x}[:, 0] + 2 * {x}[:, 1]
write_list: {x}[:, [0, 3]] = {w}[:, [1, 1]].cos()
write_mask: {x}[:, torch.arange(6) > 3] = {w}[:, :2].tanh()
write_values_mask: {x}[{x} > 0.4] = 0.4
write_values_scaled: {x}[{x} > 0.1] *= 0.5
write_ellipsis: {v}[..., 0] = 0.2
write_broadcast: {x}[:, :3] = {w}[:, :1] * 2.0
write_row_by_row:
    for i in range(3):
        {x}[i] = {w}[i].sin() + i
write_sample_column: {x}[1, 2] = {w}[1, 0].sin()
write_column_add: {x}[:, -1] += {w}[:, 0]
write_columns_mul: {x}[:, 1:4].mul_(1.5)
write_column_sin: {x}[:, 2].sin_()
write_view_of_view: {x}[:, 1:5][:, 1:3].mul_(1.5)
write_view_of_view_item: {x}[:, 1:5][:, 0] = {w}[:, 5].sin()
write_reshaped: {x}.unflatten(1, (2, 3))[:, 1].add_({w}[:, :3])
write_viewed: {x}.view_as({x}).mul_(0.6)
write_transposed: {x}.t()[2].mul_(0.5)
write_transposed_sin: {x}.transpose(0, 1)[1].sin_()
write_unfolded: {x}.unfold(1, 2, 2)[:, :, 0].mul_(0.5)
write_diagonal: {k}.diagonal(dim1=1, dim2=2).mul_(2.0)
write_selected: {x}.select(1, 0).copy_({w}[:, 4] * 2)
write_narrowed: {x}.narrow(1, 0, 2).zero_()
write_strided:
    {y} = {x}.contiguous()
    {y}.as_strided((3, 2), (6, 3), {y}.storage_offset() + 1).mul_(0.5)
write_new_axis: {x}[:, None].mul_({w}[:, None].cos())
write_unfold_view:
    {y} = {x}.unfold(1, 3, 1)
    {y}[..., 0] = 0.2
write_unfold_item:
    a = {x}.unfold(1, 3, 1)
    a[:, 1] = {w}[:, :3].sin()
    {y} = a.sum(2)
write_expanded_item:
    {y} = {x}[:, :1].expand(3, 6)
    {y}[1, 2] = {w}[1, 0].sin()
fill_: {x}[:, 3].fill_(0.5)
masked_fill_: {x}.masked_fill_({x} > 0.3, 0.3)
masked_fill_columns: {x}.masked_fill_(torch.arange(6) % 2 == 0, 0.1)
index_put_: {x}.index_put_((torch.arange(3), torch.tensor([1, 2, 0])), {w}[:, 0] * 2)
index_put_accumulate:
    places = torch.tensor([[0], [1], [2]]), torch.tensor([[1, 1, 0]])
    {x}.index_put_(places, {w}[:, :3].sin(), accumulate=True)
index_add_: {x}.index_add_(1, torch.tensor([0, 0, 3]), {w}[:, 3:].sin(), alpha=0.5)
index_copy_: {x}.index_copy_(1, torch.tensor([4, 0]), {w}[:, 1:3].sin())
index_fill_: {x}.index_fill_(1, torch.tensor([2, 5]), 0.4)
scatter_: {x}.scatter_(1, torch.tensor([[0, 2], [1, 3], [5, 4]]), {w}[:, :2].sin())
scatter_add_: {x}.scatter_add_(1, torch.tensor([[0, 0], [1, 3], [5, 4]]), {w}[:, :2].sin())
fill_diagonal_: {x}.fill_diagonal_(0.5)
copy_: {x}.copy_({w}.sin())
tril_: {k}.tril_()
cumsum_: {x}.cumsum_(1)
zeros_filled:
    {y} = torch.zeros(3, 6, dtype=z.dtype)
    {y}[:, :3] = {x}[:, 3:]
zeros_added:
    {y} = torch.zeros(3, 6, dtype=z.dtype)
    {y} += {x}
    {y}[:, 1] *= 2.0
empty_copied: {y} = torch.empty(3, 6, dtype=z.dtype).copy_({x})
empty_columns:
    {y} = torch.empty(3, 6, dtype=z.dtype)
    for i in range(6):
        {y}[:, i] = {x}[:, 5 - i] * (i + 1)
empty_samples:
    {y} = torch.empty_like({x})
    for i, sample in enumerate({x}):
        {y}[i] = sample.sin()
new_zeros_scattered: {y} = {x}.new_zeros(3, 6).scatter_(1, {x}.argsort(1), {w})
buffer_recurrence:
    {y} = torch.zeros_like({x})
    {y}[:, 0] = {x}[:, 0]
    for i in range(1, 6):
        {y}[:, i] = torch.tanh({y}[:, i - 1] + {x}[:, i])
buffer_view:
    {y} = {x}.new_zeros(3, 2, 3)
    {y}.view(3, 6)[:, 1:5] = {x}[:, :4]
buffer_half:
    {y} = torch.zeros(3, 6, dtype=z.dtype)
    left = {y}[:, :3]
    left.copy_({x}[:, :3].sin())
    {y}[:, 3:].add_(left)
kept_view:
    {y} = {x}[:, ::2]
    {x}.mul_(1.5)
kept_view_written:
    {y} = {x}[:, 1:4]
    {y}.mul_(0.5)
kept_view_of_view:
    a = {x}[:, 1:5]
    {y} = a[:, ::2]
    a.add_({w}[:, :4].sin())
kept_reshape:
    {y} = {x}.unflatten(1, (2, 3))
    {x}[:, 2] = {w}[:, 0]
    {y}[:, 1].mul_(0.5)
kept_transpose:
    {y} = {x}.unflatten(1, (2, 3)).mT
    {x}.mul_({w}.cos())
kept_expand:
    {y} = {x}[:, :1].expand(3, 6)
    {x}.mul_(0.5)
kept_unfold:
    {y} = {x}.unfold(1, 3, 1)
    {x}[:, 2:4] += 0.5 * {w}[:, :2]
kept_strided:
    a = {x}.clone(memory_format=torch.contiguous_format)
    {y} = a.as_strided((3, 5, 2), (6, 1, 1))
    a[:, 2].mul_(3.0)
kept_alias:
    {y} = {x}
    {y}.add_(1.0)
swapped:
    kept = {x}[:, 0].clone()
    {x}[:, 0] = {x}[:, 1]
    {x}[:, 1] = kept
transpose_:
    {y} = {k}.clone().transpose_(1, 2)
    {y}.mul_(2.0)
unsqueeze_: {y} = {x}.clone().unsqueeze_(1)
buffer_added:
    ! offset = torch.linspace(0.5, 1.5, 6, dtype=torch.float64)
    {y} = {x} + offset
    offset.mul_(2.0)
buffer_counts:
    ! count = torch.ones((), dtype=torch.float64)
    count.add_(1.0)
    {y} = {x} * count
buffer_copied:
    ! scales = torch.linspace(0.5, 1.5, 6, dtype=torch.float64)
    {y} = {x} * scales.clone()
    scales.add_(1.0)
"""

# Where a captured value is written afterwards, torch's own backward refuses, but J exists.
TEXT["stale"] = """
buffer_after_use:
    ! gain = torch.linspace(0.5, 1.5, 6, dtype=torch.float64)
    {y} = {x} * gain
    gain.add_(1.0)
weight_after_use:
    ! matrix = torch.eye(6, dtype=torch.float64).roll(1, 0)
    {y} = F.linear({x}, matrix)
    matrix.zero_()
operand_after_use:
    {y} = {x} * {x}.flip(1)
    {x}.add_(1.0)
result_after_use:
    {y} = {v}.tanh()
    {y}.mul_(2.0)
view_after_use:
    {y} = {x}[:, 1:3] * {w}[:, 2:4]
    {x}[:, 2].add_(1.0)
"""

TEXT["random"] = """
dropout: {y} = F.dropout({v}, 0.3)
dropout_: {y} = F.dropout({v}, p=0.3, training=True, inplace=True)
dropout_module: {y} = nn.Dropout(0.4)({v})
dropout_module_: {y} = nn.Dropout(0.4, inplace=True)({v})
dropout_torch: {y} = torch.dropout({v}, 0.3, True)
dropout_torch_: {y} = torch.dropout_({v}, 0.3, True)
dropout_twice: {y} = F.dropout(F.dropout({x}, 0.3) @ V, 0.3) * F.dropout({w}, 0.2)
alpha_dropout: {y} = F.alpha_dropout({v}, 0.3, training=True)
alpha_dropout_: {y} = F.alpha_dropout({v}, 0.3, True, True)
feature_alpha_dropout: {y} = F.feature_alpha_dropout({k}, 0.4, training=True)
dropout1d: {y} = F.dropout1d({k}, 0.4)
dropout1d_: {y} = F.dropout1d({k}, 0.4, inplace=True)
dropout2d: {y} = F.dropout2d({k}[..., None], 0.4)[..., 0]
gumbel_softmax: {y} = F.gumbel_softmax({x}, tau=2.0)
gumbel_softmax_dim: {y} = F.gumbel_softmax({k}, tau=1.5, dim=1)
gumbel_softmax_hard: {y} = F.gumbel_softmax({x}, tau=2.0, hard=True) * {w}
rrelu: {y} = F.rrelu({v}, training=True)
rrelu_: {y} = F.rrelu({v}, 0.1, 0.3, training=True, inplace=True)
rrelu_module: {y} = nn.RReLU()({v})
noise_like: {y} = {v} + 0.1 * torch.randn_like({v})
noise_scaled: {y} = {v} * torch.rand_like({v})
noise_shape: {y} = {x} * torch.randn(3, 6, dtype=z.dtype)
noise_learnable: {y} = {x} + V[3] * torch.randn(3, 1, dtype=z.dtype)
noise_normal: {y} = {x} + torch.normal(0.0, 0.3, (3, 6), dtype=z.dtype)
noise_filled: {y} = {x} * torch.empty_like({x}).uniform_(0.5, 1.5)
noise_new: {y} = {x} + 0.2 * {x}.new_empty(3, 6).normal_()
noise_added_: {v}.add_(torch.randn_like({v}), alpha=0.1)
bernoulli_mask: {y} = {x} * torch.bernoulli(torch.full((3, 6), 0.6, dtype=z.dtype))
bernoulli_of_values: {y} = {x} * torch.bernoulli(torch.sigmoid({w}))
bernoulli_filled: {y} = {x} * torch.empty_like({x}).bernoulli_(0.6)
generator_rand: {y} = {x} * torch.rand(3, 6, generator=G, dtype=z.dtype)
generator_bernoulli:
    {y} = {x} * torch.bernoulli(torch.full((3, 6), 0.6, dtype=z.dtype), generator=G)
generator_filled: {y} = {x} + {x}.new_empty(3, 6).normal_(generator=G)
generator_uniform: {y} = {x} * torch.empty_like({x}).uniform_(0.2, 1.0, generator=G)
permuted: {y} = {x}[:, torch.randperm(6)]
generator_permuted: {y} = {x}[:, torch.randperm(6, generator=G)]
random_column: {y} = {x} * {w}[:, int(torch.randint(6, ()))][:, None]
multinomial: {y} = {x}.gather(1, torch.multinomial(torch.softmax({w}, 1), 4))
style_mixing:
    cut = int(torch.randint(1, 6, (), generator=G))
    {y} = torch.cat([{x}[:, :cut], {w}[:, cut:].sin()], 1)
numpy_scale: {y} = {v} * float(np.random.uniform(0.5, 1.5))
numpy_noise: {y} = {x} + torch.from_numpy(np.random.randn(3, 6)) * 0.3
numpy_branch: {y} = {x}.sin() if np.random.rand() < 0.5 else {x} * {w}
numpy_generator:
    ! rng = np.random.default_rng(3)
    {y} = {x} * torch.from_numpy(rng.uniform(0.5, 1.5, (3, 6)))
python_scale: {y} = {v} * random.uniform(0.5, 1.5)
python_choice: {y} = random.choice([torch.sin, torch.tanh, torch.cos])({v})
python_order: {y} = {x}[:, random.sample(range(6), 6)]
stochastic_depth: {y} = {x} + {w}.tanh() / 0.5 if random.random() < 0.5 else {x} * 1.0
forked:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        {y} = {x} * torch.rand(3, 6, dtype=z.dtype)
gru_dropout:
    ! gru = built(nn.GRU, 3, 3, num_layers=2, dropout=0.4, batch_first=True)
    {y} = gru({k})[0]
lstm_dropout:
    ! lstm = built(nn.LSTM, 3, 3, num_layers=2, dropout=0.4, batch_first=True)
    {y} = lstm({k})[0]
attention_dropout: {y} = F.scaled_dot_product_attention({k}, {k}, {k}, dropout_p=0.3)
heads_dropout:
    ! heads = built(nn.MultiheadAttention, 3, 1, dropout=0.3, batch_first=True)
    {y} = heads({k}, {k}, {k})[0]
transformer_dropout:
    ! block = built(nn.TransformerEncoderLayer, 3, 1, 4, 0.3, activation=F.silu, batch_first=True)
    {y} = block({k})
normal_rsample:
    {y} = torch.distributions.Normal({x}, torch.exp(0.3 * {w}), validate_args=False).rsample()
dropout_in_vmap: {y} = torch.vmap(lambda r: F.dropout(r, 0.3), randomness="different")({x})
dropout_in_checkpoint:
    {y} = checkpoint(lambda t: F.dropout(t, 0.3) * t.sin(), {x} * 1.0, use_reentrant=False)
dropout_in_reentrant:
    {y} = checkpoint(lambda t: F.dropout(t, 0.3) * t.sin(), {x} * 1.0, use_reentrant=True)
"""

TEXT["complex"] = """
scaled: {y} = {x} * (0.6 + 0.8j)
cast: {y} = {x}.to(torch.complex128)
with_zero: {y} = {x} + 0.5j
parts: {y} = torch.complex({x}, {w}.flip(1))
imaginary: {y} = {x} + 1j * {w}.sin()
polar: {y} = torch.polar(torch.exp(0.3 * {x}), {w}.flip(1))
view_as_complex: {y} = torch.view_as_complex(torch.stack([{x}, {w}.cos()], -1))
fft: {y} = torch.fft.fft({x}) * 0.5
ifft: {y} = torch.fft.ifft({x})
rfft: {y} = torch.fft.rfft({x}) * 0.5
fft2: {y} = torch.fft.fft2({k}).flatten(1) * 0.4
weighted: {y} = {x} * C[0]
projected: {y} = {x}.to(C.dtype) @ C
irfft: {y} = torch.fft.irfft(torch.fft.rfft({x}) * C[0, :4], n=6)
spectrum: {y} = torch.fft.rfft({x}).abs()
rotated: {y} = ({x} * torch.exp(1j * {w})).imag
abs: {y} = {u}.abs()
absolute_function: {y} = torch.abs({u})
abs_square: {y} = {u}.abs().square()
real: {y} = {u}.real
imag: {y} = {u}.imag
real_function: {y} = torch.real({u}) * torch.imag({u})
angle: {y} = {u}.angle()
constant_phase: {y} = {x} * 0.5 + (1j * {w}).angle() * torch.sgn({w} * (0.6 + 0.8j)).real
view_as_real: {y} = torch.view_as_real({u})
view_as_real_stack: {y} = torch.view_as_real({u}).flatten(1)
power_spectrum: {y} = ({c} * {c}.conj()).real
conj: {y} = {u}.conj()
conj_physical: {y} = torch.conj_physical({u})
resolve_conj: {y} = {u}.conj().resolve_conj() * (0.5 + 1j)
conj_product: {y} = {c} * {d}.conj()
conj_imag: {y} = {u}.conj().imag
complex_exp: {y} = torch.exp(0.4 * {u})
complex_tanh: {y} = torch.tanh(0.4 * {u})
complex_sin: {y} = {u}.sin() * 0.3
complex_sqrt: {y} = torch.sqrt({u})
complex_log: {y} = torch.log({u} + 6.0)
complex_square: {y} = {u} ** 2
complex_power: {y} = ({u} + 4.0) ** 1.5
complex_exponent: {y} = (1.2 + 0.5j) ** {x}
complex_reciprocal: {y} = 1.0 / ({u} + (3.0 + 2.0j))
complex_division: {y} = {c} / (2.0 + {d} * {d}.conj())
complex_real_division: {y} = {c} / (1.5 + {x} ** 2)
complex_unit: {y} = torch.sgn({u})
complex_normalized: {y} = {c} / ({c}.abs() + 0.5)
complex_sum: {y} = {c} - {c}.mean(1, keepdim=True)
complex_product: {y} = ({c} * 0.6).prod(1, keepdim=True).expand(3, 6)
complex_cumsum: {y} = {c}.cumsum(1) * (0.5 - 0.5j)
complex_times_real: {y} = {c} * {x}
complex_matmul: {y} = {c} @ C
complex_linear: {y} = F.linear({c}, C, C[0])
complex_weight: {y} = {c} * C[1] + C[2]
complex_weight_conj: {y} = {c} * C[1].conj()
complex_weight_parts: {y} = {x} * C.real[0] + {w} * C[1].abs()
complex_real_weight: {y} = {c} @ V.to({c}.dtype)
complex_einsum: {y} = torch.einsum("bi,ij,bj->bi", {c}, C, {d})
complex_gram: {y} = {c}[:, :3, None] * {c}[:, None, :3].conj()
complex_adjoint:
    a = {c}.reshape(3, 2, 3)
    {y} = a.mH @ a
complex_vecdot: {y} = torch.linalg.vecdot({c}, {d})[:, None] * 0.2
complex_norm: {y} = torch.linalg.vector_norm({c}, dim=1, keepdim=True) * {x}
complex_fft: {y} = torch.fft.ifft(torch.fft.fft({c}) * C[0])
complex_fftshift: {y} = torch.fft.fftshift({c}, dim=1)
complex_irfft: {y} = torch.fft.irfft({c}, n=6)
complex_cat: {y} = torch.cat([{c}[:, :2], {d}[:, 2:] * 1j], 1)
complex_cat_real: {y} = torch.cat([{x}[:, :2], {c}[:, 2:]], 1)
complex_where: {y} = torch.where({x} > 0, {c}, {d} * 0.5)
complex_where_real: {y} = torch.where({x} > 0, {c}, {x}.to({c}.dtype))
complex_index: {y} = {c}[:, [0, 2, 2, 5, 1, 1]]
complex_roll: {y} = {c}.roll(1, 1).flip(1)
complex_negative: {y} = -{u}
complex_subtract: {y} = 1.0 - {u}
complex_addcmul: {y} = torch.addcmul({c}, {d}, C[0], value=0.5)
complex_clone: {y} = {u}.clone()
complex_mul_: {u}.mul_(0.6 + 0.3j)
complex_add_: {c}.add_({d}, alpha=0.5)
complex_mul_tensor_: {c}.mul_(C[0])
complex_sin_: {u}.mul_(0.5).sin_()
complex_write: {c}[:, 1] = {x}[:, 0].sin()
complex_write_complex: {c}[:, 1:3] = {d}[:, 3:5] * 1j
complex_write_real: {c}.real.mul_(0.5)
complex_write_imag: {c}.imag[:, 1] = {x}[:, 2]
complex_set_real: {c}.real = {x}.sin()
complex_write_as_real: torch.view_as_real({c})[..., 1].mul_(0.5)
complex_kept_real:
    {y} = {c}.real
    {c}.mul_(1j)
complex_buffer:
    {y} = torch.zeros(3, 6, dtype=torch.complex128)
    {y}[:, :3] = {c}[:, 3:]
    {y}[:, 3] = {x}[:, 0]
"""

TEXT["keywords"] = """
kw_tanh: {y} = torch.tanh(input={v})
kw_sigmoid: {y} = torch.sigmoid(input={v})
kw_x: {y} = torch.tanh(x={v})
kw_relu: {y} = F.relu(input={v})
kw_relu_: {y} = F.relu(input={v}, inplace=True)
kw_leaky_relu: {y} = F.leaky_relu(input={v}, negative_slope=0.3)
kw_gelu: {y} = F.gelu(input={v}, approximate="none")
kw_softplus: {y} = F.softplus(input={v}, beta=2.0)
kw_silu: {y} = F.silu(input={v})
kw_add: {y} = torch.add(input={x}, other={w}, alpha=0.5)
kw_add_numpy: {y} = torch.add(x1={x}, x2={w})
kw_sub: {y} = torch.sub(input={x}, other={w}, alpha=0.5)
kw_rsub: {y} = torch.rsub(input={x}, other={w} * {w})
kw_mul: {y} = torch.mul(input={x}, other={w})
kw_mul_constant: {y} = torch.mul(input=V[0], other={x})
kw_div: {y} = torch.div(input={x}, other=2.0 + {w} * {w}, rounding_mode=None)
kw_pow: {y} = torch.pow(input={v}, exponent=2)
kw_pow_base: {y} = torch.pow(self=1.3, exponent={v})
kw_method_add: {y} = {x}.add(other={w}, alpha=2)
kw_method_mul_: {x}.mul_(other={w}.cos())
kw_clamp: {y} = torch.clamp(input={v}, min=-0.7, max=0.8)
kw_clamp_: {v}.clamp_(max=0.7)
kw_where: {y} = torch.where(condition={x} > 0, input={x}, other={w} * 0.5)
kw_lerp: {y} = torch.lerp(input={x}, end={w}.sin(), weight=0.3)
kw_addcmul: {y} = torch.addcmul(input={x}, tensor1={w}, tensor2={x}, value=0.5)
kw_maximum: {y} = torch.maximum(input={x}, other=0.5 * {w})
kw_softmax: {y} = torch.softmax(input={x}, dim=1)
kw_softmax_function: {y} = F.softmax(input={x}, dim=-1)
kw_log_softmax: {y} = F.log_softmax(input={x}, dim=1)
kw_logsumexp: {y} = {x} * torch.logsumexp(input={x}, dim=1, keepdim=True)
kw_sum_axis: {y} = {x} * torch.sum({x}, axis=1)[:, None]
kw_sum_keepdims: {y} = {x} * torch.sum(a={x}, axis=1, keepdims=True)
kw_sum_method: {y} = {x} * {x}.sum(axis=1, keepdim=True)
kw_mean: {y} = {x} - torch.mean(input={x}, dim=1, keepdim=True)
kw_mean_axis: {y} = {x} - {x}.mean(axis=-1, keepdim=True)
kw_var: {y} = {x} * torch.var(input={x}, dim=1, correction=0, keepdim=True)
kw_std_axis: {y} = {x} * torch.std({x}, axis=1, keepdim=True)
kw_amax: {y} = {x} - torch.amax(input={x}, dim=1, keepdim=True)
kw_max: {y} = {x} - torch.max(input={x}, dim=1, keepdim=True).values
kw_norm: {y} = {x} / torch.norm(input={x}, p=2, dim=1, keepdim=True)
kw_vector_norm: {y} = {x} / torch.linalg.vector_norm(x={x}, ord=2, dim=1, keepdim=True)
kw_normalize: {y} = F.normalize(input={x}, p=2.0, dim=1)
kw_cumsum: {y} = torch.cumsum(input={x}, dim=1)
kw_cat: {y} = torch.cat(tensors=[{x}[:, :2], {w}[:, 2:]], dim=1)
kw_cat_axis: {y} = torch.cat(tensors=({x}[:, :2], {w}[:, 2:]), axis=1)
kw_concatenate: {y} = torch.concatenate([{x}[:, :2], {w}[:, 2:]], axis=1)
kw_stack: {y} = torch.stack(tensors=[{x}, {w}], dim=1)
kw_linear: {y} = F.linear(input={x}, weight=V, bias=V[1])
kw_matmul: {y} = torch.matmul(input={x}, other=V)
kw_mm: {y} = torch.mm(input={x}, mat2=V)
kw_addmm: {y} = torch.addmm(input={x}, mat1={w}, mat2=V, beta=0.5, alpha=0.7)
kw_bmm: {y} = torch.bmm(input={k}.mT, mat2={k})
kw_baddbmm: {y} = torch.baddbmm(input={k}, batch1={k} @ {k}.mT, batch2={k}, alpha=0.3)
kw_bilinear: {y} = F.bilinear(input1={x}, input2={w}, weight=V * V[:, :1, None])
kw_conv1d: {y} = F.conv1d(input={k}, weight=V[:4, :4].reshape(4, 2, 2), bias=V[0, :4])
kw_transpose: {y} = torch.transpose(input={k}, dim0=1, dim1=2)
kw_permute: {y} = torch.permute(input={k}, dims=(0, 2, 1))
kw_permute_method: {y} = {k}.permute(dims=(0, 2, 1))
kw_reshape: {y} = torch.reshape(input={x}, shape=(3, 2, 3))
kw_reshape_method: {y} = {x}.reshape(shape=(3, 3, 2))
kw_view: {y} = {x}.contiguous().view(size=(3, 2, 3))
kw_expand: {y} = {x}[:, :1].expand(size=(3, 6)) * {w}
kw_flatten: {y} = torch.flatten(input={k}, start_dim=1)
kw_unsqueeze: {y} = torch.unsqueeze(input={x}, dim=1)
kw_squeeze: {y} = torch.squeeze(input={x}[:, None], dim=1)
kw_narrow: {y} = torch.narrow(input={x}, dim=1, start=1, length=3)
kw_select: {y} = {x} * torch.select(input={x}, dim=1, index=2)[:, None]
kw_index_select: {y} = torch.index_select(input={x}, dim=1, index=torch.tensor([0, 2, 2]))
kw_gather: {y} = torch.gather(input={x}, dim=1, index={x}.argsort(1))
kw_scatter: {y} = torch.scatter(input={x}, dim=1, index={x}.argsort(1), src={w})
kw_flip: {y} = torch.flip(input={x}, dims=(1,))
kw_roll: {y} = torch.roll(input={x}, shifts=1, dims=1)
kw_chunk: {y} = torch.mul(*torch.chunk(input={x}, chunks=2, dim=1))
kw_split: {y} = torch.mul(*torch.split(tensor={x}, split_size_or_sections=3, dim=1))
kw_unbind: {y} = torch.stack(torch.unbind(input={x}, dim=1)[::-1], dim=1)
kw_sort: {y} = torch.sort(input={x}, dim=1, descending=True).values
kw_topk: {y} = torch.topk(input={x}, k=3, dim=1).values
kw_layer_norm: {y} = F.layer_norm(input={x}, normalized_shape=(6,), weight=V[0], bias=V[1])
kw_group_norm: {y} = F.group_norm(input={x}, num_groups=2, weight=V[0])
kw_dropout: {y} = F.dropout(input={v}, p=0.3, training=True)
kw_dropout_: {y} = F.dropout(input={v}, p=0.3, inplace=True)
kw_torch_dropout: {y} = torch.dropout(input={v}, p=0.3, train=True)
kw_gumbel_softmax: {y} = F.gumbel_softmax(logits={x}, tau=2.0, dim=1)
kw_attention: {y} = F.scaled_dot_product_attention(query={k}, key={k}, value={k}.sin())
kw_pad: {y} = F.pad(input={x}[:, :4], pad=(1, 1), mode="constant", value=0.5)
kw_interpolate: {y} = F.interpolate(input={k}, scale_factor=2, mode="nearest")
kw_masked_fill: {y} = torch.masked_fill(input={x}, mask={x} > 0.3, value=0.3)
kw_complex: {y} = torch.complex(real={x}, imag={w}.flip(1))
kw_polar: {y} = torch.polar(abs=torch.exp(0.3 * {x}), angle={w}.flip(1))
kw_abs: {y} = torch.abs(input={u})
kw_fft: {y} = torch.fft.rfft(input={x}, dim=1) * 0.5
kw_view_as_real: {y} = torch.view_as_real(input={u})
"""

TEXT["control"] = """
branch: {y} = {x}.sin() if {x}.detach().mean() > 0 else {x} * {w}
branch_item: {y} = {x} * (2.0 if float({x}.detach()[0, 0]) > 0 else 0.5)
branch_traced: {y} = {x}.sin() if {x}[0, 1] > {x}[0, 2] else {x}.cos()
loop:
    {y} = {x}
    for i in range(3):
        {y} = torch.tanh({y} @ V + i * {x})
while_loop:
    {y} = {v} * 1.0
    while {y}.detach().abs().max() > 1.0:
        {y} = {y} * 0.6
recursion:
    def halved(t):
        return t.sin() if t.shape[1] < 2 else torch.cat([halved(s) * t for s in t.chunk(2, 1)], 1)
    {y} = halved({x}[:, :2])
column_of_values: {y} = {x} * {w}[:, max(range(6), key=lambda i: float({x}[0, i]))][:, None]
constant_of_values: {y} = {x} * float({x}.detach().abs().max())
stopped: {y} = {x} * {w}.detach()
stopped_norm:
    with torch.no_grad():
        scale = {x}.detach().std(1, keepdim=True).detach()
    {y} = {x} / (0.5 + scale)
stopped_difference: {y} = {x} + ({w} - {w}.detach()).sin()
topk: {y} = {x}.topk(3, 1).values
topk_indices: {y} = {w}.gather(1, {x}.topk(3, 1).indices)
sort: {y} = {x}.sort(1)[0]
sort_pair:
    values, order = torch.sort({x}, 1)
    {y} = values * {w}.gather(1, order)
argsort: {y} = torch.take_along_dim({w}, {x}.argsort(1), 1)
argmax: {y} = {w}.gather(1, {x}.argmax(1, keepdim=True)) * {x}
kthvalue: {y} = {x} * {x}.kthvalue(2, 1, keepdim=True)[0]
median: {y} = {x} - {x}[:, :5].median(1, keepdim=True).values
max_pair:
    values, places = {x}.max(1, keepdim=True)
    {y} = {x} - values * places
cummax: {y} = {x}.cummax(1).values
aminmax: {y} = {x} / (1.0 + torch.aminmax({x}, dim=1, keepdim=True).max ** 2)
table:
    bins = torch.bucketize({x}.detach(), torch.linspace(-1, 1, 5, dtype=z.dtype))
    {y} = {x} * F.embedding(bins, V)[..., 0]
one_hot: {y} = {x} * F.one_hot({x}.argmax(1), 6) + {w}
masked: {y} = {x} * ({w} > 0)
sign: {y} = {x} * {w}.sign()
rounded: {y} = {x} - {x}.round()
heaviside: {y} = {x}.masked_fill({w} < 0, 0.0) + {x} * ({w} > 0.2).to(z.dtype)
nonzero: {y} = {x}[:, ({w}[0] > 0).nonzero()[:, 0]].sum(1, keepdim=True) * {x}
"""

TEXT["functions"] = """
swish: {y} = Swish.apply({v})
swish_beside: {y} = Swish.apply({v}) + torch.tanh({v})
swish_of_product: {y} = Swish.apply({x} * {w}) * {x}
swish_written:
    {y} = Swish.apply({x})
    {y}[:, 1:3] = {w}[:, :2]
swish_of_written_view:
    a = {x}.unflatten(1, (2, 3))
    {x}.mul_(0.5)
    {y} = Swish.apply(a)
swish_of_written_base:
    {y} = torch.einsum("bi,ij->bj", {x}, V)
    {y}[:, 1:4].mul_(0.5)
    {t} = Swish.apply({y})
swish_with_jvp: {y} = SwishWithJvp.apply({v})
swish_with_jvp_beside: {y} = SwishWithJvp.apply({x}) * {w}
swish_twice:
    a = Swish.apply({x})
    {y} = a * a.flip(1)
bias_act: {y} = BiasAct.apply({x}, V[0], 0.2, 1.4)
bias_act_beside: {y} = BiasAct.apply({x}, V[0], 0.2, 1.4) + {x} @ V
sine_and_cosine: {y}, {t} = SineAndCosine.apply({v})
numpy_sine: {y} = NumpySine.apply({v})
numpy_sine_beside: {y} = NumpySine.apply({v}) * {v}
in_place_function:
    {y} = {x} * 1.0
    HalvedInPlace.apply({y})
nested_swish: {y} = Swish.apply(Swish.apply({x}) @ V)
jvp: {y} = torch.func.jvp(torch.sin, ({x},), ({w},))[1]
jvp_closure: {y} = torch.func.jvp(lambda t: t.sin() * {w}, ({x},), (torch.ones_like({x}),))[1]
vjp: {y} = torch.func.vjp(torch.tanh, {x})[1]({w})[0]
vmap: {y} = torch.vmap(lambda r: r.sin() * r.flip(0))({x})
vmap_weights: {y} = torch.vmap(lambda r: V @ r)({x})
vmap_pair: {y} = torch.vmap(torch.dot)({x}, {w})
vmap_scaled: {y} = torch.vmap(torch.dot)({x}, {w})[:, None] * 0.2 * {x}
func_grad: {y} = torch.vmap(torch.func.grad(lambda r: r.sin().sum() * r[0]))({x})
func_jacrev: {y} = torch.vmap(torch.func.jacrev(lambda r: r[:3].sin() * r[3:]))({x})[:, :, 0]
func_hessian: {y} = torch.vmap(torch.func.hessian(lambda r: (r[:3] ** 3).sum()))({x})[:, 0]
inner_gradient:
    energy = torch.sin({x}).mul({w}).sum()
    {y} = torch.autograd.grad(energy, {x}, create_graph=True)[0]
inner_gradient_step:
    energy = ({x} @ V).tanh().sum()
    {y} = {x} - 0.3 * torch.autograd.grad(energy, {x}, create_graph=True)[0]
inner_gradient_leaf:
    start = torch.ones(3, 6, dtype=z.dtype, requires_grad=True)
    {y} = torch.autograd.grad((start * {x}).sin().sum(), start, create_graph=True)[0]
dual_numbers:
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual({x}, {w})
        {y} = torch.autograd.forward_ad.unpack_dual(dual.sin()).tangent
# A checkpoint computes again: what it reads must not be written later, so it gets copies.
checkpoint: {y} = checkpoint(lambda t: t.tanh() * t, {x} * 1.0, use_reentrant=False)
checkpoint_closure:
    other = {w} * 1.0
    {y} = checkpoint(lambda t: t.tanh() * other @ V, {x} * 1.0, use_reentrant=False)
checkpoint_module:
    ! part = nn.Sequential(built(nn.Linear, 6, 6), nn.SiLU(), built(nn.Linear, 6, 6))
    {y} = checkpoint(part, {x} * 1.0, use_reentrant=False) + {x}
checkpoint_reentrant: {y} = checkpoint(lambda t: t.tanh() * t, {x} * 1.0, use_reentrant=True)
checkpoint_reentrant_beside:
    {y} = checkpoint(lambda t: t.tanh() @ V, {x} * 1.0, use_reentrant=True) + {x}
backward_hook:
    ! hooked = built(nn.Linear, 6, 6)
    ! hooked.register_full_backward_hook(lambda module, grad_input, grad_output: None)
    {y} = hooked({x})
backward_hook_beside:
    ! watched = built(nn.Linear, 6, 6)
    ! watched.register_full_backward_hook(lambda module, grad_input, grad_output: None)
    {y} = watched({x}) * {x}
backward_pre_hook:
    ! early = built(nn.Linear, 6, 6)
    ! early.register_full_backward_pre_hook(lambda module, grad_output: None)
    {y} = early({x})
forward_hooks:
    ! changed = built(nn.Linear, 6, 6)
    ! changed.register_forward_pre_hook(lambda module, inputs: (inputs[0].sin(),))
    ! changed.register_forward_hook(lambda module, inputs, output: output * inputs[0])
    {y} = changed({x})
tensor_hook:
    {y} = {x} * {w}
    {y}.register_hook(lambda gradient: gradient * 1.0)
functional_call:
    ! called = built(nn.Linear, 6, 6)
    {y} = torch.func.functional_call(called, dict(weight=V), ({x},))
weight_norm:
    ! normed = nn.utils.parametrizations.weight_norm(built(nn.Linear, 6, 6))
    {y} = normed({x})
layer_norm:
    ! norm = built(nn.LayerNorm, 6)
    {y} = norm({x})
layer_norm_plain: {y} = F.layer_norm({x}, (6,)) * {w}
rms_norm: {y} = F.rms_norm({x}, (6,), V[0], 1e-5)
group_norm: {y} = F.group_norm({x}, 2, V[0], V[1])
instance_norm: {y} = F.instance_norm({k})
instance_norm_module:
    ! instances = built(nn.InstanceNorm1d, 2, affine=True)
    {y} = instances({k})
batch_norm:
    ! batches = built(nn.BatchNorm1d, 6)
    {y} = batches({x})
batch_norm_cube:
    ! channels = built(nn.BatchNorm1d, 2)
    {y} = channels({k}).tanh()
batch_norm_eval:
    ! settled = built(nn.BatchNorm1d, 6).eval()
    {y} = settled({x})
local_response_norm: {y} = F.local_response_norm({k}, 2)
attention: {y} = F.scaled_dot_product_attention({k}, {k}.sin(), {k})
attention_causal: {y} = F.scaled_dot_product_attention({k}, {k}, {k}, is_causal=True)
attention_mask: {y} = F.scaled_dot_product_attention({k}, {k}, {k}, attn_mask=V[:2, :2])
heads:
    ! attend = built(nn.MultiheadAttention, 3, 1, batch_first=True)
    {y} = attend({k}, {k}, {k})[0]
heads_eval:
    ! quiet = built(nn.MultiheadAttention, 3, 1, batch_first=True).eval()
    {y} = quiet({k}, {k}, {k}, need_weights=False)[0]
gru:
    ! memory = built(nn.GRU, 3, 3, batch_first=True)
    {y} = memory({k})[0]
lstm_cell:
    ! cell = built(nn.LSTMCell, 6, 6)
    {y} = cell({x}, cell({w}))[0]
"""


# -- what the steps are made of --------------------------------------------------------------------


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return gradient * s * (1 + x * (1 - s))


class SwishWithJvp(torch.autograd.Function):
    """In the style that ``torch.func`` asks for, with a derivative in forward mode."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x * torch.sigmoid(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * SwishWithJvp._slope(*ctx.saved_tensors)

    @staticmethod
    def jvp(ctx, tangent):
        return tangent * SwishWithJvp._slope(*ctx.saved_tensors)

    @staticmethod
    def _slope(x):
        s = torch.sigmoid(x)
        return s * (1 + x * (1 - s))


class BiasAct(torch.autograd.Function):
    """StyleGAN2's fused bias and leaky ReLU, whose backward is a second function."""

    @staticmethod
    def forward(ctx, x, bias, slope, scale):
        output = F.leaky_relu(x + bias, slope) * scale
        ctx.save_for_backward(output)
        ctx.options = slope, scale
        return output

    @staticmethod
    def backward(ctx, gradient):
        moved = BiasActBackward.apply(gradient, *ctx.saved_tensors, *ctx.options)
        return *moved, None, None


class BiasActBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gradient, output, slope, scale):
        gate = torch.full_like(output, scale).where(output > 0, slope * scale)
        ctx.save_for_backward(gate)
        moved = gradient * gate
        return moved, moved.sum(0)

    @staticmethod
    def backward(ctx, of_input, of_bias):
        (gate,) = ctx.saved_tensors
        return (of_input + of_bias) * gate, None, None, None


class SineAndCosine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin(), x.cos()

    @staticmethod
    def backward(ctx, of_sine, of_cosine):
        (x,) = ctx.saved_tensors
        return of_sine * x.cos() - of_cosine * x.sin()


class NumpySine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.from_numpy(np.sin(x.numpy(force=True)))

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0].cos()


class HalvedInPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(0.5)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 0.5


def _drawn(shape, seed, dtype=torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def latents(seed: int) -> Tensor:
    return _drawn((BATCH, SIZE), 100 + seed)


def weight(*shape: int, seed: int, dtype=torch.float64) -> Tensor:
    """A learnable matrix that about keeps its input's size."""
    return (_drawn(shape, 200 + seed, dtype) / shape[0] ** 0.5).requires_grad_()


def built(kind, *args, **options) -> nn.Module:
    """A module in training mode, none of its parameters at 0 or 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(300)
        module = kind(*args, **options).double()
        for parameter in module.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    return module


@contextmanager
def random_states_kept():
    """Whatever is drawn inside, the global generators are afterwards as they were."""
    numpy, python = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        np.random.set_state(numpy)  # noqa: NPY002
        random.setstate(python)


def restart(names: dict) -> None:
    """Seed every generator that the program may draw from."""
    torch.default_generator.manual_seed(5)  # torch.manual_seed takes longer than most programs
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    for value in names.values():
        if isinstance(value, torch.Generator):
            value.manual_seed(5)
        if isinstance(value, np.random.Generator):
            value.bit_generator.state = np.random.default_rng(5).bit_generator.state


@dataclass(frozen=True)
class Step:
    """An entry of the catalogue."""

    name: str
    theme: str
    setup: tuple[str, ...]
    body: tuple[str, ...]

    @property
    def writes(self) -> bool:
        return self.theme in ("writes", "stale") or self.name.endswith("_")


def _parsed() -> dict[str, Step]:
    steps: dict[str, Step] = {}
    for theme, text in TEXT.items():
        for entry in re.split(r"\n(?=\S)", text.strip()):
            if entry.startswith("#"):
                continue
            name, _, code = entry.partition(":")
            lines = textwrap.dedent(code).strip().splitlines()
            assert name not in steps, name
            steps[name] = Step(
                name,
                theme,
                tuple(line[2:] for line in lines if line.startswith("! ")),
                tuple(line for line in lines if not line.startswith("! ")),
            )
    return steps


CATALOGUE = _parsed()
