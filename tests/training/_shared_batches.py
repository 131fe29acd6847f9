"""Systems trained on halves of batches by two processes, and on whole ones by each alone."""

import torch

from pydisent import parallel, systems
from pydisent.nn import normalize_whole_batches

STEPS = 3
IMAGE_SIZE = {"jacobian-ae": 8}
# Beside every system's smoke preset: what other settings make of a batch.
VARIANTS = {
    # The KL of the second batch: of its halves one is below, one above.
    "annealed-vae at its capacity": ("annealed-vae", {"capacity": 0.0556, "capacity_steps": 1}),
    "beta-tcvae, stratified": ("beta-tcvae", {"estimator": "mss"}),
    "dip-vae-2, running covariance": ("dip-vae-2", {"covariance": "running"}),
    "vae of DCGAN's networks": ("vae", {"networks": "dcgan"}),
    "factor-vae of IB-GAN's networks": ("factor-vae", {"networks": "ib-gan"}),
    "attribute-ae, both losses of students": ("attribute-ae", {
        "supervision": "jacobian-cycle", "cycle_steps": 0, "students": 1,
    }),
    "jacobian-ae, normalised students": ("jacobian-ae", {"batch_norm": "all", "nuisance": 1}),
    "factor-vae of one batch": ("factor-vae", {"permuted_batch": "same"}),
    "spectral-gan with R1": ("spectral-gan", {"r1_weight": 1.0, "ema_decay": 0.9}),
    "spectral-gan, matrix-free": ("spectral-gan", {"k": 1, "iterations": 1}),
    "spectral-gan, part of each second batch": ("spectral-gan", {
        "interval": 2, "sub_batch": 4, "rank": 2,
    }),
    "spectral-gan, codes regressed": ("spectral-gan", {"code_regression": 1.0}),
    "spectral-gan of path lengths": ("spectral-gan", {"regularizer": "path-length"}),
    "gan, orthogonal Jacobian along directions": ("gan", {
        "regularizer": "orthogonal-jacobian", "regularizer_directions": 2,
    }),
    "gan, scaled isometry": ("gan", {"regularizer": "scaled-isometry"}),
    "attribute-ae, its author's": ("attribute-ae", {
        "variant": "author_code", "gradient_clip": 0.1, "supervision": "cycle", "students": 1,
    }),
    "attribute-ae, decorrelated student": ("attribute-ae", {
        "student_cross_covariance_weight": 1.0, "cycle_steps": 0, "students": 1,
    }),
    "jacobian-ae, exact": ("jacobian-ae", {
        "variant": "exact", "cross_covariance": "author_code", "nuisance": 1,
    }),
    "jacobian-ae, conv": ("jacobian-ae", {"network": "conv", "base": 2, "nuisance": 1}),
}  # fmt: skip
CASES = {name: (name, {}) for name in systems.names()} | VARIANTS


def errors(found, wanted):
    """Return {what: [where, relative error]} of what `trained` returned twice."""
    return {what: _error(found[what], wanted[what]) for what in wanted}


def trained(name, settings):
    """Return gradients at every optimiser's step, final tensors, logs and the generator's state."""
    size = IMAGE_SIZE.get(name, 16)
    config = systems.override(systems.preset(name, "smoke", "sprites").config, settings)
    if name == "attribute-ae":
        config = systems.override(config, {"attributes": 5})
    torch.manual_seed(0)
    system = systems.build(name, config, (1, size, size))
    system.dataset_size = 1000
    system.reduce_gradients = parallel.average_gradients
    gradients, tensors, logs = {}, {}, {}
    images = torch.Generator().manual_seed(1)
    for phase, _ in system.phases(STEPS):
        system.start_phase(phase)
        if parallel.processes() > 1:
            normalize_whole_batches(system)
        system.train()
        for key, optimizer in system.optimizers.items():
            _note_gradients(optimizer, f"{phase} {key}", gradients)
        for step in range(STEPS):
            logs |= {f"{phase} {step} {k}": v for k, v in _step(system, images).items()}
        tensors |= {f"{phase} {k}": v.clone() for k, v in system.state_dict().items()}
    state = {"": torch.get_rng_state().double()}
    return {"gradients": gradients, "tensors": tensors, "logs": logs, "random state": state}


def _note_gradients(optimizer, name, gradients):
    updates = iter(range(1000))

    def note(optimizer, *_):
        update = next(updates)
        for i, p in enumerate(p for g in optimizer.param_groups for p in g["params"]):
            if p.grad is not None:
                gradients[f"{name} {update} {i}"] = p.grad.clone()

    optimizer.register_step_pre_hook(note)


def _step(system, generator):
    """Train on this process's rows of random images; return the logs, averaged."""
    n = system.images_per_step
    batch = [torch.rand(n, *system.image_shape, generator=generator)]
    if system.needs_attributes:
        batch.append(torch.randint(2, (n, 5), generator=generator) * 2.0 - 1)
    logs = system.step(*(parallel.own_rows(part, system.batches_per_step) for part in batch))
    means = parallel.averages([float(value) for value in logs.values()])
    return dict(zip(logs, torch.tensor(means)))


def _error(found, wanted):
    """Return where the largest error is, and its size beside that of its tensor.

    A tensor a thousand times smaller than the largest counts as that large: a bias before batch
    norm has a gradient of rounding errors alone.
    """
    if found.keys() != wanted.keys():
        raise ValueError(f"{sorted(found.keys() ^ wanted.keys())} are not in both")
    largest = max(float(value.abs().max()) for value in wanted.values())
    found_errors = {
        key: float((found[key] - value).abs().max())
        / max(float(value.abs().max()), 1e-3 * largest, 1e-300)
        for key, value in wanted.items()
    }
    return list(max(found_errors.items(), key=lambda item: item[1]))
