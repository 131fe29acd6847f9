"""A custom system, data set and metric, available to every pydisent command.

    PYDISENT_PLUGINS=examples/plug_in.py pydisent train free-bits-vae --preset smoke

An installed package names its module in the entry points pydisent.systems, .data and .metrics.
"""

from dataclasses import dataclass, replace
from tempfile import mkdtemp

import numpy as np
import torch

from pydisent import data, evaluation, systems, training
from pydisent.metrics import MetricResult
from pydisent.systems.vae import VAE, VAEConfig


@dataclass(frozen=True)
class FreeBitsConfig(VAEConfig):  # noqa: D101
    free_nats: float = 0.1  # λ, the KL that each dimension has at no cost


@systems.register
class FreeBitsVAE(VAE):
    """Minimise −E_q[log p(x|z)] + sum_j max(KL_j, λ) (Kingma et al. 2016)."""

    name, Config, default_data = "free-bits-vae", FreeBitsConfig, "bars"
    presets = replace(VAE.presets, paper=replace(VAE.presets.paper, note="those of vae"))

    def update(self, batch):
        """Update encoder and decoder once on images (B, C, H, W)."""
        elbo = self.elbo(batch)
        paid = elbo.latents.kl_by_dimension.clamp(min=self.config.free_nats).sum()
        return self.minimize(elbo.reconstruction + paid, elbo, paid=paid)


@data.register("bars")
class Bars(data.FactorDataset):
    """A lit row and a lit column on black, 1x16x16."""

    def __init__(self, *, image_size=None):
        super().__init__("bars", (1, 16, 16), ("row", "column"), (16, 16), image_size=image_size)

    def _read(self, indices):
        row, column = (self.factors(indices)[:, :, None] == torch.arange(16)).unbind(1)
        return (row[:, None, :, None] | column[:, None, None]).float()


@evaluation.metric("linear-r2", needs=evaluation.FACTORS, label="Linear R²")
def linear_r2(subject):
    """Return the R² of a linear map from all codes to each factor, averaged over factors."""
    x, y = (table - table.mean(0) for table in subject.samples[:2])
    r2 = 1 - (y - x @ np.linalg.lstsq(x, y, rcond=None)[0]).var(0) / y.var(0)
    return MetricResult(r2.mean(), {"by_factor": r2})


if __name__ == "__main__":
    run = training.train(training.Plan.from_preset("free-bits-vae", preset="smoke"), mkdtemp())
    print(evaluation.score(training.open_run(run.path), ("linear-r2", "mig")))
