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


def test_buffers_are_the_latest():
    """Of every dtype; a batch-normed average normalises as the network does."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8))
    net.register_buffer("visible", torch.tensor([True, False]))
    average = ExponentialAverage(net, decay=0.0)
    for step in range(50):
        net(5 + 3 * torch.randn(64, 4))
        net.visible.logical_not_()
        average.update(net, step)
    own = dict(net.named_buffers())
    for name, kept in average.module.named_buffers():
        assert torch.equal(kept, own[name]), name
        assert kept.data_ptr() != own[name].data_ptr()
    deviation = average.eval()(5 + 3 * torch.randn(1000, 4)).std()
    assert 0.9 < deviation < 1.1


def test_a_state_of_parameters_and_initial_buffers_loads():
    """Those were kept before buffers followed: the names are the same."""
    net = torch.nn.BatchNorm1d(2)
    average = ExponentialAverage(net, decay=0.9)
    former = {f"module.{name}": x for name, x in net.state_dict().items()}
    assert not any(average.load_state_dict(former))


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_bad_decay(decay):
    with pytest.raises(ValueError, match=rf"decay must be .*, got {decay}"):
        ExponentialAverage(torch.nn.Linear(1, 1), decay)
