"""The spatial constriction of Zhu et al. (2021), Eqs. 1-7: a latent code acts inside a mask."""

import torch
from torch import Tensor, nn

from pydisent._checks import check_batch, check_counts, check_number, check_one_of, shape_error
from pydisent.nn.equalized import EqualizedConv2d, EqualizedLinear
from pydisent.ops import band_gate, band_mask, spatial_constriction

MASKS = ("band", "softmax")


class CumaxGate(nn.Module):
    """Make a band gate (B, length) in [0, 1] from pooled features (B, features) (Eqs. 1-3).

    One bias-free equalised dense layer gives the logits v1 and v2 of
    g = cumax(v1) (1 − cumax(v2)); the gate's last entry is always 0.

    Parameters
    ----------
    features : int
        Size of the pooled feature vector.
    length : int
        Size of the gate, the height or width of a feature map.

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1.
    """

    def __init__(self, features: int, length: int) -> None:
        super().__init__()
        check_counts(features=features, length=length)
        self.logits = EqualizedLinear(features, 2 * length, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return the gate (B, length) for features (B, features)."""
        check_batch("features", features, self.logits.weight.shape[1])
        rise, fall = self.logits(features).chunk(2, dim=-1)
        return band_gate(rise, fall)


class BandMask(nn.Module):
    """Learn masks (B, codes, height, width) in [0, 1] from a feature map (Eqs. 1-5).

    "band": one bias-free equalised dense layer maps the spatial mean to the logits of four gates
    per rectangle; a mask is the mean over its rectangles of (rise_h · fall_h) ⊗ (rise_w · fall_w).
    Its last row and column are always 0, and at equal logits it peaks at 1/16, slightly lower if
    the height or width is odd.

    "softmax", the paper's ablation (Table 4) as in the authors' code: one bias-free equalised 3×3
    convolution of the map, then a softmax over all pixels. Such a mask sums to 1.

    Parameters
    ----------
    channels, height, width : int
        Sizes of the feature map; the width is the height if not given.
    codes : int
        Number N of latent codes, with one mask each.
    rectangles : int
        Number J of rectangles per mask; ignored by "softmax".
    kind : str
        "band" or "softmax".

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1, or `kind` is another name.
    """

    def __init__(
        self,
        channels: int,
        height: int,
        width: int | None = None,
        *,
        codes: int = 1,
        rectangles: int = 4,
        kind: str = "band",
    ) -> None:
        super().__init__()
        width = height if width is None else width
        check_counts(channels=channels, height=height, width=width)
        check_counts(codes=codes, rectangles=rectangles)
        check_one_of("kind", kind, MASKS)
        self.map_shape = (channels, height, width)
        self.codes, self.rectangles, self.kind = codes, rectangles, kind
        self.logits: nn.Module
        if kind == "band":
            outputs = codes * rectangles * 2 * (height + width)
            self.logits = EqualizedLinear(channels, outputs, bias=False)
        else:
            self.logits = EqualizedConv2d(channels, codes, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the masks (B, codes, height, width) for maps x (B, channels, height, width)."""
        check_batch("x", x, *self.map_shape)
        _, height, width = self.map_shape
        if self.kind == "softmax":
            logits = self.logits(x).flatten(2)
            return torch.softmax(logits, dim=-1).unflatten(-1, (height, width))
        logits = self.logits(x.mean((2, 3)))
        logits = logits.unflatten(1, (self.codes, self.rectangles, 2 * (height + width)))
        return band_mask(*logits.split((height, height, width, width), dim=-1))

    def extra_repr(self) -> str:
        """Return the sizes."""
        shape = ", ".join(map(str, self.map_shape))
        return f"{shape}, codes={self.codes}, rectangles={self.rectangles}, kind={self.kind!r}"


class SpatialConstriction(nn.Module):
    """Let each latent code restyle a feature map inside its own learned mask (Eqs. 6-7).

    x̂ is the map, instance-normalised once. Each code is a scalar c_n, mapped by its own dense
    layer to a scale s_n and shift b_n (C,). For each code in turn, with the masks m_n of
    :class:`BandMask`, x ← x (1 − m_n) + (x̂ (s_n + 1) + b_n) m_n.

    Parameters
    ----------
    channels, height, width : int
        Sizes of the feature map; the width is the height if not given.
    codes : int
        Number N of latent codes.
    rectangles : int
        Number J of rectangles per mask.
    mask : str
        "band", or "softmax" for the paper's ablation.
    eps : float
        Added to the variance.

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1, `mask` is another name, or `eps` is not above 0.
    """

    def __init__(
        self,
        channels: int,
        height: int,
        width: int | None = None,
        *,
        codes: int = 1,
        rectangles: int = 4,
        mask: str = "band",
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        check_one_of("mask", mask, MASKS)
        check_number("eps", eps, above=0)
        self.mask = BandMask(channels, height, width, codes=codes, rectangles=rectangles, kind=mask)
        # A code is one number, so a layer's fan-in is 1 and its weights need no scaling.
        self.style = nn.Parameter(torch.randn(codes, 2, channels))
        self.style_bias = nn.Parameter(torch.zeros(codes, 2, channels))
        self.eps = float(eps)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Return the restyled map for x (B, channels, height, width) and code (B, codes)."""
        return self.with_masks(x, code)[0]

    def with_masks(self, x: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """Return the restyled map and the masks (B, codes, height, width) used for it.

        Raises
        ------
        ValueError
            If the shape of the map or the code is not the one that the layer was made for.
        """
        check_batch("x", x, *self.mask.map_shape)
        shape = (x.shape[0], self.mask.codes)
        if tuple(code.shape) != shape:
            raise shape_error("code", shape, code)
        masks = self.mask(x)
        style = code[:, :, None, None] * self.style + self.style_bias
        scales, shifts = 1 + style[:, :, 0], style[:, :, 1]
        return spatial_constriction(x, masks, scales, shifts, self.eps), masks

    def extra_repr(self) -> str:
        """Return eps, which is added to the variance."""
        return f"eps={self.eps}"
