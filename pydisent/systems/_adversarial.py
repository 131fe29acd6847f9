"""GAN losses and penalties on discriminator logits, which are high for real images."""

import torch
from torch import Tensor
from torch.nn import functional as F


def generator_loss(fake: Tensor) -> Tensor:
    """Return E[softplus(−D(G(z)))], the non-saturating loss of Goodfellow et al. (2014)."""
    return F.softplus(-fake).mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return E[softplus(−D(x))] + E[softplus(D(G(z)))], the logistic loss."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def smoothed_discriminator_loss(real: Tensor, fake: Tensor, labels: Tensor) -> Tensor:
    """Return the logistic loss with the real images' labels, 1 without smoothing."""
    # Labels above 1 are not probabilities, but Jeon et al. train with them.
    return (F.softplus(real) - labels * real).mean() + F.softplus(fake).mean()


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Return R1, E‖∇D(x)‖² (Mescheder et al. 2018), for images (B, C, H, W) with logits (B,).

    `images` may hold more than the B images of `logits`, which come first.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient[: len(logits)].square().sum((1, 2, 3)).mean()
