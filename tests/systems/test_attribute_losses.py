import pytest
import torch

from pydisent.systems._attribute_losses import cross_covariance, cycle_z_loss, hinge_loss


def test_hinge_loss_by_hand():
    y, targets = torch.tensor([[2.0, -0.5], [0.5, 3.0]]), torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    assert float(hinge_loss(y, targets)) == pytest.approx((0 + 1.5 + 0.5 + 4) / 4)
    author = hinge_loss(y, targets, "author_code")
    assert float(author) == pytest.approx((0 + 1.5 + 0.5 + 4) / 2)


def test_roots_have_a_gradient_at_zero():
    y, z = torch.ones(4, 2, requires_grad=True), torch.ones(4, 3, requires_grad=True)
    cross_covariance(y, z, "author_code").backward()
    cycle_z_loss(z, torch.ones(4, 3), "author_code").backward()
    assert torch.isfinite(y.grad).all()
    assert torch.isfinite(z.grad).all()
