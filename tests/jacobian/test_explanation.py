"""What ``analyse`` finds, against dense linear algebra in float64 on generators with a known J."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pydisent.jacobian import trace_eigenpath
from pydisent.jacobian.explanation import _budget, analyse
from pydisent.jacobian.linearization import Linearization

M, SIDE = 10, 8


def matrix(m=M, rows=3 * SIDE * SIDE, decay=0.8, seed=0):
    random = torch.Generator().manual_seed(seed)
    whole = torch.randn(rows, m, generator=random, dtype=torch.float64)
    left, _, right = torch.linalg.svd(whole, full_matrices=False)
    return left * decay ** torch.arange(m, dtype=torch.float64) @ right


def squaring(a):
    """G(z) = A (z ∘ z) / 2 as images: J = A diag(z), another at each code."""
    return lambda z: (z.flatten(1).square() @ a.T / 2).reshape(-1, 3, SIDE, SIDE)


def codes(count=5, *shape, seed=1):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, *(shape or (M,)), generator=random, dtype=torch.float64)


def aligned(found, expected, atol=1e-8):
    """Whether unit vectors, flattened to rows, are the columns expected, but for their signs."""
    inner = (found.flatten(-found.dim() + 1 + expected.dim() - 2).double() * expected.mT).sum(-1)
    return torch.allclose(inner.abs(), torch.ones_like(inner), atol=atol)


@pytest.mark.parametrize("method", ["exact", "subspace"])
def test_directions_are_those_of_dense_jacobians(method):
    a, z = matrix(40), codes(3, 40)
    found = analyse(squaring(a), z, k=4, method=method, tolerance=1e-9, paths=0)
    jacobians = a * z[:, None]
    _, sizes, right = torch.linalg.svd(jacobians, full_matrices=False)
    assert found.method == method
    torch.testing.assert_close(found.eigenvalues[:, :4], sizes[:, :4].square())
    assert found.eigenvalues.shape == (3, 40 if method == "exact" else 4)
    assert aligned(found.eigenvectors, right[:, :4].mT)
    assert found.residuals.max() < 1e-8
    traces = jacobians.square().sum((1, 2))
    assert ((found.traces - traces).abs() <= 6 * found.trace_errors + 1e-9 * traces).all()
    heatmap = right.square().mean(0).T[:, : found.heatmap.shape[1]]
    torch.testing.assert_close(found.heatmap, heatmap, atol=1e-7, rtol=0)

    stacked = torch.cat(list(jacobians))
    _, sizes, right = torch.linalg.svd(stacked, full_matrices=False)
    torch.testing.assert_close(found.average.values, sizes[:4].square() / 3)
    assert aligned(found.average.vectors, right[:4].T)
    shares = sizes[:4].square() / sizes.square().sum()
    torch.testing.assert_close(found.average.shares, shares, rtol=1e-2, atol=0)

    leading = torch.linalg.svd(jacobians).Vh[:, :4]
    _, sizes, right = torch.linalg.svd(leading.flatten(0, 1), full_matrices=False)
    torch.testing.assert_close(found.common.values, sizes[:4].square() / 3, atol=1e-7, rtol=0)
    assert aligned(found.common.vectors, right[:4].T, atol=1e-6)


def test_fewer_products_leave_a_residual_that_bounds_the_error():
    a, z = matrix(180, decay=0.97), codes(1, 180)
    found = analyse(squaring(a), z, k=4, method="subspace", tolerance=0.2, paths=0)
    expected = torch.linalg.svdvals(a * z)[:4].square()
    assert 4 <= found.products < 64
    assert 1e-6 < found.residuals.max() <= 0.2
    assert ((found.eigenvalues[0] - expected).abs() <= found.residuals[0] * expected * 1.001).all()


@pytest.mark.parametrize("rank", [1, 3, None])
def test_degenerate_and_multiple_eigenvalues(rank):
    """Of rank below k, and of a multiple of the identity, whose Krylov spaces are exhausted."""
    a = torch.eye(3 * SIDE * SIDE, 100, dtype=torch.float64)[:, torch.randperm(100)] * 2
    if rank is not None:
        a[:, rank:] = 0
    found = analyse(lambda z: z @ a.T, codes(2, 100), k=6, method="subspace", paths=0)
    expected = torch.tensor([4.0 if rank is None or i < rank else 0.0 for i in range(6)])
    torch.testing.assert_close(found.eigenvalues, expected.double().expand(2, -1))
    gram = found.eigenvectors @ found.eigenvectors.mT
    torch.testing.assert_close(gram, torch.eye(6).double().expand(2, -1, -1))
    assert found.pictures is None  # vectors are no images


def test_an_automatic_method_is_exact_only_where_that_is_cheap():
    small = analyse(squaring(matrix()), codes(), k=2, paths=0)
    large = analyse(
        lambda z: (z * z)[:, :12], codes(1, 2049), k=2, paths=0, time_limit=None, tolerance=0.5
    )
    assert (small.method, large.method) == ("exact", "subspace")


@pytest.mark.parametrize("shape", [(M, 1, 1), (2, 5)])
def test_any_shape_of_codes(shape):
    a, z = matrix(), codes(3, *shape)
    found = analyse(squaring(a), z, k=3)
    plain = analyse(squaring(a), z.flatten(1), k=3)
    assert found.eigenvectors.shape == (3, 3, *shape)
    assert found.average.vectors.shape == found.common.vectors.shape == (3, *shape)
    assert found.paths.codes.shape[2:] == shape
    torch.testing.assert_close(found.eigenvectors.flatten(2), plain.eigenvectors)
    torch.testing.assert_close(found.paths.codes.flatten(2), plain.paths.codes)


def test_pictures_and_maps_are_those_of_the_directions():
    a, z = matrix(), codes(3)
    g = squaring(a)
    found = analyse(g, z, k=2, points=2, length=0.5, value_range=(-2.0, 2.0))
    shown = found.pictures
    assert shown.fractions == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert shown.lengths.tolist() == [0.5, 0.5]
    assert shown.value_range == (-2.0, 2.0)
    for vectors, images in ((found.eigenvectors[1], shown.local[1]),
                            (found.average.vectors, shown.average[1])):  # fmt: skip
        for direction, row in zip(vectors, images):
            for step, image in zip(shown.fractions, row):
                expected = g((z[1] + step * 0.5 * direction)[None])[0].float()
                torch.testing.assert_close(image, expected)
    energy = (a * z[1] @ found.eigenvectors[1].T).square().T.reshape(2, 3, SIDE, SIDE).sum(1)
    torch.testing.assert_close(shown.local_maps[1], energy.float())
    energy = (a * z[1] @ found.average.vectors.T).square().T.reshape(2, 3, SIDE, SIDE).sum(1)
    torch.testing.assert_close(shown.average_maps[1], energy.float())


def test_steps_change_the_image_by_a_share_of_its_range():
    a = torch.zeros(3 * 64, 4, dtype=torch.float64)
    a[:4, :4] = torch.diag(torch.tensor([8.0, 4.0, 1.0, 0.0]))
    g = lambda z: (z @ a.T).reshape(-1, 3, SIDE, SIDE)
    found = analyse(g, 100 * codes(3, 4), value_range=(0.0, 2.0), paths=1)
    first, *rest = found.pictures.lengths.tolist()
    change = (a @ found.average.vectors[0] * first).square().mean().sqrt()
    assert change == pytest.approx(0.15 * 2)  # the root mean square, to first order
    assert rest == pytest.approx([2 * first, 4 * first, 4 * first])  # at most four times as long
    length = (found.paths.codes[0, -1] - found.paths.codes[0, 0]).norm()
    assert length == pytest.approx(2 * first)
    short = analyse(g, 1e-3 * codes(3, 4), value_range=(0.0, 2.0), paths=0)
    assert short.pictures.lengths[0] == pytest.approx(1e-3 * codes(3, 4).norm(dim=1).mean())


def test_large_images_are_averaged_over_areas():
    a = matrix(rows=3 * 32 * 32)
    g = lambda z: (z @ a.T).reshape(-1, 3, 32, 32)
    z = codes(2)
    shown = analyse(g, z, k=1, picture_size=8, paths=0).pictures
    small = g(z[:1]).unflatten(2, (8, 4)).unflatten(4, (8, 4)).mean((3, 5))
    torch.testing.assert_close(shown.local[0, 0, 2], small[0].float())
    assert shown.local_maps.shape == (2, 1, 8, 8)
    wide = analyse(lambda z: g(z).reshape(-1, 3, 16, 64), z, k=1, picture_size=16, paths=0)
    assert wide.pictures.local.shape == (2, 1, 5, 3, 4, 16)


@pytest.mark.parametrize("method", ["exact", "subspace"])
@pytest.mark.parametrize("nullspace", [0, 2])
def test_regions_hold_what_changes_most_inside_them(method, nullspace):
    a, z = matrix(), codes(2)
    soft = torch.zeros(SIDE, SIDE)
    soft[2:5, 1:7] = 0.5
    box = torch.zeros(SIDE, SIDE, dtype=torch.float64)
    box[1:4, 2:8] = 1
    given = {"box": (1, 2, 4, 8), "soft": soft, "bool": box.bool()}
    found = analyse(
        squaring(a), z, k=3, regions=given, region_nullspace=nullspace, method=method,
        tolerance=1e-10, paths=0,
    )  # fmt: skip
    for name, w in (("box", box), ("soft", soft.double()), ("bool", box)):
        for b in range(2):
            jacobian = (a * z[b]).reshape(3, SIDE * SIDE, M)
            inside = (jacobian * w.reshape(1, -1, 1)).flatten(0, 1)
            outside = (jacobian * (1 - w).reshape(1, -1, 1)).flatten(0, 1)
            away = torch.linalg.svd(outside).Vh[:nullspace].T
            keep = torch.eye(M, dtype=torch.float64) - away @ away.T
            _, sizes, right = torch.linalg.svd(inside @ keep, full_matrices=False)
            region = found.regions[name]
            torch.testing.assert_close(region.eigenvalues[b], sizes[:3].square())
            assert aligned(region.eigenvectors[b], right[:3].T, atol=1e-6)
            changed = (inside @ right[:3].T).square().sum(0)
            share = changed / (jacobian.flatten(0, 1) @ right[:3].T).square().sum(0)
            torch.testing.assert_close(region.inside[b], share.float(), atol=1e-5, rtol=1e-5)
    assert found.pictures.regions["soft"].shape == (3, 5, 3, SIDE, SIDE)


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


@pytest.mark.parametrize("method", ["exact", "subspace"])
def test_a_small_memory_limit_never_builds_the_jacobian(monkeypatch, method):
    def built(*args, **kwargs):
        raise AssertionError("J was built")

    monkeypatch.setattr(Linearization, "columns", built)
    monkeypatch.setattr(Linearization, "jacobian", built)
    a, z = matrix(30, rows=3 * 64), codes(2, 30)
    # A code takes 512 numbers of 8 bytes or so; J would take 30 · 192 · 8 = 46 kB.
    found = analyse(squaring(a), z, k=3, method=method, memory_limit=60_000, paths=1)
    expected = torch.linalg.svdvals(a * z[:, None])[:, :3].square()
    torch.testing.assert_close(found.eigenvalues[:, :3], expected, rtol=1e-3, atol=0)


def test_a_memory_limit_that_nothing_fits_into_is_refused():
    with pytest.raises(ValueError, match=r"memory_limit must be at least \d+ bytes") as refused:
        analyse(squaring(matrix()), codes(), memory_limit=100)
    least = int(str(refused.value).split("at least ")[1].split()[0])
    analyse(squaring(matrix()), codes(), memory_limit=least, paths=0)
    with pytest.raises(ValueError, match="memory_limit must be at least"):
        analyse(squaring(matrix()), codes(), memory_limit=least - 1)


def test_chunks_follow_the_memory_limit(monkeypatch):
    chunks = []
    whole = Linearization.push
    monkeypatch.setattr(
        Linearization, "push", lambda self, v, *a: chunks.append(v.numel()) or whole(self, v, *a)
    )
    g, z = squaring(matrix(30)), codes(4, 30)
    for limit in (None, 60_000):
        chunks.clear()
        analyse(g, z, k=8, method="subspace", memory_limit=limit, paths=0)
        largest = max(chunks)
        assert (largest >= 4 * 4 * 30) == (limit is None), (limit, largest)


class Ticking:
    """A clock that a generator sets forward at each call."""

    def __init__(self, monkeypatch, seconds):
        self.now, self.seconds = 0.0, seconds
        monkeypatch.setattr(_budget.time, "monotonic", lambda: self.now)

    def __call__(self, g):
        def slow(z):
            self.now += self.seconds
            return g(z)

        return slow


def test_what_there_is_no_time_for_is_left_out_and_said(monkeypatch):
    tick, g, z = Ticking(monkeypatch, 1.0), squaring(matrix(70)), codes(300, 70)
    found = analyse(tick(g), z, k=3, time_limit=6.0, method="subspace", regions={"a": (0, 0, 4, 4)})
    assert 1 <= len(found.codes) < 300
    assert len(found.eigenvalues) == len(found.codes)
    said = "; ".join(found.notes)
    for what in ("of 300 codes", "refinement of the average", "regions'", "pictures", "eigenpaths"):
        assert f"{what}" in said, (what, said)
    assert found.paths is None
    assert found.average.residuals.isnan().all()
    assert found.pictures.local.shape[0] == 1
    jacobians = matrix(70) * found.codes[:, None]
    expected = torch.linalg.svdvals(torch.cat(list(jacobians)))[:3].square() / len(jacobians)
    ratios = found.average.values / expected  # the parts that are left out are semidefinite
    assert ((ratios > 0.8) & (ratios < 1 + 1e-9)).all()
    unlimited = analyse(tick(g), z[:3], k=3, time_limit=None, method="subspace")
    assert unlimited.notes == []
    assert len(unlimited.codes) == 3


def test_a_stage_that_slows_down_is_broken_off(monkeypatch):
    """A second code, and a path, whose products take far longer than those before."""
    tick, g = Ticking(monkeypatch, 0.1), squaring(matrix(70))
    whole = Linearization.gram_product
    taken = []

    def slower(self, tangents):
        taken.append(1)
        tick.now += 0.1 if len(taken) <= 2 else 20.0
        return whole(self, tangents)

    monkeypatch.setattr(Linearization, "gram_product", slower)
    found = analyse(
        tick(g), codes(2, 70), k=3, paths=1, time_limit=30.0, method="subspace",
        memory_limit=300_000, tolerance=0.9,  # one code at once
    )  # fmt: skip
    assert found.notes[0] == "left out for lack of time: 1 of 2 codes"
    assert len(found.codes) == 1
    assert found.notes[1] == "left out for lack of time: 1 of 1 eigenpaths"
    assert found.paths is None
    assert found.seconds < 60.0


def test_fewer_eigenpaths_are_followed_if_time_is_short(monkeypatch):
    tick, g, z = Ticking(monkeypatch, 1.0), squaring(matrix(70)), codes(1, 70)
    found = analyse(tick(g), z, k=3, paths=3, time_limit=18.0, method="subspace")
    assert found.notes == [
        f"left out for lack of time: {3 - len(found.paths.codes)} of 3 eigenpaths"
    ]
    assert len(found.paths.codes) in (1, 2)
    assert found.paths.codes.shape[1] >= 5
    assert found.seconds <= 18.0


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


def test_progress_is_reported():
    told = []
    analyse(squaring(matrix()), codes(), progress=lambda *stage: told.append(stage),
            regions={"a": (0, 0, 2, 2)}, points=2, paths=2)  # fmt: skip
    ends = {name: (done, total) for name, done, total in told}
    assert ends == {"directions": (5, 5), "regions": (2, 2), "pictures": (2, 2),
                    "eigenpaths": (2, 2)}  # fmt: skip


@pytest.mark.parametrize(("arguments", "error", "says"), [
    ({"k": 11}, ValueError, "k must be at most m = 10, got 11"),
    ({"k": 0}, ValueError, "k must be an integer >= 1, got 0"),
    ({"k": 2.0}, TypeError, "k must be an integer"),
    ({"points": 0}, ValueError, "points must be"),
    ({"paths": -1}, ValueError, "paths must be"),
    ({"length": 0.0}, ValueError, "length must be"),
    ({"length": math.inf}, ValueError, "length must be"),
    ({"value_range": (1, 0)}, ValueError, "value_range must be"),
    ({"value_range": 1.0}, TypeError, "value_range must be two numbers"),
    ({"picture_size": 1}, ValueError, "picture_size must be"),
    ({"method": "quick"}, ValueError, "method must be one of 'auto', 'exact', 'subspace'"),
    ({"tolerance": 1.0}, ValueError, "tolerance must be"),
    ({"time_limit": 0}, ValueError, "time_limit must be"),
    ({"memory_limit": 0}, ValueError, "memory_limit must be"),
    ({"region_nullspace": 8, "regions": {"a": (0, 0, 1, 1)}}, ValueError, "region_nullspace must"),
    ({"region_nullspace": 2}, ValueError, "region_nullspace must be 0 without regions, got 2"),
    ({"regions": [1]}, TypeError, "regions must map names"),
    ({"regions": {"a": (0, 0, 9, 2)}}, ValueError, r"regions\['a'\] must be a box"),
    ({"regions": {"a": (2, 0, 2, 2)}}, ValueError, r"regions\['a'\] must be a box"),
    ({"regions": {"a": "eyes"}}, TypeError, r"regions\['a'\] must be a mask \(8, 8\) or a box"),
    ({"regions": {"a": torch.ones(8, 9)}}, ValueError, r"regions\['a'\] must be \(8, 8\), got"),
    ({"regions": {"a": torch.zeros(8, 8)}}, ValueError, r"not 0 everywhere"),
    ({"regions": {"a": 2 * torch.ones(8, 8)}}, ValueError, r"in \[0, 1\]"),
    ({"decode": 3}, TypeError, "decode must be callable"),
    ({"fn_kwargs": 3}, TypeError, "fn_kwargs must map names"),
    ({"names": ["a"]}, ValueError, "names must be 10 names, one a coordinate, got 1"),
    ({"seed": -1}, ValueError, "seed must be an integer >= 0, got -1"),
    ({"seed": "a"}, TypeError, "seed must be an integer"),
    ({"coupled": "no"}, ValueError, "coupled must be one of"),
    ({"z": torch.zeros(2, 3, dtype=torch.long)}, TypeError, "z must be a floating-point"),
    ({"z": torch.zeros(5)}, ValueError, r"z must have shape \(B, \*latent\)"),
    ({"z": torch.full((2, M), math.nan)}, ValueError, "z must be finite"),
    ({"z": "codes"}, TypeError, "z must be"),
])  # fmt: skip
def test_bad_arguments_are_refused(arguments, error, says):
    asked = {"z": codes(), **arguments}
    with pytest.raises(error, match=says):
        analyse(squaring(matrix()), asked.pop("z"), **asked)


def test_bad_generators_are_refused():
    with pytest.raises(TypeError, match="generator must be callable, or have a method decode"):
        analyse(3, codes())
    with pytest.raises(TypeError, match="generator must return a floating-point tensor"):
        analyse(lambda z: "image", codes())
    with pytest.raises(ValueError, match="regions must be left out"):
        analyse(lambda z: z, codes(), regions={"a": (0, 0, 1, 1)})
    with pytest.raises(ValueError, match="mixes the samples"):
        analyse(lambda z: z - z.mean(0) * z, codes(), paths=0)
