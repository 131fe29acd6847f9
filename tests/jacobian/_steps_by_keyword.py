"""Random draws, complex numbers, keywords: steps of random programs (``_program_steps``)."""

TEXT: dict[str, str] = {}

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
