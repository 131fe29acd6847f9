import numpy as np
import pytest
import torch

from pydisent.nn import TranslatedPReLU, clip_leaks_


def _random_layer(channels, dtype=torch.float32):
    layer = TranslatedPReLU(channels).to(dtype)
    with torch.no_grad():
        layer.leak.uniform_(0, 1)
        layer.threshold.normal_()
    return layer


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 7), (2, 3, 5, 4), (0, 3, 2, 2)])
def test_equals_its_definition(shape):
    torch.manual_seed(0)
    layer = _random_layer(3, torch.float64)
    x = torch.randn(shape, dtype=torch.float64)
    broadcast = (1, 3) + (1,) * (len(shape) - 2)
    a = layer.leak.detach().numpy().reshape(broadcast)
    c = layer.threshold.detach().numpy().reshape(broadcast)
    expected = np.where(x.numpy() >= c, x.numpy(), a * (x.numpy() - c) + c)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=0, atol=1e-14)


def test_gradients_to_second_order():
    torch.manual_seed(1)
    layer = _random_layer(2, torch.float64)
    x = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)

    def cubed(x, leak, threshold):
        parameters = {"leak": leak, "threshold": threshold}
        return torch.func.functional_call(layer, parameters, (x,)).pow(3)

    inputs = (x, layer.leak, layer.threshold)
    assert torch.autograd.gradcheck(cubed, inputs)
    assert torch.autograd.gradgradcheck(cubed, inputs)


def test_leaks_are_clipped_everywhere_and_nothing_else():
    net = torch.nn.Sequential(
        TranslatedPReLU(3), torch.nn.Linear(3, 3), torch.nn.Sequential(TranslatedPReLU(3))
    )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(-2.0)
        net[2][0].leak.copy_(torch.tensor([-1.0, 0.5, 3.0]))
    clip_leaks_(net)
    assert net[0].leak.tolist() == [0, 0, 0]
    assert net[2][0].leak.tolist() == [0, 0.5, 1]
    assert (net[0].threshold == -2).all()
    assert (net[1].weight == -2).all()


@pytest.mark.parametrize("arguments", [{"channels": 0}, {"channels": 2, "leak": 1.5}])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=list(arguments)[-1]):
        TranslatedPReLU(**arguments)
