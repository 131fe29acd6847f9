"""Small attribute autoencoders, a batch for them, and their state."""

import torch

from pydisent import systems

SHAPE = (3, 16, 16)


def build(phase="teacher", **settings):
    """Build the smoke preset for five attributes, started up to `phase`."""
    settings = {"attributes": 5} | settings
    config = systems.override(systems.preset("attribute-ae", "smoke", "faces").config, settings)
    torch.manual_seed(0)
    system = systems.build("attribute-ae", config, SHAPE)
    names = [name for name, _ in system.phases(1)]
    for name in names[: names.index(phase) + 1]:
        system.start_phase(name)
    return system


def batch(n=8, k=5):
    draw = torch.Generator().manual_seed(5)
    signs = 2.0 * torch.randint(2, (n, k), generator=draw) - 1
    return torch.rand(n, *SHAPE, generator=draw), signs


def weights(module):
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
