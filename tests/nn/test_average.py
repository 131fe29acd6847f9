import pytest
import torch

from pydisent.nn import DCGANGenerator, ExponentialAverage


def test_equals_its_recurrence():
    net = torch.nn.Linear(2, 1, bias=False).double()
    average = ExponentialAverage(net, decay=0.5)
    expected = net.weight.detach().clone()
    for step in range(12):
        with torch.no_grad():
            net.weight.normal_()
        average.update(net, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * net.weight.detach()
    torch.testing.assert_close(average.module.weight, expected)
    x = torch.randn(3, 2, dtype=torch.float64)
    torch.testing.assert_close(average(x), x @ expected.T)


def test_follows_a_weight_normalized_network_without_touching_it():
    net = DCGANGenerator(3, 1, 2, 16)
    average = ExponentialAverage(net, decay=0.0)
    before = [p.clone() for p in net.parameters()]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1)
    average.update(net, 100)
    z = torch.randn(2, 3)
    assert torch.equal(average(z), net(z))
    assert not any(p.requires_grad for p in average.parameters())
    assert all(torch.equal(p, q + 0.1) for p, q in zip(net.parameters(), before))


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_bad_decay(decay):
    with pytest.raises(ValueError, match=f"decay is {decay}"):
        ExponentialAverage(torch.nn.Linear(1, 1), decay)
