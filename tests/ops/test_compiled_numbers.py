"""Compiled functions take numbers that change from call to call, as annealed weights do."""

import pytest
import torch

from pydisent import losses, ops

GENERATOR = torch.Generator().manual_seed(0)
X, Y = (torch.randn(4, 3, generator=GENERATOR) for _ in range(2))
MAP = torch.randn(2, 3, 4, 5, generator=GENERATOR)
GRAM = torch.randn(2, 3, 3, generator=GENERATOR)
CALLS = {
    "covariance_penalty": lambda w: ops.covariance_penalty(X, Y, lambda_od=w, lambda_d=2 * w),
    "dip_vae_penalty": lambda w: losses.dip_vae_penalty(X, Y, lambda_od=w, lambda_d=w, lambda_3=w),
    "activation_tangent": lambda w: ops.activation_tangent(X, Y[None], "softplus", beta=w),
    "spatial_constriction": lambda w: ops.spatial_constriction(
        MAP, MAP[:, :2].sigmoid(), GRAM[:, :2], GRAM[:, 1:], eps=w
    ),
    "masked_power_iteration": lambda w: ops.masked_power_iteration(
        GRAM, GRAM, torch.ones(3, 3), 2, w
    )[0],
    "total_correlation": lambda w: ops.total_correlation(X, Y, Y, int(100 * w)),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_number_that_changes_is_no_break_in_the_graph(name):
    torch._dynamo.reset()
    compiled = torch.compile(CALLS[name], backend="aot_eager", fullgraph=True)
    for number in (1.0, 2.0, 0.5):
        torch.testing.assert_close(compiled(number), CALLS[name](number))
    assert not torch.equal(CALLS[name](1.0), CALLS[name](0.5))
