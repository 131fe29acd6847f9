"""Progressive discovery of factors by Jacobian supervision (Lezama 2019, sec. 3)."""

from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from pydisent import parallel
from pydisent._checks import check
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
    with_more_features,
)
from pydisent.systems._config import check_choices, check_integers, check_numbers, check_types
from pydisent.systems._optimizers import adam, parameters
from pydisent.systems._presets import PHOTOGRAPHS, SMOKE, Presets, Recipe, each
from pydisent.systems._progressive import Progressive
from pydisent.systems._ranges import stage
from pydisent.systems._registry import register


@dataclass(frozen=True)
class JacobianAEConfig:
    """The paper's settings.

    Attributes
    ----------
    factors : int
        Size k of the first teacher's code.
    nuisance : int
        Units d added to the code, one per stage; 0 trains only the first teacher.
    network : str
        "mlp" (App. A.1: dense layers of 256, 128 and 64) or "conv" (App. A.5: convolutions of 64,
        128 and 256 maps).
    base : int
        Units or maps of the narrowest layer, 64; the others are its multiples.
    batch_norm : str
        Models whose code is followed by a batch norm: the first "teacher" (App. A.1), whose norm is
        then folded into the encoder, or "all", including students (App. A.5).
    supervision : bool
        Whether students are supervised; otherwise only the cross-covariance is added.
    variant : str
        Form of the supervision: "published" (Eq. 9) or "exact" (Eq. 7, on the Jacobian itself).
    weight_y, weight_diff, weight_cross_covariance : float
        λ_y, λ_diff and λ_xcov. Squared errors are averaged over batch and components, as in the
        author's code.
    cross_covariance : str
        "published", Eq. 10, or "author_code", its square root.
    batch_size : int
        Images per update.
    learning_rate, weight_decay : float
        Adam's.
    """

    factors: int = 2
    nuisance: int = 14
    network: str = "mlp"
    base: int = 64
    batch_norm: str = "teacher"
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
        check_types(self)
        check_integers(self, "factors", "base")
        # Batch norm has no deviation for a single code.
        check_integers(self, "batch_size", at_least=2)
        check_integers(self, "nuisance", at_least=0)
        check_numbers(self, "learning_rate", above=0)
        weights = ("weight_y", "weight_diff", "weight_cross_covariance", "weight_decay")
        check_numbers(self, *weights, at_least=0)
        check_choices(
            self,
            network=("mlp", "conv"),
            batch_norm=("teacher", "all"),
            variant=("published", "exact"),
            cross_covariance=("published", "author_code"),
        )


# App. A.5; other photographs and 3D Shapes use its settings for SVHN.
_IN_COLOUR = (*PHOTOGRAPHS, "shapes3d", "3dshapes")


class Autoencoder(nn.Module):
    """Map images (N, C, H, W) to codes (N, h) and back; `norm` follows the encoder."""

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
    def grow(self, *, keep_norm: bool = False) -> None:
        """Append a unit to the code; at zero it changes nothing in eval mode.

        The batch norm grows as well if `keep_norm`, else it is folded into the encoder.
        """
        if isinstance(self.norm, nn.BatchNorm1d) and keep_norm:
            self.norm = with_more_features(self.norm, 1)
        elif isinstance(self.norm, nn.BatchNorm1d):
            fold_batch_norm(self.encoder.head, self.norm)
            self.norm = nn.Identity()
        self.encoder.grow()
        self.decoder.grow()


@register
class JacobianAE(Progressive):
    """An autoencoder that grows unit by unit while preserving the function of earlier units.

    The first teacher has k units. Each stage turns the model into a student with one more unit, z,
    trained on ‖x − x̂‖² + L_jac + λ_xcov L_xcov (Eqs. 8-10), where all earlier units are its
    factors y. The student is the next stage's teacher. The code is (y, z), in the order of stages.

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
    default_data = "digits"
    data_settings = each(
        _IN_COLOUR, network="conv", batch_norm="all", weight_y=0.025, weight_diff=0.01, nuisance=16
    )
    presets = Presets(
        paper=Recipe(
            note="as published for MNIST (sec. 3, App. A.1): 100 epochs of 60,000 digits a stage",
            steps=46_900,
            image_size=None,
            log_every=500,
            checkpoint_every=10_000,
            split="train",
            published=("mnist", "svhn"),
            by_data={
                "svhn": {
                    "steps": 14_308,
                    "note": "as published for SVHN (App. A.5): 25 epochs of 73,257 images a stage; "
                    "its λ_xcov is not given, and is MNIST's; the code's maps, averaged over all "
                    "pixels, have no ReLU",
                }
            },
        ),
        quick=Recipe(
            note="940 updates a stage (15 epochs of 8 000 digits) at three times the learning "
            "rate; a fifth of the images held out",
            steps=940,
            image_size=None,
            log_every=94,
            checkpoint_every=2000,
            held_out=0.2,
            settings={"learning_rate": 1e-3},
        ),
        smoke=replace(
            SMOKE.with_settings(nuisance=2, base=8, batch_size=16),
            steps=5,
            image_size=8,
            held_out=0.2,
            by_data=each(_IN_COLOUR, settings={"base": 4}),
        ),
    )
    teacher: Autoencoder | None
    code_std: Tensor

    def __init__(self, config: JacobianAEConfig, image_shape: tuple[int, int, int]) -> None:
        super().__init__(config, image_shape)
        self.model = self._first_model()
        # Running estimate over batches, for `sample_code`.
        self.register_buffer("code_std", torch.ones(config.factors + config.nuisance))

    def _first_model(self) -> Autoencoder:
        c, base = self.config, self.config.base
        fits = c.network != "conv" or self.image_shape[1] % 8 == 0
        check(fits, "image_shape", "a multiple of 8 pixels for 'conv'", self.image_shape)
        if c.network == "mlp":
            encoder_of, decoder_of, widths = mlp_encoder, mlp_decoder, (4 * base, 2 * base, base)
        else:
            encoder_of, decoder_of, widths = conv_encoder, conv_decoder, (base, 2 * base, 4 * base)
        encoder = encoder_of(c.factors, self.image_shape, widths)
        return Autoencoder(encoder, decoder_of(c.factors, self.image_shape, widths), c.factors)

    def make_optimizers(self) -> dict[str, Optimizer]:
        """Return Adam for the autoencoder of this stage."""
        c = self.config
        weights = parameters(self.model)
        return {"autoencoder": adam(weights, c.learning_rate, weight_decay=c.weight_decay)}

    def phases(self, steps: int) -> tuple[tuple[str, int], ...]:
        """Return the first teacher's phase and one per added unit, all of equal length."""
        students = (f"student-{d}" for d in range(1, self.config.nuisance + 1))
        return tuple((phase, steps) for phase in ("teacher", *students))

    def start_phase(self, phase: str) -> None:
        """Prepare for `phase`; for a student, keep the model as teacher and add a unit.

        Raises
        ------
        ValueError
            If the phase is not next in order.
        """
        names, grown = [name for name, _ in self.phases(1)], self.code_size - self.config.factors
        accepted = [*(names[:1] if grown == 0 else []), *names[grown + 1 : grown + 2]]
        following = " or ".join(map(repr, accepted)) or "none, as all are done"
        check(phase in accepted, "phase", f"the next one, {following}", repr(phase))
        super().start_phase(phase)
        if phase == "teacher":
            return
        self.keep_as_teacher(self.model)
        self.model.grow(keep_norm=self.config.batch_norm == "all")
        self.optimizers = None

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
        """Return the weighted sum of L_jac and L_xcov, and its terms; 0 for the first teacher."""
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
    def latent_size(self) -> int:
        """Return the size of the code in the current phase, `code_size`."""
        return self.code_size

    @property
    def code_size(self) -> int:
        """Return the size of the code in the current phase."""
        return self.model.encoder.head.weight.shape[0]

    @property
    def factor_columns(self) -> range:
        """Return the code coordinates of the first teacher."""
        return range(self.config.factors)

    def encode(self, x: Tensor) -> Tensor:
        """Return codes (N, h) for images (N, C, H, W) in [0, 1]."""
        return self.model.encode(x)

    def decode(self, code: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [0, 1] for codes (N, h)."""
        return self.model.decode(code).clamp(0, 1)

    def sample_code(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return codes (n, h) from independent normals with the deviations of the data's codes.

        There is no prior: these codes give pictures, but do not model the data.
        """
        return self.normal(n, self.code_size, generator) * self.code_std[: self.code_size]

    @property
    def code_names(self) -> list[str]:
        """Return y1, y2, ... for the factors and z1, z2, ... for the added units."""
        k = self.config.factors
        return [f"y{i + 1}" if i < k else f"z{i + 1 - k}" for i in range(self.code_size)]
