"""Generators of images and signals: convolutions, norms, modulation."""

from __future__ import annotations

import math
import warnings

import torch
import torch.nn.functional as F
from _architecture import Calls, M, architecture, perturb
from torch import nn
from torch.nn.utils import parametrizations

from pydisent.nn import SpatialConstriction
from pydisent.ops import band_gate, band_mask, cumax, spatial_constriction

# Convolutional generators


def _dcgan(norm, activation=nn.ReLU, transposed=nn.ConvTranspose2d, wrap=lambda layer: layer):
    return nn.Sequential(
        nn.Unflatten(1, (M, 1, 1)),
        wrap(transposed(M, 8, 2, bias=False)), norm(8), activation(),
        wrap(transposed(8, 6, 4, 2, 1, bias=False)), norm(6), activation(),
        wrap(transposed(6, 2, 4, 2, 1)), nn.Sigmoid(),
    )  # fmt: skip


@architecture
def dcgan_batch_norm_eval():
    return perturb(_dcgan(nn.BatchNorm2d)).eval()


@architecture
def dcgan_batch_norm_training():
    return perturb(_dcgan(nn.BatchNorm2d, lambda: nn.LeakyReLU(0.2))).train()


class TranslatedPReLU(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.leak = nn.Parameter(torch.rand(channels))
        self.shift = nn.Parameter(0.1 * torch.randn(channels))

    def forward(self, x):
        leak, shift = self.leak.clamp(0, 1)[:, None, None], self.shift[:, None, None]
        return torch.where(x > shift, x, leak * (x - shift) + shift)


@architecture
def dcgan_weight_norm_translated_prelu():
    wrap = parametrizations.weight_norm
    return nn.Sequential(
        nn.Unflatten(1, (M, 1, 1)),
        wrap(nn.ConvTranspose2d(M, 8, 2)), TranslatedPReLU(8),
        wrap(nn.ConvTranspose2d(8, 6, 4, 2, 1)), TranslatedPReLU(6),
        wrap(nn.ConvTranspose2d(6, 2, 4, 2, 1)), nn.Sigmoid(),
    )  # fmt: skip


@architecture
def dcgan_old_style_weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return _dcgan(lambda c: nn.Identity(), nn.SiLU, wrap=nn.utils.weight_norm)


@architecture
def dcgan_spectral_norm_eval():
    return _dcgan(lambda c: nn.Identity(), nn.Softplus, wrap=parametrizations.spectral_norm).eval()


@architecture
def spectral_norm_training():
    wrap = parametrizations.spectral_norm
    return nn.Sequential(wrap(nn.Linear(M, 8)), nn.SiLU(), wrap(nn.Linear(8, 6))).train()


class ResidualBlock(nn.Module):
    def __init__(self, channels, norm):
        super().__init__()
        self.first, self.second = norm(channels), norm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        h = F.interpolate(F.silu(self.first(x)), scale_factor=2)
        h = self.conv2(F.silu(self.second(self.conv1(h))))
        return h + F.interpolate(x, scale_factor=2.0, mode="nearest")


def _resnet(norm):
    return nn.Sequential(
        nn.Linear(M, 24), nn.Unflatten(1, (6, 2, 2)), ResidualBlock(6, norm),
        ResidualBlock(6, norm), nn.Conv2d(6, 2, 1), nn.Tanh(),
    )  # fmt: skip


@architecture
def resnet_group_norm():
    return perturb(_resnet(lambda c: nn.GroupNorm(3, c)))


@architecture
def resnet_instance_norm_and_bias():
    return perturb(_resnet(lambda c: nn.InstanceNorm2d(c, affine=True)))


@architecture
def instance_norm_running_eval():
    return perturb(_resnet(lambda c: nn.InstanceNorm2d(c, track_running_stats=True))).eval()


@architecture
def resize_shuffle_and_pad():
    return nn.Sequential(
        nn.Linear(M, 16), nn.Unflatten(1, (4, 2, 2)), nn.SiLU(),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        nn.ReflectionPad2d(1), nn.Conv2d(4, 8, 3), nn.SiLU(), nn.PixelShuffle(2),
        nn.ReplicationPad2d((1, 0, 0, 1)), nn.Conv2d(2, 3, 2), nn.Tanh(),
        nn.Upsample(size=(5, 6), mode="bicubic", align_corners=True), nn.ZeroPad2d(1),
        nn.PixelUnshuffle(1), nn.CircularPad2d(1), nn.Conv2d(3, 2, 3),
    )  # fmt: skip


@architecture
def pooling():
    return nn.Sequential(
        nn.Linear(M, 72), nn.Unflatten(1, (2, 6, 6)), nn.SiLU(), nn.Conv2d(2, 4, 3, padding=1),
        nn.MaxPool2d(2), nn.Tanh(), nn.Conv2d(4, 4, 2, padding=1), nn.AvgPool2d(2),
        nn.SiLU(), nn.AdaptiveAvgPool2d(2), nn.Conv2d(4, 4, 1), nn.AdaptiveMaxPool2d((1, 2)),
        nn.Flatten(),
    )  # fmt: skip


@architecture
def grouped_depthwise_dilated():
    return nn.Sequential(
        nn.Linear(M, 100), nn.Unflatten(1, (4, 5, 5)), nn.SiLU(),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2), nn.SiLU(),
        nn.ConvTranspose2d(6, 4, 3, 2, 1, 1, groups=2, dilation=1), nn.ChannelShuffle(2),
        nn.Conv2d(4, 2, 3, 2, padding_mode="reflect", padding=1), nn.Tanh(),
        nn.Conv2d(2, 2, 3, padding="same", padding_mode="circular"),
    )  # fmt: skip


@architecture
def conv1d_net():
    return nn.Sequential(
        nn.Linear(M, 18), nn.Unflatten(1, (3, 6)), nn.Tanh(), nn.Conv1d(3, 4, 3, padding=1),
        nn.GroupNorm(2, 4), nn.SiLU(), nn.ConvTranspose1d(4, 2, 4, 2, 1), nn.BatchNorm1d(2).eval(),
        nn.MaxPool1d(2), nn.Upsample(scale_factor=2, mode="linear"), nn.Tanh(),
    )  # fmt: skip


@architecture
def conv3d_net():
    return nn.Sequential(
        nn.Linear(M, 16), nn.Unflatten(1, (2, 2, 2, 2)), nn.SiLU(), nn.ConvTranspose3d(2, 3, 2, 2),
        nn.InstanceNorm3d(3), nn.SiLU(), nn.Conv3d(3, 2, (1, 2, 3)), nn.AvgPool3d((1, 1, 2)),
    )  # fmt: skip


@architecture
def modulated_convolution():
    # StyleGAN2: a demodulated kernel a sample, the batch folded into one convolution's groups.
    class Generator(nn.Module):
        def __init__(self):
            super().__init__()
            self.constant = nn.Parameter(torch.randn(4, 3, 3))
            self.style = nn.Linear(M, 4)
            self.weight = nn.Parameter(torch.randn(5, 4, 3, 3) / 6)
            self.bias = nn.Parameter(torch.randn(5))
            self.strength = nn.Parameter(torch.tensor(0.3))
            self.register_buffer("noise", torch.randn(1, 1, 6, 6))
            self.image = nn.Conv2d(5, 2, 1)

        def forward(self, z):
            b = z.shape[0]
            w = self.weight[None] * (self.style(z) + 1)[:, None, :, None, None]
            w = w * (w.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
            x = F.interpolate(self.constant.expand(b, -1, -1, -1), scale_factor=2)
            x = x.reshape(1, b * 4, 6, 6)
            x = F.conv2d(x, w.reshape(b * 5, 4, 3, 3), padding=1, groups=b).reshape(b, 5, 6, 6)
            x = x + self.strength * self.noise + self.bias[:, None, None]
            return self.image(F.leaky_relu(x, 0.2) * math.sqrt(2))

    return Generator()


@architecture
def adaptive_instance_norm():
    def forward(self, z):
        x = self.conv(F.silu(self.start(z).unflatten(1, (3, 4, 4))))
        scale, shift = self.style(z).unflatten(1, (2, 4, 1, 1)).unbind(1)
        x = F.instance_norm(x) * (1 + scale) + shift
        return self.last(F.silu(x))

    return Calls(
        forward, start=nn.Linear(M, 48), conv=nn.Conv2d(3, 4, 3), style=nn.Linear(M, 8),
        last=nn.Conv2d(4, 2, 1),
    )  # fmt: skip


def _constricted(mask):
    def forward(self, z):
        x = self.conv(F.silu(self.start(z).unflatten(1, (3, 3, 5))))
        return self.last(F.silu(self.constriction(x, z[:, :2])))

    return Calls(
        forward, start=nn.Linear(M, 45), conv=nn.Conv2d(3, 4, 3, padding=1),
        constriction=perturb(SpatialConstriction(4, 3, 5, codes=2, rectangles=2, mask=mask)),
        last=nn.Conv2d(4, 2, 1),
    )  # fmt: skip


@architecture
def spatially_constricted():
    return _constricted("band")


@architecture
def spatially_constricted_by_softmax():
    return _constricted("softmax")


@architecture
def constriction_of_constants():
    """One argument of each op moves, and the others are constant; at last no code at all."""

    def forward(self, z):
        expand = lambda x: x.expand(len(z), *x.shape[1:])
        x = expand(self.map.weight.view(1, 2, 3, 4))
        masks = expand(torch.sigmoid(self.masks.weight).view(1, 2, 3, 4))
        shifts = expand(self.shifts.weight.view(1, 2, 2))
        x = spatial_constriction(x, masks, self.scales(z).unflatten(1, (2, 2)), shifts)
        rise, fall = self.gate(z).chunk(2, 1)
        x = x * band_gate(rise, fall)[:, None, None] + cumax(fall)[:, None, None]
        table = expand(self.masks.weight.view(1, 2, 12))
        by_width = band_mask(
            table[..., :3], table[..., 3:6], rise[:, None].expand(-1, 2, -1), table[..., 6:10]
        )
        by_height = band_mask(
            table[..., :3], fall[:, None, :3].expand(-1, 2, -1), table[..., 4:8], table[..., 6:10]
        )
        x = x + by_width[:, None] - by_height[:, None]
        none = x.new_empty(len(z), 0, 2)
        return spatial_constriction(x, x[:, :0], none, none)

    return Calls(
        forward, map=nn.Embedding(2, 12), masks=nn.Embedding(2, 12), scales=nn.Linear(M, 4),
        shifts=nn.Embedding(2, 2), gate=nn.Linear(M, 8),
    )  # fmt: skip


@architecture
def spatial_transformer():
    def forward(self, z):
        canvas = torch.tanh(self.canvas(z)).unflatten(1, (2, 5, 5))
        theta = self.where(z).unflatten(1, (2, 3)) * 0.3 + torch.eye(2, 3, dtype=z.dtype)
        grid = F.affine_grid(theta, [z.shape[0], 2, 4, 4], align_corners=False)
        return F.grid_sample(canvas, grid, align_corners=False)

    return Calls(forward, canvas=nn.Linear(M, 50), where=nn.Linear(M, 6))


# Sequences
