"""Arithmetic and views: steps of random programs (``_program_steps``)."""

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
