import math

import pytest
import torch
from _fake_runs import LinearSystem, axis_matrix, fake_run

from pydisent.evaluation import alignment_summary, metrics  # noqa: F401  (registers them)
from pydisent.evaluation.registry import METRICS
from pydisent.evaluation.subject import Subject


def test_axes_in_order_are_perfectly_aligned(tmp_path):
    found = alignment_summary(fake_run(tmp_path), codes=40)
    torch.testing.assert_close(found["heatmap"], torch.eye(4), atol=1e-5, rtol=0)
    assert found["mean"] == pytest.approx(1, abs=1e-5)
    assert found["k"] == 2
    assert found["diagonal"] == pytest.approx([1, 1], abs=1e-5)
    expected = torch.tensor([0.81, 0.36, 0.09, 0.01]).expand(40, 4)
    torch.testing.assert_close(found["eigenvalues"], expected, atol=1e-5, rtol=0)


def test_axes_in_another_order_are_not(tmp_path):
    found = alignment_summary(fake_run(tmp_path, scales=(0.1, 0.3, 0.6, 0.9)), codes=3)
    torch.testing.assert_close(found["heatmap"], torch.eye(4).flip(0), atol=1e-5, rtol=0)
    assert found["mean"] == pytest.approx(0, abs=1e-5)


def test_rotated_axes(tmp_path):
    # J = Q D R' has the columns of R as eigenvectors of M: F is R∘R whatever the code.
    angle = 0.5
    rotation = torch.eye(4)
    rotation[:2, :2] = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    matrix = axis_matrix(64, (0.9, 0.6, 0.3, 0.1)) @ rotation.T
    found = alignment_summary(fake_run(tmp_path, matrix=matrix), codes=5)
    torch.testing.assert_close(found["heatmap"], rotation.square(), atol=1e-5, rtol=0)
    assert found["mean"] == pytest.approx(math.cos(angle) ** 2, abs=1e-5)


@pytest.mark.parametrize(("scales", "all_of_them"), [((9, 6, 3, 1), 1), ((9, 6, 1, 3), 0.5)])
def test_the_score_of_all_codes_does_not_stop_at_k(tmp_path, scales, all_of_them):
    run = fake_run(tmp_path, scales=scales)  # k = 2, whose eigenvectors are in order
    run.system.latent_size = 4
    found = {name: METRICS[name].measure(Subject(run)) for name in ("f-diagonal", "f-diagonal-all")}
    assert found["f-diagonal"].score == pytest.approx(1, abs=1e-5)
    assert found["f-diagonal-all"].score == pytest.approx(all_of_them, abs=1e-5)
    assert len(found["f-diagonal-all"].details["diagonal"]) == 4


class Curved(LinearSystem):
    """A generator whose eigenvectors depend on the code."""

    def decode(self, code):
        return (code.tanh() @ self.matrix.T).sin().unflatten(-1, self.image_shape)


def test_mean_over_codes_and_their_seed(tmp_path):
    run = fake_run(tmp_path)
    run.system = Curved(axis_matrix(64, (0.9, 0.8, 0.7, 0.6)), (1, 8, 8))
    found = alignment_summary(run, codes=70, seed=5)
    z = run.system.sample_code(70, torch.Generator().manual_seed(5))
    heatmap = torch.zeros(4, 4, dtype=torch.float64)
    for code in z.double():
        matrix = run.system.matrix.detach().double()
        jacobian = torch.autograd.functional.jacobian(lambda c: (c.tanh() @ matrix.T).sin(), code)  # noqa: B023
        heatmap += torch.linalg.svd(jacobian).Vh.mT.square() / 70
    torch.testing.assert_close(found["heatmap"].double(), heatmap, atol=1e-4, rtol=0)
    again = alignment_summary(run, codes=70, seed=5)
    assert torch.equal(found["heatmap"], again["heatmap"])
    assert not torch.equal(found["heatmap"], alignment_summary(run, codes=70)["heatmap"])


@pytest.mark.parametrize(("name", "value"), [("codes", 0), ("k", 0), ("k", 5)])
def test_out_of_range(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*, got {value}"):
        alignment_summary(fake_run(tmp_path), **{name: value})
