"""Writes in place and reads of old values: steps of random programs (``_program_steps``)."""

TEXT: dict[str, str] = {}

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
