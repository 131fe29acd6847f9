"""PyTorch's own gradients of ‖J q‖², measured: which are wrong, and that the rebuilt are right.

A gradient of a Jacobian penalty needs derivatives that few programs use, and some are wrong. The
routes: ``jvp`` (torch.func.jvp, then reverse), ``vmap`` (the same vectorised over q), ``double``
(double backward, then reverse), ``gram`` (the gradient of ⟨r, J'J q⟩ by double backward).
"""

import functools
import os
import warnings

import pytest
import torch
import torch.nn.functional as F
from _probe import ROUTES, Probe
from _probe_cases import CASES

from pydisent.jacobian.decompositions import (
    DECOMPOSITIONS,
    DecomposedFunctions,
    RefuseWrongDerivatives,
    batch_norm,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
MEASURED_ON = "2.13"
# All with ``make operators``: what was right is right until there is another torch.
WHOLE = os.environ.get("PYDISENT_WHOLE") == "1"
SILENT, RAISES, NAN = "silently wrong", "raises", "not a number"
_EVERY = tuple(ROUTES)
_FORWARD = ("jvp", "vmap")


def _routes(outcome, routes=_EVERY):
    return dict.fromkeys(routes, outcome)


# Relative errors measured against central differences, torch 2.13 on a CPU, are beside each.
WRONG = {
    "LayerNorm": _routes(SILENT),  # 0.31 0.31 0.31 0.055
    "LayerNorm-2": _routes(SILENT),  # 0.44 0.44 0.44 0.074
    "LayerNorm-plain": _routes(SILENT),  # 1.0 1.0 1.0 0.46
    "InstanceNorm1d": _routes(SILENT),  # 0.13 0.13 0.13 0.26
    "InstanceNorm2d": _routes(SILENT),  # 0.13 0.13 0.13 0.26
    "InstanceNorm2d-plain": _routes(SILENT),  # 0.76 0.76 0.76 0.59
    "InstanceNorm3d": _routes(SILENT),  # 0.87 0.87 0.87 0.25
    "batch_norm-training": _routes(SILENT),  # 0.20 0.20 0.20 0.037
    "weight-from-input-weight_norm": {  # - - 0.060 0.077
        **_routes(RAISES, _FORWARD),
        **_routes(SILENT, ("double", "gram")),
    },
    "linalg.det": _routes(SILENT, _FORWARD),  # 2.5 2.5 right right
    "linalg.slogdet": _routes(SILENT, _FORWARD),  # 1.0 1.0 right right
    "logdet": _routes(SILENT, _FORWARD),  # 6.9 6.9 right right
    "linalg.solve": _routes(SILENT, _FORWARD),  # 1.2 1.2 right right
    "linalg.eigh": _routes(NAN, _FORWARD),
    "logcumsumexp": {"double": NAN, "gram": SILENT},  # the product itself is wrong
    "Hardsigmoid": _routes(RAISES),
    "GLU": _routes(RAISES, _FORWARD),
    "RReLU-eval": _routes(RAISES, ("vmap",)),
    "cdist-1": _routes(RAISES),
    "cdist-2": _routes(RAISES),
    "cdist-2-mm": _routes(RAISES, _FORWARD),
    "cdist-3": _routes(RAISES),
    "pdist": _routes(RAISES),
    **{name: _routes(RAISES, _FORWARD) for name in CASES if name.startswith("grid_sample")},
    "conv_tbc": _routes(RAISES, _FORWARD),
    "sdpa-query": _routes(RAISES),
    "sdpa-self": _routes(RAISES),
    "sdpa-self-requires-8": _routes(RAISES),
    "sdpa-causal": _routes(RAISES),
    "sdpa-mask": _routes(RAISES, _FORWARD),
    "MultiheadAttention-False": _routes(RAISES),
    "TransformerEncoderLayer-False": _routes(RAISES),
    "TransformerEncoderLayer-True": _routes(RAISES),
    "TransformerEncoderLayer-eval-False": _routes(RAISES),
    "TransformerEncoderLayer-eval-True": _routes(RAISES),
    "TransformerDecoderLayer": _routes(RAISES),
    "embedding_bag": _routes(RAISES),
    "checkpoint": _routes(RAISES, _FORWARD),
}
# Wrong in a way that nobody can miss (an error, or NaN), and rare in generators; batch norm in
# training mode is rebuilt as another map, tested below.
NOT_REBUILT = {
    "linalg.eigh",
    "embedding_bag",
    "checkpoint",
    "batch_norm-training",
}

REBUILT_THOUGH_RIGHT = {
    "RMSNorm",
    "GroupNorm",
    "GroupNorm-2d",
    "GroupNorm-1",
    "BatchNorm1d-eval",
    "BatchNorm2d-eval",
    "InstanceNorm-running",
    "MultiheadAttention-True",
    "weight_norm",
    "weight_norm-conv",
}


@functools.cache
def _probe(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Probe(CASES[name])


def _outcome(probe, route):
    try:
        error = probe.error(route)
    except (RuntimeError, NotImplementedError):
        return RAISES
    if error != error:
        return NAN
    return "right" if error <= 1e-6 else SILENT


MEASURED_AGAIN = [*CASES] if WHOLE else sorted({*WRONG, *[*CASES][::4]})


@pytest.mark.skipif(
    not torch.__version__.startswith(MEASURED_ON), reason=f"measured on torch {MEASURED_ON}"
)
@pytest.mark.parametrize("name", MEASURED_AGAIN)
def test_native_derivatives_are_as_measured(name):
    found = {route: _outcome(_probe(name), route) for route in ROUTES}
    expected = {route: WRONG.get(name, {}).get(route, "right") for route in ROUTES}
    assert found == expected, (
        f"{name}: PyTorch has changed. Newly right: drop its decomposition; newly wrong: add one."
    )


def test_whatever_is_left_to_pytorch_fails_loudly():
    for name in NOT_REBUILT - {"batch_norm-training"}:
        assert SILENT not in WRONG[name].values(), name


@pytest.mark.in_turn
@pytest.mark.parametrize("name", sorted((set(WRONG) - NOT_REBUILT) | REBUILT_THOUGH_RIGHT))
@pytest.mark.parametrize("route", ROUTES)
def test_decompositions_are_right_by_every_route(name, route):
    with DecomposedFunctions():
        assert _probe(name).error(route) <= 1e-6


@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5), (2, 4, 3, 3)])
def test_batch_norm_in_training_mode_is_affine_with_the_batch_statistics(shape):
    torch.manual_seed(0)
    x, tangent = torch.randn(2, *shape, dtype=torch.float64)
    weight, bias = torch.randn(2, 4, dtype=torch.float64)
    dims = (0, *range(2, len(shape)))
    mean, variance = x.mean(dims), x.var(dims, correction=0)
    native = F.batch_norm(x, None, None, weight, bias, training=True)
    frozen = F.batch_norm(x, mean, variance, weight, bias, training=False)
    running = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    value, moved = torch.func.jvp(
        lambda x: batch_norm(x, *running, weight, bias, training=True), (x,), (tangent,)
    )
    torch.testing.assert_close(value, native, rtol=1e-12, atol=1e-12)
    gain = F.batch_norm(x + tangent, mean, variance, weight, bias, training=False) - frozen
    torch.testing.assert_close(moved, gain, rtol=1e-10, atol=1e-10)
    assert running[0].eq(0).all()
    assert running[1].eq(1).all()


def test_a_scripted_norm_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(torch.nn.LayerNorm(4).double())
        instance = torch.jit.script(torch.nn.InstanceNorm1d(4).double())
    x = torch.randn(2, 4, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="layer_norm"), RefuseWrongDerivatives():
        scripted(x)
    with pytest.raises(RuntimeError, match="instance_norm"), RefuseWrongDerivatives():
        instance(x.unsqueeze(-1) * torch.arange(3.0))


@pytest.mark.parametrize("name", sorted(set(CASES) - NOT_REBUILT))
def test_nothing_that_is_right_or_rebuilt_is_refused(name):
    operands = CASES[name].operands(0)
    with RefuseWrongDerivatives(), DecomposedFunctions():
        CASES[name].function(*operands)


def test_norms_in_modules_are_not_refused():
    x = torch.randn(2, 4, 3)
    net = torch.nn.Sequential(
        torch.nn.InstanceNorm1d(4), torch.nn.BatchNorm1d(4), torch.nn.LayerNorm(3)
    )
    with RefuseWrongDerivatives(), DecomposedFunctions():
        net(x)
    with RefuseWrongDerivatives():
        torch.nn.BatchNorm1d(4).eval()(x)


def test_every_decomposition_replaces_a_different_native_function():
    assert all(native is not ours for native, ours in DECOMPOSITIONS.items())
