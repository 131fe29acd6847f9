"""The eigenpaths of ``analyse``, against ``trace_eigenpath``."""

import torch
from _squaring import SIDE, M, codes
from torch import nn

from pydisent.jacobian import trace_eigenpath
from pydisent.jacobian.explanation import analyse


def test_eigenpaths_are_algorithm_1():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(M, 30), nn.Tanh(), nn.Linear(30, 3 * 64)).double()
    g = lambda z: net(z).reshape(-1, 3, SIDE, SIDE)
    z = codes(2)
    exact = analyse(g, z, k=2, paths=2).paths
    steps = exact.codes.shape[1] - 1
    expected = trace_eigenpath(
        g, z[:1], ordinals=(1, 2), step_size=exact.step_size, steps=steps
    )  # fmt: skip
    torch.testing.assert_close(exact.codes, expected[:, 0])
    torch.testing.assert_close(exact.images, g(exact.codes[:, exact.shown].flatten(0, 1))
                               .unflatten(0, (2, -1)).float())  # fmt: skip
    near = analyse(g, z, k=2, paths=2, method="subspace", length=exact.step_size * steps / 2).paths
    assert (near.codes - exact.codes).norm(dim=-1).max() < 0.1 * exact.step_size * steps
