"""The identity <u, J v> = <J'u, v> that derivatives are held to before they are used."""

import pytest
import torch

from pydisent.jacobian._adjoint import adjoint_holds


def sides(seed, dtype=torch.float32, wrong=0.0):
    """Of a J, its transpose lacking a share: u, J v, J'u, v and epsilon; <u, J v> is almost 0."""
    generator = torch.Generator().manual_seed(seed)
    jacobian = torch.randn(300, 40, generator=generator, dtype=dtype)
    v = torch.randn(40, generator=generator, dtype=dtype)
    u = torch.randn(300, generator=generator, dtype=dtype)
    moved = jacobian @ v
    u -= moved * (u @ moved) / (moved @ moved)
    pulled = jacobian.T @ u
    pulled[:10] *= 1 - wrong
    return [u], [moved], [pulled], [v], torch.finfo(dtype).eps


DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(20))
def test_terms_that_cancel_are_equal_to_rounding(seed, dtype):
    assert adjoint_holds(*sides(seed, dtype))


@pytest.mark.parametrize("seed", range(20))
def test_a_share_that_is_lost_is_seen_where_terms_cancel(seed):
    assert not adjoint_holds(*sides(seed, wrong=0.04))


def test_what_does_not_move_has_no_transpose():
    u, v = torch.ones(3), torch.ones(2)
    assert adjoint_holds([u], [torch.zeros(3)], [None], [v], 1e-7)
    assert not adjoint_holds([u], [torch.zeros(3)], [torch.ones(2)], [v], 1e-7)
