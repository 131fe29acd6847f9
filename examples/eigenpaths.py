"""Pictures along the leading eigenvectors of your generator's Jacobian, trained or not.

    python examples/eigenpaths.py --out paths.png

Put your own generator in place of ``load``: any callable from codes (B, m) to images (B, C, H, W).
"""

import argparse
from pathlib import Path

import torch
from PIL import Image

import pydisent
from pydisent.nn import DCGANGenerator


def load():
    """Return a generator and codes to start from."""
    torch.manual_seed(0)
    generator = DCGANGenerator(latent_size=16, channels=3, base=16, image_size=32).eval()
    return generator, torch.randn(1, 16)


parser = argparse.ArgumentParser()
parser.add_argument("--out", type=Path, default=Path("paths.png"))
parser.add_argument("--steps", type=int, default=40)
args = parser.parse_args()

generator, z = load()
generator.requires_grad_(False)
paths = pydisent.trace_eigenpath(generator, z, ordinals=[1, 2, 3], step_size=0.1, steps=args.steps)
shown = paths[:, 0, :: max(1, args.steps // 8)]  # (3, n, m): every few steps
with torch.no_grad():
    images = torch.stack([generator(path) for path in shown]).clamp(0, 1)  # (3, n, C, H, W)
rows, columns, _, height, width = images.shape
sheet = images.permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, -1)
Image.fromarray((255 * sheet).byte().numpy()).save(args.out)

spectrum = torch.linalg.eigvalsh(pydisent.linearize(generator, z).gram_matrix()[0]).flip(0)
print(f"wrote {args.out}; leading eigenvalues of J'J: {spectrum[:4].numpy().round(3)}")
