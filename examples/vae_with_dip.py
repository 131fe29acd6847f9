"""DIP-VAE in your own VAE: one more term in the loss.

python examples/vae_with_dip.py --steps 500
"""

import argparse

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

import pydisent
from pydisent import data, metrics

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=500)
steps = parser.parse_args().steps


class VAE(nn.Module):
    """An ordinary variational autoencoder for 32×32 images."""

    def __init__(self, size=6):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(64 * 8 * 8, 128), nn.ReLU(), nn.Linear(128, 2 * size),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(size, 128), nn.ReLU(), nn.Linear(128, 64 * 8 * 8), nn.ReLU(),
            nn.Unflatten(1, (64, 8, 8)), nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(32, 1, 4, 2, 1),
        )  # fmt: skip

    def encode(self, images):
        """Return the mean and the logarithm of the variance of q(z|x), (B, d) each."""
        return self.encoder(images).chunk(2, dim=1)


torch.manual_seed(0)
vae = VAE()
optimizer = torch.optim.Adam(vae.parameters(), 1e-3)
sprites = data.load("sprites", image_size=32)

for step in range(steps):
    x = sprites.images(torch.randint(len(sprites), (128,)))
    mu, logvar = vae.encode(x)
    z, kl = pydisent.ops.reparameterized_sample(mu, logvar, torch.randn_like(mu))
    error = binary_cross_entropy_with_logits(vae.decoder(z), x, reduction="sum") / len(x)
    dip = pydisent.dip_vae_penalty(mu, logvar, variant="ii", lambda_od=5.0, lambda_d=5.0)
    loss = error + kl.sum(1).mean() + dip
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"{step}: error {error:.1f}, KL {kl.sum(1).mean():.2f}, penalty {dip:.2f}")

codes = metrics.encode_once(lambda images: vae.encode(images)[0], sprites, max_images=3000)
table = metrics.sample_codes(codes.encode, codes, train=2000, test=500)
print(f"MIG {metrics.mig(*table[:2]).score:.3f}, SAP {metrics.sap(*table).score:.3f}")
