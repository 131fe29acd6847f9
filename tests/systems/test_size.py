import dataclasses

import pytest
import torch

from pydisent import systems
from pydisent.systems import _size

SHAPE = (1, 32, 32)
HUGE = 10**12


def sizes(name):
    """Settings that are sizes, and that nothing else bounds."""
    config = systems.config_class(name)()
    system = type(systems.build(name, config, SHAPE))
    found = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if type(value) is int and value > 0:
            try:
                more = dataclasses.replace(config, **{field.name: HUGE})
            except ValueError:
                continue
            if _size._needed(system, more, SHAPE) > HUGE:
                found.append(field.name)
    return found


@pytest.mark.parametrize("name", systems.names())
def test_sizes_that_do_not_fit_are_named_before_anything_is_allocated(name):
    names = sizes(name)
    assert "batch_size" in names
    assert len(names) > 1
    state = torch.get_rng_state()
    for setting in names:
        config = dataclasses.replace(systems.config_class(name)(), **{setting: HUGE})
        with pytest.raises(ValueError, match=rf"^{setting} must be small enough .*, got {HUGE}"):
            systems.build(name, config, SHAPE)
    assert torch.equal(torch.get_rng_state(), state)


def test_says_how_much_is_needed(monkeypatch):
    monkeypatch.setattr(_size, "_memory", lambda: 8e9)
    config = systems.override(systems.config_class("vae")(), {"latent_size": "1000000000"})
    # A dense layer from the hidden units to means and log-variances, and one from codes to them.
    needed = f"{3 * 256 * 4 + 8:,.3g}".replace("+", r"\+")
    with pytest.raises(ValueError, match=rf"machine's 8 GB of memory .* take {needed} GB"):
        systems.build("vae", config, SHAPE)


@pytest.mark.parametrize("name", systems.names())
def test_weights_are_those_that_were_counted(name):
    config = systems.preset(name, "smoke", "sprites").config
    system = systems.build(name, config, SHAPE)
    built = sum(x.nbytes for x in (*system.parameters(), *system.buffers()))
    batch = 4 * config.batch_size * 32 * 32
    assert _size._needed(type(system), config, SHAPE) == built + batch
