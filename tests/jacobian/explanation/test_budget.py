"""``analyse`` within its limits of memory and time, and what it tells while it works."""

import pytest
import torch
from _squaring import codes, matrix, squaring

from pydisent.jacobian.explanation import _budget, analyse
from pydisent.jacobian.linearization import Linearization


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


def test_progress_is_reported():
    told = []
    analyse(squaring(matrix()), codes(), progress=lambda *stage: told.append(stage),
            regions={"a": (0, 0, 2, 2)}, points=2, paths=2)  # fmt: skip
    ends = {name: (done, total) for name, done, total in told}
    assert ends == {"directions": (5, 5), "regions": (2, 2), "pictures": (2, 2),
                    "eigenpaths": (2, 2)}  # fmt: skip
