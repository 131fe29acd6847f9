"""A plain GAN loop with the alignment penalty: one more term in the generator's loss.

    python examples/gan_with_penalty.py --steps 500

The generator and the discriminator are ordinary modules; only the marked lines are pydisent's.
"""

import argparse

import torch
from torch import nn
from torch.nn.functional import softplus

import pydisent
from pydisent import data

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=500)
steps = parser.parse_args().steps

torch.manual_seed(0)
m = 8
generator = nn.Sequential(
    nn.Linear(m, 128 * 4 * 4), nn.Unflatten(1, (128, 4, 4)), nn.BatchNorm2d(128), nn.ReLU(),
    nn.ConvTranspose2d(128, 64, 4, 2, 1), nn.BatchNorm2d(64), nn.ReLU(),
    nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
    nn.ConvTranspose2d(32, 1, 4, 2, 1), nn.Sigmoid(),
)  # fmt: skip
discriminator = nn.Sequential(
    nn.Conv2d(1, 32, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(32, 64, 4, 2, 1), nn.LeakyReLU(0.2),
    nn.Conv2d(64, 128, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(128 * 4 * 4, 1),
)  # fmt: skip
g_optimizer = torch.optim.Adam(generator.parameters(), 1e-3, betas=(0.5, 0.99))
d_optimizer = torch.optim.Adam(discriminator.parameters(), 3e-4, betas=(0.5, 0.99))
images = data.load("sprites", image_size=32)
batches = torch.utils.data.DataLoader(images, batch_size=32, shuffle=True)

penalty = pydisent.AlignmentPenalty(k=3, iterations=8, interval=4)  # pydisent: every 4th update

for _, (real, _factors) in zip(range(steps), batches):
    z = torch.randn(len(real), m)
    d_loss = softplus(discriminator(generator(z).detach())).mean()
    d_loss = d_loss + softplus(-discriminator(real)).mean()
    d_optimizer.zero_grad()
    d_loss.backward()
    d_optimizer.step()

    g_loss = softplus(-discriminator(generator(z))).mean()
    g_loss = g_loss + 0.3 * penalty(generator, z)  # pydisent: the penalty
    g_optimizer.zero_grad()
    g_loss.backward()
    g_optimizer.step()

generator.eval()
heat = pydisent.eigenvector_heatmap(generator, torch.randn(32, m))  # Ramesh et al., Eq. 6
print("share of the leading eigenvectors on their own axes:", heat.diagonal()[:3].numpy().round(2))
