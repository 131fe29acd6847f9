"""β-TCVAE as a PyTorch Lightning module (`pip install pytorch-lightning`).

python examples/lightning_module.py --steps 200
"""

import argparse

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

import pydisent
from pydisent import data


class BetaTCVAE(pl.LightningModule):
    """Minimise the error + KL + (β − 1) TC (Chen et al. 2018)."""

    def __init__(self, dataset_size, latent_size=6, beta=6.0):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(1024, 256), nn.ReLU(), nn.Linear(256, 2 * latent_size)
        )
        self.decoder = nn.Sequential(nn.Linear(latent_size, 256), nn.ReLU(), nn.Linear(256, 1024))

    def training_step(self, batch, _):
        """Return the loss of images (B, 1, 32, 32) with their factors."""
        x, _factors = batch
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        z, _kl = pydisent.ops.reparameterized_sample(mu, logvar, torch.randn_like(mu))
        error = binary_cross_entropy_with_logits(self.decoder(z), x.flatten(1), reduction="sum")
        parts = pydisent.beta_tc_decomposition(z, mu, logvar, self.hparams.dataset_size)
        loss = error / len(x) + parts.index_code_mi + parts.dimension_wise_kl
        loss = loss + self.hparams.beta * parts.total_correlation
        self.log_dict({"loss": loss, "total_correlation": parts.total_correlation}, prog_bar=True)
        return loss

    def configure_optimizers(self):
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), 1e-3)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    sprites = data.load("sprites", image_size=32)
    batches = torch.utils.data.DataLoader(sprites, batch_size=64, shuffle=True)
    trainer = pl.Trainer(
        max_steps=steps, accelerator="auto", devices=1, logger=False,
        enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(BetaTCVAE(dataset_size=len(sprites)), batches)
    print({name: round(value.item(), 2) for name, value in trainer.callback_metrics.items()})
