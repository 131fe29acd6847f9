"""What every public op says of arguments that it cannot take, and of memory in common."""

import inspect
import typing

import pytest
import torch

from pydisent import losses, ops
from pydisent.ops import activation_tangent, activation_tangent_
from pydisent.ops.registry import REGISTRY

#: The public function of each op, and a call of it that is right.
CALLS = {
    "masked_power_iteration": ((torch.eye(3)[None], torch.ones(1, 3, 2), torch.ones(3, 2), 2), {}),
    "activation_tangent": (
        (torch.ones(2, 3), torch.ones(1, 2, 3), "translated_prelu"),
        {"leak": torch.ones(3), "threshold": torch.zeros(3)},
    ),
    "spatial_constriction": (
        (torch.ones(1, 2, 3, 3), torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2), torch.ones(1, 1, 2)),
        {},
    ),
    "covariance_penalty": (
        (torch.ones(4, 2), torch.ones(4, 2)),
        {"lambda_od": 1.0, "lambda_d": 1.0},
    ),
    "perceptual_simplicity_loss": (
        (*(torch.ones(4, 2) for _ in range(4)), torch.zeros(4, dtype=torch.int64)),
        {},
    ),
    "doubling_convolution": ((torch.ones(1, 2, 3, 3), torch.ones(2, 1, 4, 4)), {}),
    "aggregate_posterior": ((*(torch.ones(4, 2) for _ in range(3)), 10), {}),
    "total_correlation": ((*(torch.ones(4, 2) for _ in range(3)), 10), {}),
}
CALLS["activation_tangent_"] = CALLS["activation_tangent"]
LOSS_CALLS = {
    "beta_tc_decomposition": CALLS["total_correlation"],
    "total_correlation": CALLS["total_correlation"],
    "dip_vae_penalty": CALLS["covariance_penalty"],
    "jacobian_supervision": (
        (*(lambda y, z: y for _ in range(2)), *(torch.ones(4, 2) for _ in range(4))),
        {
            "weight_y": 1.0,
            "weight_diff": 1.0,
            "permutation": torch.arange(4),
            "reconstruction": torch.ones(4, 2),
        },
    ),
}


def public(module=ops):
    return [name for name in module.__all__ if inspect.isfunction(getattr(module, name))]


def arguments(name, module=ops, calls=CALLS):
    """Arguments by name, of which those that the signature says are tensors, and may be None."""
    function = getattr(module, name)
    hints, signature = typing.get_type_hints(function), inspect.signature(function)
    tensors = {n: h for n, h in hints.items() if n != "return" and torch.Tensor in parts(h)}
    positional, keywords = calls.get(name, ((), {}))
    if not positional:
        keywords = {n: torch.ones(4, 2) for n in tensors}
    bound = signature.bind(*positional, **keywords)
    optional = {n for n, h in tensors.items() if type(None) in parts(h)}
    return dict(bound.arguments), set(tensors), optional


def parts(hint):
    return typing.get_args(hint) or (hint,)


@pytest.mark.parametrize("name", public())
def test_what_is_no_tensor_is_a_type_error_that_names_the_argument(name):
    given, tensors, optional = arguments(name)
    function = getattr(ops, name)
    function(**given)
    assert tensors
    for wrong in ([[1.0]], None, 1.0, "mean"):
        for argument in tensors:
            if wrong is None and argument in optional:
                continue
            with pytest.raises(
                TypeError, match=f"^{argument} must be .*, got {type(wrong).__name__}"
            ):
                function(**(given | {argument: wrong}))


def not_strided(x):
    """Yield x in each layout that holds it, and how a message names the layout."""
    yield x.to_sparse(), "torch.sparse_coo"
    if x.dim() == 2:
        yield x.to_sparse_csr(), "torch.sparse_csr"
    if x.dtype == torch.float32:
        yield x.to_mkldnn(), "torch._mkldnn"
    if x.dim() > 1:
        for layout in (torch.strided, torch.jagged):
            yield torch.nested.nested_tensor(list(x), layout=layout), "nested"


@pytest.mark.filterwarnings("ignore:.*(Sparse|nested).*:UserWarning")
@pytest.mark.parametrize(
    ("module", "name"),
    [pytest.param(m, n, id=f"{m.__name__}.{n}") for m in (ops, losses) for n in public(m)],
)
def test_what_has_no_strides_is_a_type_error_that_names_the_argument(module, name):
    given, _, _ = arguments(name, module, CALLS if module is ops else LOSS_CALLS)
    function = getattr(module, name)
    function(**given)
    tensors = {n: x for n, x in given.items() if isinstance(x, torch.Tensor)}
    assert tensors
    for argument, x in tensors.items():
        for wrong, layout in not_strided(x):
            message = rf"^{argument} must be a strided tensor, got layout {layout}$"
            with pytest.raises(TypeError, match=message):
                function(**(given | {argument: wrong}))


def test_a_count_is_one_that_an_op_can_pass_on():
    given, _, _ = arguments("aggregate_posterior")
    ops.aggregate_posterior(**(given | {"dataset_size": 2**63 - 1}))
    message = rf"^dataset_size must be below 2\*\*63, got {2**63}$"
    with pytest.raises(ValueError, match=message):
        ops.aggregate_posterior(**(given | {"dataset_size": 2**63}))


def test_every_op_is_called_by_a_public_function():
    served = {name.removesuffix("_backward") for name in REGISTRY}
    assert served <= set(public())


@pytest.mark.parametrize("argument", ["iterations", "eps"])
@pytest.mark.parametrize("wrong", ["2", None, [2]])
def test_numbers_of_power_iteration(argument, wrong):
    given, _, _ = arguments("masked_power_iteration")
    with pytest.raises(TypeError, match=f"^{argument} must be "):
        ops.masked_power_iteration(**(given | {argument: wrong}))


def layouts():
    """Views of 16 numbers as (2, 3, 2), and whether two of their elements are one."""
    memory = torch.arange(16.0)
    return {
        "contiguous": (memory[:12].view(2, 3, 2), False),
        "permuted": (memory[:12].view(2, 2, 3).permute(0, 2, 1), False),
        "with gaps": (memory.as_strided((2, 3, 2), (8, 2, 1)), False),
        "interleaved": (memory.as_strided((2, 3, 2), (1, 4, 2)), False),
        "unordered": (memory.as_strided((1, 2, 3), (1, 3, 2)).expand(1, 2, 3), False),
        "expanded": (memory[:6].view(1, 3, 2).expand(2, 3, 2), True),
        "unfolded": (memory.as_strided((2, 3, 2), (6, 1, 1)), True),
        "windows": (memory.unfold(0, 4, 2)[:6].unflatten(0, (2, 3))[..., :2].clone(), False),
        "sliding": (memory.as_strided((2, 3, 2), (3, 1, 2)), True),
    }


@pytest.mark.parametrize("layout", layouts())
@pytest.mark.parametrize("name", [n for n, op in REGISTRY.items() if op.spec.written])
@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_an_element_is_written_once(name, layout, impl):
    """Elements that share a place are refused; all others are as out of place."""
    tangents, overlaps = layouts()[layout]
    places = (torch.arange(tangents.untyped_storage().nbytes() // 4)).as_strided(
        tangents.shape, tangents.stride(), tangents.storage_offset()
    )
    assert overlaps == (places.unique().numel() < tangents.numel())
    h = torch.linspace(-1, 1, tangents[0].numel()).view(tangents.shape[1:])
    want = activation_tangent(h, tangents, "tanh", impl=impl)
    before = tangents.clone()
    if not overlaps:
        assert torch.equal(activation_tangent_(h, tangents, "tanh", impl=impl), want)
        return
    with pytest.raises(RuntimeError, match=r"^tangents: unsupported operation: more than one"):
        activation_tangent_(h, tangents, "tanh", impl=impl)
    assert torch.equal(tangents, before)


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_what_is_read_is_not_written(impl):
    memory = torch.linspace(-1, 1, 24).view(4, 3, 2)
    with pytest.raises(RuntimeError, match=r"^h: unsupported operation: it shares memory"):
        activation_tangent_(memory[1], memory, "tanh", impl=impl)
    with pytest.raises(RuntimeError, match=r"^leak: unsupported operation: it shares memory"):
        activation_tangent_(memory[0], memory[1:], "prelu", leak=memory[1, 0, :1], impl=impl)
    # One storage, and no element in common: rows, and columns that lie between each other.
    activation_tangent_(memory[0], memory[1:], "tanh", impl=impl)
    activation_tangent_(memory[0, :, :1], memory[1:, :, 1:], "tanh", impl=impl)
