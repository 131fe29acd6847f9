import numpy as np
import pytest
import torch

from pydisent import gaussian_kl, information_lower_bound


def test_it_is_the_log_density_plus_the_entropy():
    rng = np.random.default_rng(0)
    z, found = rng.normal(size=(2, 200, 7))
    log_q = -0.5 * (z - found) ** 2 - 0.5 * np.log(2 * np.pi)
    log_p = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    expected = (log_q - log_p).sum(1).mean()
    got = information_lower_bound(torch.from_numpy(z), torch.from_numpy(found))
    assert float(got) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("gain", [0.0, 0.3, 1.0, 4.0])
def test_the_bounds_hold_a_gaussian_channel_between_them(gain):
    """r = gain z + n: the information is d/2 log(1 + gain²), and KL(r|z) of it is above."""
    rng = np.random.default_rng(1)
    d, n = 3, 200_000
    z, noise = torch.from_numpy(rng.normal(size=(2, n, d)))
    r = gain * z + noise
    lower = float(information_lower_bound(z, r * gain / (1 + gain**2)))
    upper = float(gaussian_kl(gain * z, torch.zeros(n, d, dtype=torch.double)))
    information = d / 2 * np.log1p(gain**2)
    error = 5 * d * (1 + gain**2) / np.sqrt(n)
    assert lower == pytest.approx(d / 2 * gain**2 / (1 + gain**2), abs=error)
    assert upper == pytest.approx(d / 2 * gain**2, abs=error)
    assert lower <= information + error
    assert information <= upper + error


def test_gradients_and_half_precision():
    torch.manual_seed(0)
    z = torch.randn(6, 4, dtype=torch.double)
    found = torch.randn(6, 4, dtype=torch.double, requires_grad=True)
    (gradient,) = torch.autograd.grad(information_lower_bound(z, found), found)
    torch.testing.assert_close(gradient, (z - found.detach()) / 6)
    half = information_lower_bound(z.half(), found.detach().half())
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(float(information_lower_bound(z, found)), rel=1e-2)
    assert float(information_lower_bound(z[:0], found[:0])) == 0


def test_bad_input_is_named():
    z = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="recovered"):
        information_lower_bound(z, torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"code must have shape .*got \(3,\)"):
        information_lower_bound(z[:, 0], z[:, 0])
    with pytest.raises(TypeError, match="code"):
        information_lower_bound(z.long(), z.long())
