"""Training steps in plain PyTorch, as baselines for ours.

Initial weights are those of one of our systems. For beta-vae and ib-gan the networks consist of
torch's own layers, as in the papers' tables, in torch's usual memory layout; the loops follow the
papers, with torch's losses and optimisers at their defaults.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pydisent.nn import DoublingConvTranspose2d, HalvingConv2d, IBGANGenerator, IBGANHead
from pydisent.systems import System
from pydisent.systems.beta_vae import BetaVAE
from pydisent.systems.ib_gan import IBGAN

Step = Callable[[Tensor], dict[str, Tensor]]


def usual_layout(module: nn.Module) -> nn.Module:
    """A copy of the module with its weights in torch's usual layout."""
    return copy.deepcopy(module).to(memory_format=torch.contiguous_format)


def plain_network(module: nn.Module) -> nn.Module:
    """A copy of a network with the same weights, made of torch's own layers."""
    if isinstance(module, IBGANHead):
        return _published_head(module)
    if isinstance(module, IBGANGenerator):
        return _published_generator(module)
    plain = usual_layout(module)
    for layer in plain.modules():
        if isinstance(layer, DoublingConvTranspose2d):
            layer.__class__ = nn.ConvTranspose2d
        elif isinstance(layer, HalvingConv2d):
            layer.__class__ = nn.Conv2d
        elif isinstance(layer, nn.ReLU):
            layer.inplace = False
    return plain


def _published_head(head: IBGANHead) -> nn.Module:
    """As in Jeon et al., Tables 4 to 6: the last convolution covers its whole map."""
    plain = usual_layout(head)
    product, norm, slope, last = plain.dense
    channels = plain.layers[-2].num_features
    side = round((product.in_features / channels) ** 0.5)
    convolution = nn.Conv2d(channels, product.out_features, side, bias=False)
    normalised = nn.BatchNorm2d(norm.num_features)
    with torch.no_grad():
        by_pixel = product.weight.unflatten(1, (side, side, channels))
        convolution.weight.copy_(by_pixel.permute(0, 3, 1, 2))
    normalised.load_state_dict(norm.state_dict())
    made = nn.Sequential(*plain.layers, convolution, normalised, slope, nn.Flatten(), last)
    return made.to(product.weight.device)


def _published_generator(generator: IBGANGenerator) -> nn.Module:
    """As in Jeon et al., with the dense layers' features in the usual order."""
    dense, layers = plain_network(generator.dense), plain_network(generator.layers)
    product, norm = dense[-3], dense[-2]
    side = generator.start

    def reordered(by_pixel: Tensor) -> Tensor:
        return by_pixel.unflatten(0, (side * side, -1)).transpose(0, 1).flatten(0, 1)

    with torch.no_grad():
        for values in (product.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var):
            values.copy_(reordered(values))
    return nn.Sequential(dense, nn.Unflatten(1, (-1, side, side)), layers)


def beta_vae(system: BetaVAE) -> Step:
    """Higgins et al. (2017)."""
    encoder, decoder = plain_network(system.encoder), plain_network(system.decoder)
    c = system.config
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], c.learning_rate)

    def step(x: Tensor) -> dict[str, Tensor]:
        mu, logvar = encoder(x).chunk(2, dim=1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        logits = decoder(z)
        reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()
        loss = reconstruction + c.beta * kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach(), "reconstruction": reconstruction.detach(), "kl": kl.detach()}

    return step


def ib_gan(system: IBGAN) -> Step:
    """Jeon et al. (2021), in the order of PyTorch's DCGAN tutorial: D on real and fake, then G."""
    nets = {name: plain_network(net) for name, net in system.named_children()}
    encoder, generator = nets["encoder"], nets["generator"]
    front, discriminator, reconstructor = (
        nets[name] for name in ("front", "discriminator", "reconstructor")
    )
    c = system.config
    momentum = c.rmsprop_momentum
    d_weights = [*front.parameters(), *discriminator.parameters()]
    g_weights = [*generator.parameters(), *encoder.parameters(), *reconstructor.parameters()]
    d_optimizer = torch.optim.RMSprop(d_weights, c.discriminator_learning_rate, momentum=momentum)
    g_optimizer = torch.optim.RMSprop(g_weights, c.learning_rate, momentum=momentum)
    bce, count = F.binary_cross_entropy_with_logits, 0

    def noisy(images: Tensor) -> Tensor:
        std = c.noise_start + (c.noise_end - c.noise_start) * min(1, count / c.noise_steps)
        noise = torch.randn(images.shape, device=images.device)
        return (images + std * noise).clamp(-1, 1)

    def step(x: Tensor) -> dict[str, Tensor]:
        nonlocal count
        z = torch.randn(len(x), c.noise_size, device=x.device)
        mu, logvar = encoder(z)
        r = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        fake = noisy(generator(r))
        d_fake = discriminator(front(fake.detach()))
        d_real = discriminator(front(noisy(2 * x - 1)))
        d_loss = bce(d_real, torch.ones_like(d_real)) + bce(d_fake, torch.zeros_like(d_fake))
        d_optimizer.zero_grad()
        d_loss.backward()
        d_gradients = [weight.grad for weight in d_weights]

        features = front(fake)
        logits = discriminator(features)
        g_loss = bce(logits, torch.ones_like(logits))
        lower = 0.5 * (z.pow(2) - (z - reconstructor(features)).pow(2)).sum(1).mean()
        kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()
        g_optimizer.zero_grad()
        d_optimizer.zero_grad()
        (c.gamma * g_loss - lower + c.beta * kl).backward()
        # Both steps start from the same weights, as in ours: D's step would change the gradient
        # above.
        for weight, gradient in zip(d_weights, d_gradients):
            weight.grad = gradient
        d_optimizer.step()
        g_optimizer.step()
        count += 1
        terms = {"discriminator": d_loss, "generator": g_loss, "mi_lower": lower, "mi_upper": kl}
        return {name: term.detach() for name, term in terms.items()}

    return step


def stripped(system: System) -> Step:
    """The system itself without its optimisations: layout, fused steps, compiled kernels."""
    plain = usual_layout(system)
    for optimizer in plain.optimizers.values():
        for group in optimizer.param_groups:
            group["fused"], group["foreach"] = False, False

    def step(*batch: Tensor) -> dict[str, Tensor]:
        before = os.environ.get("PYDISENT_IMPL")
        os.environ["PYDISENT_IMPL"] = "reference"
        try:
            return plain.step(*batch)
        finally:
            del os.environ["PYDISENT_IMPL"]
            if before is not None:
                os.environ["PYDISENT_IMPL"] = before

    return step


def plain_loop(system: System) -> Step:
    """The plain step of a system, with its current weights."""
    if system.name == "beta-vae":
        return beta_vae(system)
    if system.name == "ib-gan":
        return ib_gan(system)
    return stripped(system)
