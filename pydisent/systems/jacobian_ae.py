"""Progressive discovery of factors by Jacobian supervision (Lezama 2019, sec. 3)."""

import copy
import math
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from pydisent import parallel
from pydisent.losses import cross_covariance_penalty, jacobian_supervision
from pydisent.losses.jacobian_supervision import Variant
from pydisent.nn import (
    CodeDecoder,
    CodeEncoder,
    conv_decoder,
    conv_encoder,
    fold_batch_norm,
    mlp_decoder,
    mlp_encoder,
)
from pydisent.systems._base import Preset, System, register
from pydisent.systems._config import require, require_one_of
from pydisent.systems._ranges import stage

NETWORKS = ("mlp", "conv")
CROSS_COVARIANCES = ("published", "author_code")


@dataclass(frozen=True)
class JacobianAEConfig:
    """The paper's settings.

    Attributes
    ----------
    factors : int
        Size k of the first teacher's code.
    nuisance : int
        Units d that are added to it, one a stage; 0 trains the first teacher alone.
    network : str
        "mlp" (App. A.1: dense layers of 256, 128 and 64) or "conv" (App. A.5: convolutions of 64,
        128 and 256 maps).
    base : int
        64, the narrowest layer; the others are its multiples.
    supervision : bool
        Whether students are supervised; otherwise they have only the cross-covariance.
    variant : str
        Of the supervision: "published" (Eq. 9) or "exact" (Eq. 7, on the Jacobian itself).
    weight_y, weight_diff, weight_cross_covariance : float
        λ_y, λ_diff and λ_xcov. Squared errors are means over batch and numbers, as in the author's
        code.
    cross_covariance : str
        "published", Eq. 10, or "author_code", its square root.
    batch_size : int
        Images an update.
    learning_rate, weight_decay : float
        Adam's.
    """

    factors: int = 2
    nuisance: int = 14
    network: str = "mlp"
    base: int = 64
    supervision: bool = True
    variant: str = "published"
    weight_y: float = 0.25
    weight_diff: float = 0.1
    weight_cross_covariance: float = 1e-3
    cross_covariance: str = "published"
    batch_size: int = 128
    learning_rate: float = 3e-4
    weight_decay: float = 1e-6

    def __post_init__(self) -> None:
        require(self, ("factors", "base"), lambda v: v >= 1, ">= 1")
        require(self, ("batch_size",), lambda v: v >= 2, ">= 2, as the code is normalised")
        require(self, ("nuisance",), lambda v: v >= 0, ">= 0")
        require(self, ("learning_rate",), lambda v: 0 < v < math.inf, "> 0")
        weights = ("weight_y", "weight_diff", "weight_cross_covariance", "weight_decay")
        require(self, weights, lambda v: 0 <= v < math.inf, ">= 0")
        require_one_of(self, "network", NETWORKS)
        require_one_of(self, "variant", ("published", "exact"))
        require_one_of(self, "cross_covariance", CROSS_COVARIANCES)


class Autoencoder(nn.Module):
    """Images (N, C, H, W) to codes (N, h) and back; `norm` follows the encoder, if it is there."""

    def __init__(self, encoder: CodeEncoder, decoder: CodeDecoder, code_size: int) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.norm: nn.Module = nn.BatchNorm1d(code_size, affine=False)

    def encode(self, x: Tensor) -> Tensor:
        """Return codes (N, h)."""
        return self.norm(self.encoder(x))

    def decode(self, code: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1]."""
        return self.decoder(code)

    @torch.no_grad()
    def grow(self) -> None:
        """Add a unit to the code; without it, all stays as it is in eval mode.

        The first teacher's batch norm, which students have not, becomes a part of the encoder.
        """
        if isinstance(self.norm, nn.BatchNorm1d):
            fold_batch_norm(self.encoder.head, self.norm)
            self.norm = nn.Identity()
        self.encoder.grow()
        self.decoder.grow()


@register
class JacobianAE(System):
    """An autoencoder that grows unit by unit and keeps what its earlier units do.

    The first teacher has k units. Each stage makes a student of it with one unit more, z, and
    trains that by ‖x − x̂‖² + L_jac + λ_xcov L_xcov (Eqs. 8-10); all earlier units are its factors
    y. It is the next stage's teacher. The code is (y, z), in the order in which units came.

    Parameters
    ----------
    config : JacobianAEConfig
        The settings; the paper's by default.
    image_shape : tuple of int
        (C, H, W), square; for "conv" with H a multiple of 8.
    """

    name: ClassVar[str] = "jacobian-ae"
    Config: ClassVar[type] = JacobianAEConfig
    config: JacobianAEConfig
    code_std: Tensor

    def __init__(self, config: JacobianAEConfig, image_shape: tuple[int, int, int]) -> None:
        super().__init__(config, image_shape)
        self.model = self._first_model()
        self.teacher: Autoencoder | None = None
        # Of the codes of the batches, for `sample_code`.
        self.register_buffer("code_std", torch.ones(config.factors + config.nuisance))

    def _first_model(self) -> Autoencoder:
        c, base = self.config, self.config.base
        if c.network == "conv" and self.image_shape[1] % 8:
            raise ValueError(f"image_shape is {self.image_shape}; accepted by conv: multiples of 8")
        if c.network == "mlp":
            encoder_of, decoder_of, widths = mlp_encoder, mlp_decoder, (4 * base, 2 * base, base)
        else:
            encoder_of, decoder_of, widths = conv_encoder, conv_decoder, (base, 2 * base, 4 * base)
        encoder = encoder_of(c.factors, self.image_shape, widths)
        return Autoencoder(encoder, decoder_of(c.factors, self.image_shape, widths), c.factors)

    def make_optimizers(self) -> dict[str, Optimizer]:
        """Return Adam for the autoencoder of this stage."""
        c = self.config
        adam = torch.optim.Adam(
            self.model.parameters(), c.learning_rate, weight_decay=c.weight_decay, fused=True
        )
        return {"autoencoder": adam}

    @classmethod
    def preset(cls, name: str, data_name: str) -> Preset:
        """Return the settings of `name`: smoke, quick or paper."""
        settings: dict[str, Any] = dict(_SETTINGS[name])
        if data_name in _PHOTOGRAPHS:  # App. A.5
            settings |= {"network": "conv", "weight_y": 0.025, "weight_diff": 0.01}
            settings |= {"nuisance": 16} if name != "smoke" else {"base": 4}
        return Preset(cls.Config(**settings), **_SIZES[name])

    def phases(self, steps: int) -> tuple[tuple[str, int], ...]:
        """Return the first teacher's phase and one for each unit that is added, of equal length."""
        students = (f"student-{d}" for d in range(1, self.config.nuisance + 1))
        return tuple((phase, steps) for phase in ("teacher", *students))

    def start_phase(self, phase: str) -> None:
        """Make the model so far the teacher, and a student of it with one unit more.

        Raises
        ------
        ValueError
            If it is not the teacher's phase, or the one that is next.
        """
        names, grown = [name for name, _ in self.phases(1)], self.code_size - self.config.factors
        accepted = [*(names[:1] if grown == 0 else []), *names[grown + 1 : grown + 2]]
        if phase not in accepted:
            told = ", ".join(accepted) or "none, all are done"
            raise ValueError(f"phase is {phase!r}; accepted now: {told}")
        super().start_phase(phase)
        if phase == "teacher":
            return
        self.teacher = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.model.grow()
        self.optimizers = None

    def train(self, mode: bool = True) -> "JacobianAE":
        """Set the mode; the teacher stays in eval mode."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    @stage("autoencoder")
    def update(self, batch: Tensor) -> dict[str, Tensor]:
        """Update the current model once on images (B, C, H, W)."""
        code = self.model.encode(batch)
        images = self.model.decode(code)
        reconstruction = F.mse_loss(images, batch)
        added, terms = self._student_loss(batch, code, images)
        loss = reconstruction + added
        self.descend(loss, "autoencoder")
        with torch.no_grad():
            self.code_std[: code.shape[1]].lerp_(parallel.gather(code).std(0), 0.01)
        logs = {"loss": loss, "reconstruction": reconstruction, **terms}
        size = torch.tensor(float(code.shape[1]))
        return {k: v.detach() for k, v in logs.items()} | {"code_size": size}

    def _student_loss(
        self, batch: Tensor, code: Tensor, images: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return L_jac and L_xcov, weighted, and their parts; nothing for the first teacher."""
        c, teacher = self.config, self.teacher
        if teacher is None:
            return images.new_zeros(()), {}
        y, z = code[:, :-1], code[:, -1:]
        crossed = cross_covariance_penalty(parallel.gather(y), parallel.gather(z))
        if c.cross_covariance == "author_code":
            crossed = crossed.clamp(min=1e-12).sqrt()
        loss, terms = c.weight_cross_covariance * crossed, {"cross_covariance": crossed}
        if not c.supervision:
            return loss, terms
        with torch.no_grad():
            teacher_y = teacher.encode(batch)
        supervision, parts = jacobian_supervision(
            lambda y, z: self.model.decode(torch.cat([y, z], dim=1)),
            lambda y, z: teacher.decode(y),
            y,
            z,
            teacher_y,
            weight_y=c.weight_y,
            weight_diff=c.weight_diff,
            variant=cast(Variant, c.variant),
            reconstruction=images,
        )
        return loss + supervision, terms | parts

    @property
    def code_size(self) -> int:
        """Return the size of the code in the current phase."""
        return self.model.encoder.head.weight.shape[0]

    @property
    def factor_columns(self) -> range:
        """Return which coordinates of the code are the first teacher's."""
        return range(self.config.factors)

    def encode(self, x: Tensor) -> Tensor:
        """Return codes (N, h) of images (N, C, H, W) in [0, 1]."""
        return self.model.encode(x)

    def decode(self, code: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [0, 1] of codes (N, h)."""
        return self.model.decode(code).clamp(0, 1)

    def sample_code(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return n codes (n, h) from independent normals as wide as the codes of the data.

        There is no prior: this is for pictures, not a model of the data.
        """
        device = generator.device if generator is not None else self.device
        z = torch.randn(n, self.code_size, generator=generator, device=device)
        return z.to(self.device) * self.code_std[: self.code_size]

    @property
    def code_names(self) -> list[str]:
        """Return y1, y2, ... for the factors and z1, z2, ... for the units added."""
        k = self.config.factors
        return [f"y{i + 1}" if i < k else f"z{i + 1 - k}" for i in range(self.code_size)]


_PHOTOGRAPHS = ("svhn", "faces", "celeba", "images", "shapes3d", "3dshapes")
_SETTINGS: dict[str, dict[str, Any]] = {
    "paper": {},
    "quick": {"learning_rate": 1e-3},
    "smoke": {"nuisance": 2, "base": 8, "batch_size": 16},
}
_SIZES: dict[str, dict[str, Any]] = {
    "paper": {
        "steps": 46_900,
        "image_size": None,
        "log_every": 500,
        "checkpoint_every": 10_000,
        "note": "as published: 100 epochs of 60 000 digits a stage",
    },
    "quick": {
        "steps": 940,
        "image_size": None,
        "log_every": 94,
        "checkpoint_every": 2000,
        "held_out": 0.2,
        "note": "940 updates a stage (15 epochs of 8 000 digits) at three times the learning rate; "
        "a fifth of the images held out",
    },
    "smoke": {
        "steps": 5,
        "image_size": 8,
        "log_every": 5,
        "checkpoint_every": 5,
        "held_out": 0.2,
        "note": "tiny, to see that everything runs",
    },
}
