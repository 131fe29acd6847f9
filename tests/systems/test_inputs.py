"""What `encode` and `decode` of every system refuse."""

import pytest
import torch

from pydisent import systems
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


def test_the_size_of_the_code_is_that_of_its_names(system):
    assert system.latent_size == len(system.code_names)
    assert system.sample_code(2).shape == (2, system.latent_size)
