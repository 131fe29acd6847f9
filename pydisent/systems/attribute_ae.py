"""Lezama (2019), sec. 4: attributes set on images, by a teacher and then wider students."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from pydisent import parallel
from pydisent.losses import jacobian_supervision
from pydisent.nn import AttributeAutoencoder
from pydisent.nn.layout import channels_last_
from pydisent.ops import cross_covariance_penalty
from pydisent.systems._base import Preset, System, frozen, register
from pydisent.systems._config import require, require_one_of
from pydisent.systems._ranges import stage

_NOTED = 0.01  # what a batch counts in the running estimate of z's mean and variance
_SUPERVISION = ("jacobian", "cycle", "none")
_VARIANTS = ("published", "author_code")
_OPTIMIZERS = ("shared", "own")


@dataclass(frozen=True)
class AttributeAEConfig:
    """The paper's settings for CelebA (sec. 4.2, App. A.2).

    Squared errors are means over the batch and over pixels, or the numbers of y or z, with pixels
    from -1 to 1: the paper prints sums, but its weights are for its author's means.

    Attributes
    ----------
    attributes : int
        k, as many as the data set has: 40 for celeba, 32 for faces.
    z_channels : int
        The teacher's feature maps of z, which has d = 4 z_channels numbers; each student has
        twice as many as the model before.
    base : int
        Feature maps of the first convolution.
    batch_size : int
        Images an update; 128 in the paper's text, 64 in its author's code.
    reconstruction_weight, prediction_weight, cross_covariance_weight : float
        λ1, λ2 and λ3 of Eq. 14.
    cycle_attributes_weight, cycle_z_weight : float
        λ4 and λ5, of Eqs. 12 and 13.
    cycle_steps, student_steps : int
        Updates of the teacher with the cycle losses, after those without, and of each student.
        Published: 100 epochs of 162,770 images, and 200; the last student's are not printed.
    students : int
        How many times z is widened.
    supervision : str
        What students learn from beside the reconstruction: "jacobian", the model before (Eq. 9);
        "cycle", all of the teacher's losses (the comparison of Table 2); "none", these without
        the cycle losses.
    y_weight, difference_weight : float
        λ_y and λ_diff of Eq. 9.
    student_cross_covariance_weight : float
        λ3 of students with Jacobian supervision. The paper names λ2, λ4 and λ5 as zero for them
        (sec. 4.2.2), but also says that they learn from Eqs. 8 and 9 alone (sec. 4.1).
    variant : str
        "published", Eqs. 10 to 13, or "author_code": the cross-covariance's Frobenius norm, not
        its square; hinge losses summed over attributes, not averaged, that of the cycle with the
        sign of y as its target; and in Eq. 13 the norm of the whole batch, not squared, over B.
    cycle_optimizer : str
        The moments of the cycle losses' step: "shared" with the decoder's other step, as in the
        author's code, or its "own". Adam with moments of its own makes steps as long as the
        other's, whatever the weights.
    gradient_clip : float or None
        The largest norm of a gradient; 10 in the author's code.
    learning_rate, adam_beta1, adam_beta2, adam_eps : float
        Adam's.
    """

    attributes: int = 40
    z_channels: int = 512
    base: int = 16
    batch_size: int = 128
    reconstruction_weight: float = 100.0
    prediction_weight: float = 0.1
    cross_covariance_weight: float = 0.1
    cycle_attributes_weight: float = 1e-4
    cycle_z_weight: float = 1e-5
    cycle_steps: int = 127_164
    student_steps: int = 254_328
    students: int = 2
    supervision: str = "jacobian"
    y_weight: float = 1.0
    difference_weight: float = 50.0
    student_cross_covariance_weight: float = 0.0
    variant: str = "published"
    cycle_optimizer: str = "shared"
    gradient_clip: float | None = None
    learning_rate: float = 0.002
    adam_beta1: float = 0.5
    adam_beta2: float = 0.999
    adam_eps: float = 1e-8

    def __post_init__(self) -> None:
        require(self, ("attributes", "z_channels", "base"), lambda v: v >= 1, ">= 1")
        # Batch normalisation and pairs need two images.
        require(self, ("batch_size",), lambda v: v >= 2, ">= 2")
        require(self, ("student_steps",), lambda v: v >= 1, ">= 1")
        weights = [name for name in self.__dataclass_fields__ if name.endswith("_weight")]
        counts = ("cycle_steps", "students")
        require(self, (*weights, *counts), lambda v: 0 <= v < math.inf, ">= 0")
        rates = ("learning_rate", "adam_eps", "gradient_clip")
        require(self, rates, lambda v: 0 < v < math.inf, "> 0")
        require(self, ("adam_beta1", "adam_beta2"), lambda v: 0 <= v < 1, "in [0, 1)")
        require_one_of(self, "supervision", _SUPERVISION)
        require_one_of(self, "variant", _VARIANTS)
        require_one_of(self, "cycle_optimizer", _OPTIMIZERS)


@register
class AttributeAE(System):
    """An autoencoder whose code begins with k attributes that can be set.

    Phases: "teacher" learns λ1 L_rec + λ2 L_pred + λ3 L_xcov; "teacher-cycle" takes a second step
    a batch, of the decoder alone, down the cycle losses; "student-1", "student-2", ... widen z to
    twice its size, from the weights there are, and learn the reconstruction and the change of the
    image with y that the model before shows (Eqs. 8 and 9). That model is kept as `teacher`.

    A code (N, k + d) is y, of which +1 and −1 stand for an attribute's presence and absence, then
    z. There is no prior: `sample_code` draws each attribute's sign with equal chances, and z from
    independent normals with the mean and deviation of the codes seen in training, `z_mean` and
    `z_variance`, running averages over about 100 updates.

    Parameters
    ----------
    config : AttributeAEConfig
        The settings; the paper's by default.
    image_shape : tuple of int
        (C, H, W), square, a power of two from 16 to 256.
    """

    name: ClassVar[str] = "attribute-ae"
    Config: ClassVar[type] = AttributeAEConfig
    config: AttributeAEConfig
    needs_attributes: ClassVar[bool] = True
    z_mean: Tensor
    z_variance: Tensor

    def __init__(self, config: AttributeAEConfig, image_shape: tuple[int, int, int]) -> None:
        super().__init__(config, image_shape)
        channels, size, _ = self.image_shape
        c = config
        self.autoencoder = AttributeAutoencoder(c.attributes, c.z_channels, channels, c.base, size)
        channels_last_(self)
        self.teacher: AttributeAutoencoder | None = None
        self.register_buffer("z_mean", torch.zeros(self.z_size))
        self.register_buffer("z_variance", torch.ones(self.z_size))
        self.phase = "teacher"

    def make_optimizers(self) -> dict[str, Optimizer]:
        """Return Adam for each part of this phase's model."""
        c = self.config
        parts = {"encoder": self.autoencoder.encoder, "decoder": self.autoencoder.decoder}
        if c.cycle_optimizer == "own":
            parts["cycle"] = self.autoencoder.decoder
        return {
            name: torch.optim.Adam(
                part.parameters(),
                c.learning_rate,
                betas=(c.adam_beta1, c.adam_beta2),
                eps=c.adam_eps,
                fused=True,
            )
            for name, part in parts.items()
        }

    @classmethod
    def preset(cls, name: str, data_name: str) -> Preset:
        """Return the settings of `name`: smoke, quick or paper."""
        attributes = {"attributes": 32} if data_name == "faces" else {}
        return Preset(cls.Config(**attributes, **_SETTINGS[name]), **_SIZES[name])

    @property
    def z_size(self) -> int:
        """Return d, how many numbers z has in this phase."""
        return 4 * self.autoencoder.z_channels

    @property
    def factor_columns(self) -> range:
        """Return which coordinates of a code are the attributes."""
        return range(self.config.attributes)

    @property
    def code_names(self) -> list[str]:
        """Return the attributes' names, or y1, y2, ... where the data is unknown, and z1, ..."""
        k = self.config.attributes
        names = self.attribute_names if len(self.attribute_names) == k else ()
        return [
            *(names or (f"y{i + 1}" for i in range(k))),
            *(f"z{i + 1}" for i in range(self.z_size)),
        ]

    def phases(self, steps: int) -> tuple[tuple[str, int], ...]:
        """Return the teacher's updates without and with the cycle losses, then the students'."""
        c = self.config
        cycle = [("teacher-cycle", c.cycle_steps)] if c.cycle_steps else []
        students = [(f"student-{i + 1}", c.student_steps) for i in range(c.students)]
        return (("teacher", steps), *cycle, *students)

    def start_phase(self, phase: str) -> None:
        """Prepare for `phase`: a student is the model before, widened.

        Raises
        ------
        ValueError
            If there is no such phase.
        """
        names = [name for name, _ in self.phases(1)]
        if phase not in names:
            raise ValueError(f"phase is {phase!r}; accepted: {', '.join(names)}")
        super().start_phase(phase)
        if phase.startswith("student"):
            self._widen()

    def _widen(self) -> None:
        if self.config.supervision == "jacobian":
            self.teacher = copy.deepcopy(self.autoencoder).requires_grad_(False).eval()
            for parameter in self.teacher.parameters():
                parameter.grad = None
        maps = self.autoencoder.z_channels
        self.autoencoder.widen(maps)
        # z is (maps, 2, 2) row by row: new maps come last, flattened too.
        self.z_mean = torch.cat([self.z_mean, torch.zeros_like(self.z_mean)])
        self.z_variance = torch.cat([self.z_variance, torch.ones_like(self.z_variance)])
        self.optimizers = None

    def train(self, mode: bool = True) -> "AttributeAE":
        """Set training mode, but for the teacher, whose batch statistics stay as they are."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def update(self, batch: Tensor, attributes: Tensor | None = None) -> dict[str, Tensor]:
        """Update once on images (B, C, H, W) in [0, 1] with attributes (B, k) in {-1, +1}.

        Raises
        ------
        ValueError
            If the attributes are not there or of another shape.
        """
        accepted = (len(batch), self.config.attributes)
        if attributes is None or tuple(attributes.shape) != accepted:
            given = None if attributes is None else tuple(attributes.shape)
            raise ValueError(f"attributes has shape {given}; accepted: {accepted}")
        x = self._scaled(batch)
        if self.teacher is not None:
            return self._update_student(x, attributes)
        logs = self._update_autoencoder(x, attributes)
        student = self.phase.startswith("student")
        if self.phase == "teacher-cycle" or (student and self.config.supervision == "cycle"):
            logs |= self._update_cycle(x)
        return logs

    @stage("autoencoder")
    def _update_autoencoder(self, x: Tensor, attributes: Tensor) -> dict[str, Tensor]:
        """Step down λ1 L_rec + λ2 L_pred + λ3 L_xcov (Eqs. 8, 11 and 10)."""
        c = self.config
        y, z = self.autoencoder.encoder(x)
        reconstruction = F.mse_loss(self.autoencoder.decoder(y, z), x)
        prediction = hinge_loss(y, attributes, c.variant)
        covariance = cross_covariance(y, z, c.variant)
        self._descend(
            c.reconstruction_weight * reconstruction
            + c.prediction_weight * prediction
            + c.cross_covariance_weight * covariance
        )
        terms = {
            "reconstruction": reconstruction,
            "prediction": prediction,
            "cross_covariance": covariance,
        }
        return self._logs(y, z, attributes, terms)

    @stage("cycle")
    def _update_cycle(self, x: Tensor) -> dict[str, Tensor]:
        """Step the decoder down λ4 L_cyc1 + λ5 L_cyc2 (Eqs. 12 and 13), pairs being random.

        The encoder is a fixed function here: in eval mode, its batch statistics neither follow
        the batch of decoded images nor move.
        """
        c, encoder = self.config, self.autoencoder.encoder
        with frozen(encoder), evaluating(encoder):
            with torch.no_grad():
                y, z = encoder(x)
            order = parallel.draw(lambda n: torch.randperm(n, device=x.device), len(x))
            y = parallel.gather(y)[order]
            y_again, z_again = encoder(self.autoencoder.decoder(y, z))
            of_y = hinge_loss(y_again, y.sign() if c.variant == "author_code" else y, c.variant)
            of_z = cycle_z_loss(z_again, z, c.variant)
            loss = c.cycle_attributes_weight * of_y + c.cycle_z_weight * of_z
            self.descend(
                loss, "cycle" if "cycle" in self.optimizers else "decoder", clip=c.gradient_clip
            )
        return {"cycle_attributes": of_y.detach(), "cycle_z": of_z.detach()}

    @stage("student")
    def _update_student(self, x: Tensor, attributes: Tensor) -> dict[str, Tensor]:
        """Step down λ1 L_rec + L_jac (Eqs. 8 and 9)."""
        c, teacher = self.config, self.teacher
        assert teacher is not None
        with torch.no_grad():
            y_teacher, z_teacher = teacher.encoder(x)
        y, z = self.autoencoder.encoder(x)
        image = self.autoencoder.decoder(y, z)
        reconstruction = F.mse_loss(image, x)
        supervision, terms = jacobian_supervision(
            self.autoencoder.decoder,
            teacher.decoder,
            y,
            z,
            y_teacher,
            z_teacher,
            reconstruction=image,
            weight_y=c.y_weight,
            weight_diff=c.difference_weight,
        )
        loss = c.reconstruction_weight * reconstruction + supervision
        if c.student_cross_covariance_weight:
            terms["cross_covariance"] = cross_covariance(y, z, c.variant)
            loss = loss + c.student_cross_covariance_weight * terms["cross_covariance"]
        self._descend(loss)
        return self._logs(y, z, attributes, {"reconstruction": reconstruction, **terms})

    def _descend(self, loss: Tensor) -> None:
        self.descend(loss, "encoder", "decoder", clip=self.config.gradient_clip)

    @torch.no_grad()
    def _logs(
        self, y: Tensor, z: Tensor, attributes: Tensor, terms: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Note the codes of a batch, and return its losses and the share of wrong attributes."""
        variance, mean = torch.var_mean(parallel.gather(z.flatten(1)), 0)
        self.z_mean.lerp_(mean, _NOTED)
        self.z_variance.lerp_(variance, _NOTED)
        wrong = (y * attributes <= 0).float().mean()
        return {name: term.detach() for name, term in terms.items()} | {"wrong_attributes": wrong}

    def _scaled(self, x: Tensor) -> Tensor:
        return (2 * x - 1).contiguous(memory_format=torch.channels_last)

    def encode(self, x: Tensor) -> Tensor:
        """Return codes (N, k + d), y then z, of images x (N, C, H, W) in [0, 1]."""
        y, z = self.autoencoder.encoder(self._scaled(x))
        return torch.cat([y, z.flatten(1)], 1)

    def decode(self, code: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [0, 1] of codes (N, k + d)."""
        y, z = code.split([self.config.attributes, self.z_size], 1)
        z = z.unflatten(1, (-1, 2, 2)).contiguous(memory_format=torch.channels_last)
        return (self.autoencoder.decoder(y, z) + 1) / 2

    def sample_code(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return n codes (n, k + d): attributes of random sign, z as training saw it."""
        device = generator.device if generator is not None else self.device
        k = self.config.attributes
        signs = torch.randint(2, (n, k), generator=generator, device=device).to(self.device)
        normal = torch.randn(n, self.z_size, generator=generator, device=device).to(self.device)
        return torch.cat([2.0 * signs - 1, self.z_mean + self.z_variance.sqrt() * normal], 1)


def hinge_loss(y: Tensor, targets: Tensor, variant: str = "published") -> Tensor:
    """Return max(1 − y_i t_i, 0) (Eq. 11), its mean over batch and attributes, (B, k) each.

    With "author_code" the mean over the batch of the sum over attributes.
    """
    losses = (1 - y * targets).clamp(min=0)
    return losses.mean() if variant == "published" else losses.sum(1).mean()


def cross_covariance(y: Tensor, z: Tensor, variant: str = "published") -> Tensor:
    """Return Σ_ij cov(y_i, z_j)² (Eq. 10) of y (B, k) and z (B, ...); its root by "author_code"."""
    squares = cross_covariance_penalty(parallel.gather(y), parallel.gather(z.flatten(1)))
    # At zero the root has no derivative.
    return squares if variant == "published" else (squares + 1e-12).sqrt()


def cycle_z_loss(z_again: Tensor, z: Tensor, variant: str = "published") -> Tensor:
    """Return ‖z − z'‖² (Eq. 13), a mean over all numbers of z and z' (B, ...).

    With "author_code" the norm of the whole batch's difference over B.
    """
    if variant == "published":
        return F.mse_loss(z_again, z)
    squares = parallel.total((z - z_again).square().sum())
    return (squares + 1e-12).sqrt() / (len(z) * parallel.processes())


_Decoder = Callable[[Tensor, Tensor], Tensor]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Keep `module` in eval mode for a while."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


_SETTINGS: dict[str, dict[str, Any]] = {
    "paper": {},
    "quick": {
        "z_channels": 16,
        "batch_size": 32,
        # The published weights leave the attributes to hundreds of thousands of updates.
        "prediction_weight": 20.0,
        "cycle_attributes_weight": 2.0,
        "cycle_z_weight": 0.1,
        "cycle_steps": 400,
        "student_steps": 400,
        "learning_rate": 0.005,
    },
    "smoke": {
        "z_channels": 2,
        "base": 4,
        "batch_size": 8,
        "cycle_steps": 10,
        "student_steps": 10,
    },
}
_SIZES: dict[str, dict[str, Any]] = {
    "paper": {
        "steps": 127_164,
        "image_size": 256,
        "log_every": 500,
        "checkpoint_every": 10_000,
        "note": "as published for CelebA",
    },
    "quick": {
        "steps": 1200,
        "image_size": 64,
        "log_every": 50,
        "checkpoint_every": 400,
        "held_out": 0.1,
        "note": "64×64, d = 64, 128 and 256, batch 32, 2.5 times the learning rate, attributes "
        "predicted at 200 times the weight, cycle losses at 10,000 times; 77,000 images in all",
    },
    "smoke": {
        "steps": 20,
        "image_size": 16,
        "log_every": 5,
        "checkpoint_every": 5,
        "held_out": 0.1,
        "note": "tiny, to see that everything runs",
    },
}
