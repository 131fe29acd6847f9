import copy
import dataclasses
import math

import numpy as np
import pytest
import torch

from pydisent import systems
from pydisent.systems.ps_sc import PSSC
from pydisent.training import Plan


def test_the_generators_rates_are_lowered_for_steps_it_does_not_make(smoke):
    for interval, share in ((4, 4 / 5), (1, 1 / 2), (0, 1)):
        group = smoke("ps-sc", generator_interval=interval).optimizers["generator"].param_groups[0]
        assert group["lr"] == pytest.approx(2e-3 * share)
        assert group["betas"] == pytest.approx((0.0, 0.99**share))


def test_the_authors_regression_is_the_norm_of_the_error(smoke, images):
    torch.manual_seed(0)
    found, codes = torch.randn(2, 5, 3)
    norms = [math.hypot(*row) for row in (found - codes).tolist()]
    loss = PSSC.recognition_loss(found, codes, None, "author_code")
    assert float(loss) == pytest.approx(np.mean(norms))
    logs = []
    for variant in ("published", "author_code"):
        system = smoke("ps-sc", ps_weight=0.0, regression_variant=variant)
        before = copy.deepcopy(system)
        torch.manual_seed(2)
        logs.append(float(system.step(images(system))["recognition"]))
    with torch.no_grad():
        torch.manual_seed(2)
        codes = torch.randn(8, 4)
        errors = (before.recogniser(before.generator(codes)) - codes).double().numpy()
    squares = (errors**2).sum(1)
    assert logs == pytest.approx([squares.mean(), np.sqrt(squares).mean()], rel=1e-5)


@pytest.mark.parametrize("settings", [{}, {"spatial_constriction": False}])
def test_runs_from_before_there_was_a_choice_have_the_networks_they_had(settings):
    plan = Plan.from_preset("ps-sc", "shapes3d", "smoke", settings=settings)
    older = plan.to_json()
    for name in ("width_schedule", "resampling", "generator_interval", "regression_variant"):
        del older["config"][name]
    config = Plan.from_json(older).config
    system = systems.build("ps-sc", config, (3, 64, 64))
    first, *blocks = (block.conv.conv.weight.shape[0] for block in system.generator.blocks)
    assert (first, *blocks) == (8, 8, 4, 4)
    assert "last.1.conv.weight" in system.generator.state_dict()
    assert all(block.up.conv.blur is None for block in system.generator.blocks)
    assert all(block.down.blur is None for block in system.recogniser.blocks)
    assert system.optimizers["generator"].param_groups[0]["lr"] == 2e-3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("codes", 0), ("rectangles", 0), ("batch_size", 0), ("min_width", 0), ("r1_interval", 0),
        ("learning_rate", 0.0), ("perturbation", 0.0), ("ps_weight", -0.1), ("r1_weight", -1.0),
        ("regression_weight", float("inf")), ("ema_half_life", float("nan")), ("adam_beta2", 1.0),
        ("mask", "round"), ("precision", "fp16"), ("generator_interval", -1),
        ("width_schedule", "pixels"), ("resampling", "cubic"), ("regression_variant", "absolute"),
    ],
)  # fmt: skip
def test_bad_settings_are_named(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be "):
        systems.override(systems.preset("ps-sc", "smoke", "shapes3d").config, {name: value})


def test_images_and_widths_must_suit_the_networks():
    config = systems.config_class("ps-sc")()
    for shape in ((3, 28, 28), (3, 4, 4), (3, 16, 32)):
        with pytest.raises(ValueError, match="image_s"):
            systems.build("ps-sc", config, shape)
    with pytest.raises(ValueError, match="min_width must be at most max_width = 512, got 600"):
        dataclasses.replace(config, min_width=600)
