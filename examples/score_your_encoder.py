"""Score any encoder on rendered data with known factors: a hand-written one, and its rotation.

python examples/score_your_encoder.py
"""

import argparse

import numpy as np
import torch

from pydisent import data, metrics

parser = argparse.ArgumentParser()
parser.add_argument("--images", type=int, default=4000)
count = parser.parse_args().images

sprites = data.load("sprites", image_size=32)


def centre_and_mass(images):
    """A hand-written encoder: where the shape is, and how large."""
    mass = images.sum((1, 2, 3))
    grid = torch.linspace(-1, 1, images.shape[-1])
    x = (images.sum((1, 2)) * grid).sum(1) / mass
    y = (images.sum((1, 3)) * grid).sum(1) / mass
    return torch.stack([x, y, mass.log()], 1)


rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0))).Q
encoders = {
    "position and size": centre_and_mass,
    "the same, rotated": lambda images: centre_and_mass(images) @ rotation,
}
for name, encode in encoders.items():
    codes = metrics.encode_once(encode, sprites, max_images=count)
    table = metrics.sample_codes(codes.encode, codes, train=count // 2, test=count // 4)
    scores = {
        "MIG": metrics.mig(*table[:2]).score,
        "SAP": metrics.sap(*table).score,
        "modularity": metrics.modularity(*table[:2]).score,
        "FactorVAE": metrics.factor_vae_score(
            codes.encode, codes, train_votes=1000, eval_votes=500
        ).score,
    }
    print(f"{name}:", {key: float(np.round(value, 2)) for key, value in scores.items()})
