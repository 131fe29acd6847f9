import dataclasses
from dataclasses import dataclass
from types import MappingProxyType

import pytest

from pydisent import data, systems
from pydisent.systems._base import System
from pydisent.systems._presets import SMOKE, Presets, Recipe
from pydisent.training import Plan
from pydisent.training.plan import difference


@dataclass(frozen=True)
class _Config:
    batch_size: int = 8
    width: int = 1
    noise: float = 0.0


class _Example(System):
    """Published for two data sets."""

    name = "example"
    Config = _Config
    data_settings = MappingProxyType({"dsprites": {"noise": 0.5}})
    presets = Presets(
        paper=Recipe(
            note="as published",
            steps=10,
            image_size=64,
            log_every=1,
            checkpoint_every=1,
            published=("celeba", "dsprites"),
            split="all",
            by_data={"celeba": {"crop": 128, "mirror": True, "settings": {"width": 2}}},
        ),
        quick=SMOKE,
        smoke=SMOKE,
    )

    def update(self, batch):
        raise NotImplementedError

    encode = decode = update


def test_published_settings_are_those_of_the_data():
    celeba = _Example.preset("paper", "celeba")
    assert (celeba.note, celeba.crop, celeba.mirror) == ("as published", 128, True)
    assert celeba.config == _Config(width=2)
    dsprites = _Example.preset("paper", "dsprites")
    assert (dsprites.note, dsprites.crop, dsprites.mirror) == ("as published", None, False)
    assert dsprites.config == _Config(noise=0.5)


@pytest.mark.parametrize(
    ("name", "source"), [("sprites", "dsprites"), ("faces", "celeba"), ("mnist", "celeba")]
)
def test_other_data_takes_those_of_the_most_alike_and_says_so(name, source):
    preset, published = (_Example.preset("paper", on) for on in (name, source))
    assert preset.config == published.config
    assert preset.note == f"no published settings for {name}; using those for {source}"


def test_digits_are_not_mirrored_where_faces_are():
    assert _Example.preset("paper", "faces").mirror
    for name in ("svhn", "mnist", "digits"):
        assert not _Example.preset("paper", name).mirror


def test_presets_of_no_paper_take_the_settings_of_the_very_data():
    """3D Shapes resembles photographs in colour; its pixels are not modelled like theirs."""
    assert systems.preset("vae", "quick", "celeba").config.decoder == "gaussian"
    assert systems.preset("vae", "quick", "shapes3d").config.decoder == "bernoulli"


def test_every_paper_preset_says_where_it_is_published():
    known = {*data.names(), "ffhq", "lsun", "color-dsprites"}
    for name in systems.names():
        on = systems.default_data(name)
        note = systems.preset(name, "paper", on).note
        assert "published" in note
        assert on in known


def test_a_split_that_the_data_lacks_is_left_out():
    plan = Plan.from_preset("vae", "sprites", "smoke")
    assert (plan.split, plan.crop, plan.mirror) == (None, None, False)
    plan = Plan.from_preset("vae", "faces", "smoke", split="all", mirror=True, image_size=32)
    assert (plan.split, plan.mirror, plan.image_size) == ("all", True, 32)


def test_each_system_trains_on_its_own_data_by_default():
    assert Plan.from_preset("attribute-ae", preset="smoke").data == "faces"
    for name in systems.names():
        plan = Plan.from_preset(name, preset="smoke")
        images = data.load(**plan.data_arguments())
        systems.build(name, plan.config, images.image_shape)


@pytest.mark.parametrize("name", systems.names())
def test_a_run_from_before_a_setting_was_added_compares_as_what_it_was(name):
    """Settings that its file lacks are the defaults, or what the system says of older runs."""
    plan = Plan.from_preset(name, preset="smoke")
    config = systems.override(systems.config_class(name)(), systems.added_settings(name))
    older = dataclasses.replace(plan, config=config).to_json()
    assert difference(older | {"config": {}}, older) is None
    assert Plan.from_json(older | {"config": {}}).config == config
