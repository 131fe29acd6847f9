"""Other projects' generators at tiny size."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _checkouts import imported, importing, of_script
from torch import Tensor, nn

CODE = 8
CLASSES = 5

Function = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Public:
    """A generator: how to make it, and the function of codes (B, size) that it is.

    ``make(checkout)`` returns the module. ``double`` is False if it computes in float32 only.
    """

    repository: str
    make: Callable[[Path], nn.Module]
    function: Callable[[nn.Module], Function] = lambda network: network
    size: int = CODE
    double: bool = True

    def checkout(self, checkouts: Path) -> Path:
        """The folder of the repository, named after it."""
        return checkouts / self.repository.split("/")[1]


# -- arguments besides the code ------------------------------------------------------------------


def _labels(z: Tensor) -> Tensor:
    return torch.ones(len(z), dtype=torch.long)


def _one_hot(z: Tensor) -> Tensor:
    return nn.functional.one_hot(_labels(z), CLASSES).to(z)


def _labelled(network: nn.Module) -> Function:
    return lambda z: network(z, _labels(z))


def _embedded(network: Any) -> Function:
    return lambda z: network(z, network.shared(_labels(z)))


def _first(network: nn.Module) -> Function:
    return lambda z: network(z)[0]


def _decoded(network: Any) -> Function:
    return lambda z: network.decode(z)


def _with_fixed_noise(network: Any, **settings: Any) -> Function:
    sizes = [2 ** (2 + (i + 1) // 2) for i in range(network.num_layers)]
    noise = [torch.randn(1, 1, size, size) for size in sizes]
    return lambda z: network([z], noise=[n.to(z) for n in noise], **settings)[0]


# -- the generators ------------------------------------------------------------------------------


def _pytorch_gan() -> dict[str, Public]:
    public = partial(Public, "eriklindernoren/PyTorch-GAN")

    def script(name: str, kind: str = "Generator", *args: Any) -> Callable[[Path], nn.Module]:
        path = f"implementations/{name}/{name.replace('_', '')}.py"
        return of_script(
            path, kind, *args, latent_dim=CODE, channels=1, img_size=32, n_classes=CLASSES,
            num_classes=CLASSES, code_dim=2,
        )  # fmt: skip

    found = {name: public(script(name)) for name in ("gan", "dcgan", "sgan")}
    found |= {name: public(script(name), _labelled) for name in ("cgan", "acgan")}
    found["cogan"] = public(
        script("cogan", "CoupledGenerators"), lambda network: lambda z: torch.cat(network(z), 1)
    )
    found["infogan"] = public(
        script("infogan"),
        lambda network: lambda z: network(z, _one_hot(z), z.new_ones(len(z), 2)),
    )
    found["aae"] = public(script("aae", "Decoder"))
    found["clustergan"] = public(
        script("cluster_gan", "Generator_CNN", CODE, CLASSES, (1, 28, 28)),
        lambda network: lambda z: network(z, _one_hot(z)),
    )
    return {f"PyTorch-GAN {name}": value for name, value in found.items()}


def _biggan() -> dict[str, Public]:
    settings = {
        "resolution": 32, "n_classes": CLASSES, "G_attn": "0", "shared_dim": CODE,
        "G_shared": True, "hier": True, "G_ch": 4, "dim_z": 16,
    }  # fmt: skip
    deep = {**settings, "G_ch": 8, "dim_z": CODE}
    public = partial(Public, "ajbrock/BigGAN-PyTorch", function=_embedded)
    return {
        "BigGAN": public(imported("BigGAN", "Generator", **settings), size=16),
        "BigGAN, own batch norm": public(
            imported("BigGAN", "Generator", **settings, mybn=True), size=16
        ),
        "BigGAN-deep": public(imported("BigGANdeep", "Generator", **deep)),
    }


def _stylegan() -> dict[str, Public]:
    two = partial(Public, "rosinality/stylegan2-pytorch")
    two_network = imported("model", "Generator", CODE, CODE, 2, channel_multiplier=1)
    nvidia = partial(Public, "NVlabs/stylegan3", double=False)
    settings = {
        "z_dim": CODE, "c_dim": 0, "w_dim": CODE, "img_resolution": 16, "img_channels": 3,
        "mapping_kwargs": {"num_layers": 2}, "channel_base": 256, "num_fp16_res": 0,
    }  # fmt: skip
    second = {**settings, "channel_max": 16}
    third = {**settings, "channel_max": 8, "num_layers": 4, "margin_size": 4}

    def without_noise(network: nn.Module) -> Function:
        return lambda z: network(z, None, noise_mode="const", force_fp32=True)

    module = "training.networks_stylegan2"
    return {
        "StyleGAN2 (rosinality)": two(two_network, _with_fixed_noise),
        "StyleGAN2 (rosinality), synthesis": two(
            two_network, partial(_with_fixed_noise, input_is_latent=True)
        ),
        "StyleGAN2 (NVlabs)": nvidia(imported(module, "Generator", **second), without_noise),
        "StyleGAN2 (NVlabs), unfused": nvidia(
            imported(module, "Generator", **second, fused_modconv_default=False), without_noise
        ),
        "StyleGAN3": nvidia(
            imported("training.networks_stylegan3", "Generator", **third),
            lambda network: lambda z: network(z, None, force_fp32=True),
        ),
    }


def _gan_zoo() -> dict[str, Public]:
    networks = "models.networks."

    def grown(make: Callable[[Path], Any], alpha: float) -> Callable[[Path], nn.Module]:
        def grow(checkout: Path) -> nn.Module:
            network = make(checkout)
            for _ in range(2):
                network.addScale(CODE)
            network.setNewAlpha(alpha)
            return network

        return grow

    progressive = imported(networks + "progressive_conv_net", "GNet", CODE, CODE)
    style = imported(
        networks + "styleGAN", "GNet", dimInput=CODE, dimMapping=CODE, nMappingLayers=2
    )
    public = partial(Public, "facebookresearch/pytorch_GAN_zoo")
    return {
        "GAN zoo PGAN": public(grown(progressive, 0.5)),
        "GAN zoo StyleGAN": public(grown(style, 0.0), double=False),
        "GAN zoo DCGAN": public(imported(networks + "DCGAN_nets", "GNet", CODE, 3, CODE, 2)),
    }


def _mimicry() -> dict[str, Public]:
    public, small = partial(Public, "kwotsin/mimicry"), {"nz": CODE, "ngf": 8}
    nets, labels = "torch_mimicry.nets.", {"num_classes": CLASSES}
    return {
        "mimicry SNGAN": public(imported(nets + "sngan.sngan_32", "SNGANGenerator32", **small)),
        "mimicry WGAN-GP": public(
            imported(nets + "wgan_gp.wgan_gp_32", "WGANGPGenerator32", **small)
        ),
        "mimicry cGAN-PD": public(
            imported(nets + "cgan_pd.cgan_pd_32", "CGANPDGenerator32", **small, **labels),
            _labelled,
        ),
    }


def _nflows() -> dict[str, Public]:
    features = 6

    def make(build: Callable[[Any, Callable], nn.Module]) -> Callable[[Path], nn.Module]:
        def network(checkout: Path) -> nn.Module:
            with importing(checkout):
                transforms = importlib.import_module("nflows.transforms")
                nets = importlib.import_module("nflows.nn.nets")
                residual = partial(nets.ResidualNet, hidden_features=16, num_blocks=1)
                return build(transforms, residual)

        return network

    mask = torch.arange(features) % 2
    public = partial(Public, "bayesiains/nflows", size=features)
    maf = make(lambda t, _: t.MaskedAffineAutoregressiveTransform(features, 16))
    flows = {
        "affine coupling": lambda t, net: [
            t.AffineCouplingTransform(mask, net), t.ReversePermutation(features),
        ],
        "spline coupling": lambda t, net: [
            t.PiecewiseRationalQuadraticCouplingTransform(mask, net, num_bins=4, tails="linear"),
        ],
        "MAF": lambda t, _: [
            t.MaskedAffineAutoregressiveTransform(features, 16), t.ReversePermutation(features),
        ],
        "Glow": lambda t, net: [t.LULinear(features), t.AffineCouplingTransform(mask, net)],
    }  # fmt: skip
    found = {
        name: public(make(lambda t, net, parts=parts: t.CompositeTransform(parts(t, net))), _first)
        for name, parts in flows.items()
    }
    found["MAF, inverse"] = public(maf, lambda network: lambda z: network.inverse(z)[0])
    return {f"nflows {name}": value for name, value in found.items()}


GENERATORS: dict[str, Public] = {
    **_pytorch_gan(),
    **_biggan(),
    **_stylegan(),
    **_gan_zoo(),
    **_mimicry(),
    **_nflows(),
    "PyTorch-VAE decoder": Public(
        "AntixK/PyTorch-VAE",
        imported("models.beta_vae", "BetaVAE", 3, CODE, [16, 512]),
        _decoded,
    ),
    "IB-GAN": Public(
        "insujeon/IB-GAN",
        imported("model.model", "Generator", CODE, CODE, 1, 4),
        lambda network: lambda z: network(r0=z),
    ),
}
