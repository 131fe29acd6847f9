"""Control flow and custom functions: steps of random programs (``_program_steps``)."""

TEXT: dict[str, str] = {}

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
