"""What ``analyse`` takes as a generator, how it calls it, and how it leaves it."""

from types import SimpleNamespace

import pytest
import torch
from _squaring import SIDE, M, codes, matrix, squaring
from torch import nn

from pydisent.jacobian.explanation import analyse


class Holder:
    """An object in the manner of a diffusers autoencoder."""

    def __init__(self, decode):
        self.decode = lambda z, scale=1.0: SimpleNamespace(sample=scale * decode(z))


@pytest.mark.parametrize("wrap", [
    lambda g: Holder(g),
    lambda g: lambda z: SimpleNamespace(sample=g(z)),
    lambda g: lambda z: {"image": g(z), "index": torch.zeros(len(z), dtype=torch.long)},
    lambda g: lambda z: (g(z), None),
])  # fmt: skip
def test_outputs_in_other_forms(wrap):
    g, z = squaring(matrix()), codes(2)
    plain, found = analyse(g, z, k=3, paths=0), analyse(wrap(g), z, k=3, paths=0)
    torch.testing.assert_close(found.eigenvalues, plain.eigenvalues)
    torch.testing.assert_close(found.pictures.local, plain.pictures.local)


def test_several_outputs_add_and_keywords_are_passed():
    g, z = squaring(matrix()), codes(2)
    both = analyse(lambda z: [g(z), 2 * g(z)], z, paths=0)
    torch.testing.assert_close(both.eigenvalues, 5 * analyse(g, z, paths=0).eigenvalues)
    tripled = analyse(Holder(g), z, fn_kwargs={"scale": 3.0}, paths=0)
    torch.testing.assert_close(tripled.eigenvalues, 9 * analyse(g, z, paths=0).eigenvalues)
    chosen = analyse(Holder(g), z, decode=lambda z: 2 * g(z), paths=0)
    torch.testing.assert_close(chosen.eigenvalues, 4 * analyse(g, z, paths=0).eigenvalues)


def test_codes_are_drawn_as_the_generator_says():
    class Sized(nn.Module):
        def __init__(self, **sizes):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
            vars(self).update(sizes)

        def forward(self, z):
            return (self.weight * z).flatten(1)

    for name in ("z_dim", "latent_dim", "latent_size", "dim_z"):
        found = analyse(Sized(**{name: 4}), 6, seed=3, paths=0)
        assert found.codes.shape == (6, 4)
        assert found.codes.dtype == torch.float64
        torch.testing.assert_close(analyse(Sized(z_dim=4), 6, seed=3, paths=0).codes, found.codes)
    assert analyse(Sized(z_dim=(2, 3)), 5, paths=0).codes.shape == (5, 2, 3)
    own = SimpleNamespace(
        decode=lambda z: z, sample_code=lambda n, g: torch.rand(n, 3, generator=g)
    )
    assert analyse(own, 7, paths=0).codes.min() >= 0
    with pytest.raises(TypeError, match="z must be a tensor of codes"):
        analyse(lambda z: z, 3)


def test_random_numbers_are_the_same_for_each_image():
    g = squaring(matrix())
    noisy = lambda z: g(z) * (1 + torch.rand(len(z), 1, SIDE, SIDE, dtype=z.dtype))
    before = torch.get_rng_state()
    found = analyse(noisy, codes(2), k=2, length=1e-9, paths=0)
    assert torch.equal(torch.get_rng_state(), before)
    images = found.pictures.local[0]
    torch.testing.assert_close(images, images[:1, :1].expand_as(images))
    quiet = analyse(g, codes(2), k=2, length=1e-9, paths=0).pictures.local[0]
    assert (quiet - images).abs().max() > 0.01
    noise = images[0, 0] / quiet[0, 0]  # and for each code's Jacobian
    a = (matrix().reshape(3, SIDE, SIDE, M) * noise[..., None]).reshape(-1, M)
    values = torch.linalg.svdvals(a * codes(2)[:, None]).square()
    torch.testing.assert_close(found.eigenvalues, values, rtol=1e-5, atol=0)


def test_batch_statistics_are_refused():
    net = nn.Sequential(nn.Linear(M, 12), nn.BatchNorm1d(12)).double()
    for asked in ({"generator": net}, {"generator": object(), "decode": net.forward}):
        with pytest.raises(ValueError, match=r"in eval mode .* got a BatchNorm1d in training mode"):
            analyse(**asked, z=codes())
    assert analyse(net.eval(), codes(), paths=0).notes == []


@pytest.mark.parametrize("as_decode", [False, True])
def test_buffers_are_left_alone_and_each_call_finds_the_same(as_decode):
    class Powers(nn.Module):  # a power iteration a call, as spectral norms in training mode do
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(12, M, dtype=torch.float64))
            self.register_buffer("u", torch.randn(12, dtype=torch.float64))
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, z):
            with torch.no_grad():
                v = nn.functional.normalize(self.weight.T @ self.u, dim=0)
                self.u.copy_(nn.functional.normalize(self.weight @ v, dim=0))
                self.calls = self.calls + 1
            return z @ (self.weight / (self.u @ self.weight @ v)).T

    torch.manual_seed(0)
    net = Powers()
    u, before, (z,) = net.u, net.u.clone(), [codes(3)]
    asked = {"generator": object(), "decode": net.forward} if as_decode else {"generator": net}
    found = analyse(**asked, z=z, paths=0)
    assert net.u is u
    assert torch.equal(u, before)
    assert net.calls == 0
    jacobian = net(torch.eye(M, dtype=torch.float64)).T.detach()  # of a first call
    expected = torch.linalg.svdvals(jacobian).square().expand(3, -1)
    torch.testing.assert_close(found.eigenvalues, expected)


def test_bad_generators_are_refused():
    with pytest.raises(TypeError, match="generator must be callable, or have a method decode"):
        analyse(3, codes())
    with pytest.raises(TypeError, match="generator must return a floating-point tensor"):
        analyse(lambda z: "image", codes())
    with pytest.raises(ValueError, match="regions must be left out"):
        analyse(lambda z: z, codes(), regions={"a": (0, 0, 1, 1)})
    with pytest.raises(ValueError, match="mixes the samples"):
        analyse(lambda z: z - z.mean(0) * z, codes(), paths=0)
