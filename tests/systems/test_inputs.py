"""What `encode` and `decode` of every system refuse."""

import pytest
import torch

from pydisent import systems
from pydisent.systems._inputs import check_inputs
from pydisent.training.plan import Plan

CHANNELS = {"sprites": 1, "digits": 1, "faces": 3, "shapes3d": 3}


@pytest.fixture(scope="module", params=systems.names())
def system(request):
    plan = Plan.from_preset(request.param, preset="smoke")
    shape = (CHANNELS[plan.data], plan.image_size, plan.image_size)
    return systems.build(plan.system, plan.config, shape).eval()


@pytest.mark.parametrize(
    "shape",
    [
        lambda c, h, w: (2, c + 1, h, w),
        lambda c, h, w: (2, c, 2 * h, w),
        lambda c, h, w: (2, h, w, c),
        lambda c, h, w: (c, h, w),
    ],
)
def test_images_of_another_shape_are_refused(system, shape):
    with pytest.raises(ValueError, match=r"x must have shape \(B, .*\), got"):
        system.encode(torch.rand(*shape(*system.image_shape)))


@pytest.mark.parametrize("shape", [lambda d: (2, d + 1), lambda d: (d,), lambda d: (2, d, 1)])
def test_codes_of_another_shape_are_refused(system, shape):
    with pytest.raises(ValueError, match=r"code must have shape \(B, \d+\), got"):
        system.decode(torch.randn(*shape(len(system.code_names))))


def test_integers_are_refused(system):
    with pytest.raises(TypeError, match=r"x must be float16.*, got torch.uint8"):
        system.encode(torch.zeros(2, *system.image_shape, dtype=torch.uint8))
    with pytest.raises(TypeError, match=r"code must be float16.*, got torch.int64"):
        system.decode(torch.ones(2, len(system.code_names), dtype=torch.long))


def test_arguments_may_be_named(system):
    code = torch.randn(2, system.latent_size)
    assert torch.equal(system.decode(code=code), system.decode(code))
    with pytest.raises(ValueError, match="code must have shape"):
        system.decode(code=code[:, 1:])
    with pytest.raises(ValueError, match="x must have shape"):
        system.encode(x=torch.rand(2, *system.image_shape)[:, :, 1:])
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'code'"):
        system.decode()


def test_the_size_of_the_code_is_that_of_its_names(system):
    assert system.latent_size == len(system.code_names)
    assert system.sample_code(2).shape == (2, system.latent_size)


def test_systems_of_ones_own_are_checked_as_far_as_they_tell_their_sizes():
    class Own:
        image_shape = (1, 2, 2)

        @torch.no_grad()
        def encode(self, x):
            return x.flatten(1)

        def decode(self, code, scale=1.0):
            return scale * code

    check_inputs(Own)
    own = Own()
    assert own.encode(torch.ones(3, 1, 2, 2)).shape == (3, 4)
    with pytest.raises(ValueError, match="x must have shape"):
        own.encode(x=torch.ones(3, 4))
    assert torch.equal(own.decode(torch.ones(3, 7), scale=2.0), torch.full((3, 7), 2.0))
    with pytest.raises(TypeError, match="code must be float16"):
        own.decode(torch.ones(3, 7, dtype=torch.long))
