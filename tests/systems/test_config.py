import dataclasses
from dataclasses import dataclass

import pytest

from pydisent import systems
from pydisent.systems import VAE
from pydisent.systems._vae_family import VAEConfig


@dataclass(frozen=True)
class Example:
    size: int = 3
    rate: float = 0.5
    rate_of_d: float | None = None
    flag: bool = False
    kind: str = "a"


def test_texts_are_read_as_the_fields_types():
    texts = {"size": "7", "rate": "1e-3", "rate_of_d": "2", "flag": "True", "kind": "b"}
    assert systems.override(Example(), texts) == Example(7, 1e-3, 2.0, True, "b")
    assert systems.override(Example(rate_of_d=1.0), {"rate_of_d": "none"}).rate_of_d is None


def test_values_pass_and_integers_become_floats():
    changed = systems.override(Example(), {"size": 7, "rate": 2})
    assert changed == Example(7, 2.0)
    assert type(changed.rate) is float


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("size", "1.5", "size must be int, got '1.5'"),
        ("size", True, "size must be int, got True"),
        ("rate_of_d", "x", "rate_of_d must be float or none, got 'x'"),
        ("flag", "perhaps", "flag must be bool, got 'perhaps'"),
        ("szie", "1", "setting must be one of .*, got 'szie'; did you mean 'size'"),
    ],
)
def test_what_does_not_read_is_an_error(key, value, message):
    with pytest.raises(ValueError, match=message):
        systems.override(Example(), {key: value})


def test_describe_names_types_and_values():
    assert systems.describe(Example())[2] == ("rate_of_d", "float or none", None)


def test_registry():
    assert {"gan", "spectral-gan"} <= set(systems.names())
    for call in (
        lambda: systems.config_class("ganz"),
        lambda: systems.preset("ganz", "quick", "sprites"),
        lambda: systems.preset("gan", "big", "sprites"),
    ):
        with pytest.raises(ValueError, match=r"must be one of .*, got "):
            call()


def test_presets_depend_on_the_data():
    """In three layers: the data's settings, the preset's, and those of the preset on that data."""
    for name in ("gan", "infogan", "ib-gan"):
        usual = systems.preset(name, "quick", "sprites")
        colour = systems.preset(name, "quick", "color-sprites")
        assert colour.config.learning_rate == 1e-4
        assert colour.config.noise_steps == usual.config.noise_steps == 8000
        assert colour.note == usual.note.replace("ten times", "twice")
        assert systems.preset(name, "paper", "color-sprites").config.noise_steps == 400_000
    for data, beta in (("sprites", 0.141), ("color-sprites", 0.071), ("svhn", 0.325)):
        config = systems.preset("ib-gan", "quick", data).config
        assert config.beta == round(0.7 * beta, 3)


@pytest.mark.parametrize("name", systems.names())
@pytest.mark.parametrize("preset", systems.PRESETS)
def test_every_preset_is_whole(name, preset):
    chosen = systems.preset(name, preset, "sprites")
    assert isinstance(chosen.config, systems.config_class(name))
    assert chosen.steps >= 1
    assert chosen.note


@pytest.mark.parametrize("name", systems.names())
def test_every_setting_refuses_values_of_other_types_by_name(name):
    config = systems.preset(name, "smoke", systems.default_data(name)).config
    others = {"none": None, "str": "", "float": 0.5, "bool": True, "int": 3, "other": (1,)}
    for setting, kinds, value in systems.describe(config):
        accepted = {*kinds.split(" or "), *(["int"] if "float" in kinds else [])}
        for kind, other in others.items():
            if kind not in accepted:
                with pytest.raises((TypeError, ValueError), match=f"^{setting} must be"):
                    dataclasses.replace(config, **{setting: other})
        if "int" in accepted and "float" not in accepted:
            with pytest.raises(ValueError, match=f"^{setting} must be"):
                dataclasses.replace(config, **{setting: 2**63})
        assert getattr(dataclasses.replace(config, **{setting: value}), setting) == value


def test_a_users_configuration_is_held_to_its_types():
    @dataclasses.dataclass(frozen=True)
    class Config(VAEConfig):
        skip: bool = False

    class Own(VAE):
        pass

    Own.Config = Config
    assert Own(Config(base=4, hidden=8), (1, 16, 16)).config.skip is False
    with pytest.raises(TypeError, match="skip must be bool, got 1"):
        Own(Config(base=4, hidden=8, skip=1), (1, 16, 16))
