"""The oracle that the engine is held to, checked against values of each function alone."""

import pytest
import torch
from _architectures import ARCHITECTURES
from _oracle import FiniteDifferences, Repeatable, masks, power_iterations, unrolled


def _draw(like, generator):
    return torch.randn(like.shape, generator=generator, dtype=like.dtype)


def _attempt(name, seed, k=2, iterations=2):
    """Relative disagreement of the two oracles, or None where the function has a kink nearby."""
    sample = ARCHITECTURES[name](torch.float64, seed)
    fn = Repeatable(sample.fn, sample.modules)
    generator = torch.Generator().manual_seed(seed)
    m = sample.z.shape[1]
    probe = torch.randint(0, 2, (len(sample.z), m, min(k, m)), generator=generator) * 2.0 - 1.0
    settings = {"iterations": iterations, "probe": probe.double(), "reweight": seed % 2 == 0}
    free = [p for p in sample.parameters if p.requires_grad]
    along = [_draw(p, generator) * p.detach().abs().mean() for p in free]
    towards = _draw(sample.z, generator)
    derivatives = []
    for step in (3e-4, 4.5e-4):
        differences = FiniteDifferences(fn, sample.z, **settings, step=step)
        derivatives.append(
            [differences.along_parameters(free, along), differences.along_z(towards)]
        )
    fine, coarse = torch.tensor(derivatives, dtype=torch.float64)
    value = differences.value()
    if (fine - coarse).abs().max() > 1e-6 * max(1.0, fine.abs().max()):
        return None
    answer = unrolled(fn, sample.parameters, sample.z, **settings)
    by_id = dict(zip(map(id, sample.parameters), answer.parameters))
    got = [sum((by_id[id(p)] * d).sum() for p, d in zip(free, along)), (answer.z * towards).sum()]
    error = (torch.stack(got) - fine).abs() / (fine.abs() + 1e-2)
    return torch.stack([error.max(), abs(fine.new_tensor(answer.value - value)) * 100]).max().item()


@pytest.mark.in_turn
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_unrolled_oracle_agrees_with_finite_differences(name):
    for seed in range(6):
        error = _attempt(name, seed)
        if error is not None:
            assert error <= 3e-6
            return
    pytest.fail("no smooth point was found in six draws")


def test_masks_are_those_of_the_paper():
    projection, signs = masks(4, 3, False, torch.zeros(()))
    assert projection.tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]]
    assert signs.tolist() == [[-1, 1, 1], [1, -1, 1], [1, 1, -1], [1, 1, 1]]
    weights = masks(4, 3, True, torch.zeros(()))[1][3]
    torch.testing.assert_close(weights, torch.tensor([3.0, 2.0, 1.0]) / 6)
    assert weights.sum() == pytest.approx(1)


def test_aligned_and_opposed_gram_matrices_have_known_penalties():
    gram = torch.diag(torch.tensor([9.0, 4.0, 1.0, 0.25])).double()
    probe = torch.ones(1, 4, 2, dtype=torch.float64)
    aligned = power_iterations(lambda v: gram @ v, probe, 60, True)
    assert aligned.item() == pytest.approx(-1.0, abs=1e-6)
    opposed = power_iterations(lambda v: gram.flip(0, 1) @ v, probe, 60, True)
    assert opposed.item() == pytest.approx(1.0, abs=1e-6)
