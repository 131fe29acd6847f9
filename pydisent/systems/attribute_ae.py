"""Lezama (2019), sec. 4: controllable attributes, learned by a teacher and then wider students."""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from pydisent import parallel
from pydisent._checks import check_one_of, shape_error
from pydisent.losses import jacobian_supervision
from pydisent.nn import AttributeAutoencoder
from pydisent.nn.layout import channels_last_
from pydisent.systems._attribute_ae_config import AttributeAEConfig
from pydisent.systems._attribute_losses import cross_covariance, cycle_z_loss, hinge_loss
from pydisent.systems._modes import evaluating, frozen
from pydisent.systems._optimizers import adam, parameters
from pydisent.systems._presets import SMOKE, Presets, Recipe, each
from pydisent.systems._progressive import Progressive
from pydisent.systems._ranges import stage
from pydisent.systems._registry import register

_MOMENTUM = 0.01  # weight of a batch in the running mean and variance of z


@register
class AttributeAE(Progressive):
    """An autoencoder whose code starts with k controllable attributes.

    Phases: "teacher" minimises λ1 L_rec + λ2 L_pred + λ3 L_xcov (Eqs. 8, 11 and 10);
    "teacher-cycle" adds a second step per batch, of the decoder alone, down the cycle losses
    (Eqs. 12 and 13); "student-1", "student-2", ... each double z, starting from the current
    weights, and minimise the reconstruction error and Jacobian supervision (Eqs. 8 and 9) by the
    original teacher, which is kept as `teacher`.

    A code (N, k + d) is y, where +1 and −1 stand for an attribute's presence and absence, followed
    by z. There is no prior: `sample_code` draws each attribute's sign with equal probability, and z
    from independent normals with the mean and variance of the codes seen in training, `z_mean` and
    `z_variance`, which are running averages over about 100 updates.

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
    default_data = "faces"
    data_settings = each(["faces"], attributes=32)
    added_settings: ClassVar = {"last_activation": False, "supervisor": "previous"}
    presets = Presets(
        paper=Recipe(
            note="as published for CelebA (sec. 4, App. A.2), with the losses' forms of the "
            "author's code, to which the weights belong, and its crop and mirroring; the last "
            "student's length is not published: 200 epochs, like the first's",
            steps=127_164,
            image_size=256,
            log_every=500,
            checkpoint_every=10_000,
            split="train",
            crop=178,
            mirror=True,
            published=("celeba",),
        ),
        quick=Recipe(
            note="64×64, d = 64, 128 and 256, batch 32, 2.5 times the learning rate, the printed "
            "losses with attributes predicted at 200 times the weight and cycle losses at 10,000 "
            "times, no leaky ReLU after the encoder; 77,000 images in all",
            steps=1200,
            image_size=64,
            log_every=50,
            checkpoint_every=400,
            held_out=0.1,
            settings={
                "z_channels": 16,
                "batch_size": 32,
                # After so few updates, the student flips 69 % of the attributes with the published
                # weights and their loss forms, as in `paper`, and 82 % with these.
                "variant": "published",
                "prediction_weight": 20.0,
                "cycle_attributes_weight": 2.0,
                "cycle_z_weight": 0.1,
                "last_activation": False,
                "supervisor": "previous",
                "cycle_steps": 400,
                "student_steps": 400,
                "learning_rate": 0.005,
            },
        ),
        smoke=replace(SMOKE, held_out=0.1).with_settings(
            z_channels=2, base=4, batch_size=8, cycle_steps=10, student_steps=10
        ),
    )
    teacher: AttributeAutoencoder | None
    z_mean: Tensor
    z_variance: Tensor

    def __init__(self, config: AttributeAEConfig, image_shape: tuple[int, int, int]) -> None:
        super().__init__(config, image_shape)
        channels, size, _ = self.image_shape
        c = config
        self.autoencoder = AttributeAutoencoder(
            c.attributes, c.z_channels, channels, c.base, size, c.last_activation
        )
        channels_last_(self)
        self.register_buffer("z_mean", torch.zeros(self.z_size))
        self.register_buffer("z_variance", torch.ones(self.z_size))
        self.phase = "teacher"

    def make_optimizers(self) -> dict[str, Optimizer]:
        """Return Adam for each part of this phase's model."""
        c = self.config
        parts = {"encoder": self.autoencoder.encoder, "decoder": self.autoencoder.decoder}
        if c.cycle_optimizer == "own":
            parts["cycle"] = self.autoencoder.decoder
        betas = (c.adam_beta1, c.adam_beta2)
        return {
            name: adam(parameters(part), c.learning_rate, betas, c.adam_eps)
            for name, part in parts.items()
        }

    @property
    def z_size(self) -> int:
        """Return d, the size of z in this phase."""
        return 4 * self.autoencoder.z_channels

    @property
    def latent_size(self) -> int:
        """Return k + d, the size of the code in this phase."""
        return self.config.attributes + self.z_size

    @property
    def factor_columns(self) -> range:
        """Return the coordinates of the code that are attributes."""
        return range(self.config.attributes)

    @property
    def code_names(self) -> list[str]:
        """Return the attributes' names, or y1, y2, ... if they are unknown, and z1, z2, ..."""
        k = self.config.attributes
        names = self.attribute_names if len(self.attribute_names) == k else ()
        return [
            *(names or (f"y{i + 1}" for i in range(k))),
            *(f"z{i + 1}" for i in range(self.z_size)),
        ]

    def phases(self, steps: int) -> tuple[tuple[str, int], ...]:
        """Return the teacher's phases, without and with the cycle losses, then the students'."""
        c = self.config
        cycle = [("teacher-cycle", c.cycle_steps)] if c.cycle_steps else []
        students = [(f"student-{i + 1}", c.student_steps) for i in range(c.students)]
        return (("teacher", steps), *cycle, *students)

    def start_phase(self, phase: str) -> None:
        """Prepare for `phase`; a student is the current model, widened.

        Raises
        ------
        ValueError
            If there is no such phase.
        """
        check_one_of("phase", phase, [name for name, _ in self.phases(1)])
        super().start_phase(phase)
        if not phase.startswith("student"):
            return
        c = self.config
        if "jacobian" in c.supervision and (self.teacher is None or c.supervisor == "previous"):
            self.keep_as_teacher(self.autoencoder)
        self.autoencoder.widen(self.autoencoder.z_channels)
        # z is flattened map by map, so new maps come last.
        self.z_mean = torch.cat([self.z_mean, torch.zeros_like(self.z_mean)])
        self.z_variance = torch.cat([self.z_variance, torch.ones_like(self.z_variance)])
        self.optimizers = None

    def update(self, batch: Tensor, attributes: Tensor | None = None) -> dict[str, Tensor]:
        """Update once on images (B, C, H, W) in [0, 1] with attributes (B, k) in {-1, +1}.

        Raises
        ------
        ValueError
            If the attributes are missing or of another shape.
        """
        shape = (len(batch), self.config.attributes)
        if attributes is None:
            raise ValueError(f"attributes must have shape {shape}, got None")
        if tuple(attributes.shape) != shape:
            raise shape_error("attributes", shape, attributes)
        x = self._scaled(batch)
        update = self._update_autoencoder if self.teacher is None else self._update_student
        logs = update(x, attributes)
        student = self.phase.startswith("student")
        if self.phase == "teacher-cycle" or (student and "cycle" in self.config.supervision):
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
        """Step the decoder down λ4 L_cyc1 + λ5 L_cyc2 (Eqs. 12 and 13), for random pairs.

        The encoder is fixed: in eval mode it neither uses the decoded images' statistics nor
        updates its own.
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
        """Update z's running estimates; return the losses and the fraction of wrong attributes."""
        variance, mean = torch.var_mean(parallel.gather(z.flatten(1)), 0)
        self.z_mean.lerp_(mean, _MOMENTUM)
        self.z_variance.lerp_(variance, _MOMENTUM)
        wrong = (y * attributes <= 0).float().mean()
        return {name: term.detach() for name, term in terms.items()} | {"wrong_attributes": wrong}

    def _scaled(self, x: Tensor) -> Tensor:
        return (2 * x - 1).contiguous(memory_format=torch.channels_last)

    def encode(self, x: Tensor) -> Tensor:
        """Return codes (N, k + d), y then z, for images x (N, C, H, W) in [0, 1]."""
        y, z = self.autoencoder.encoder(self._scaled(x))
        return torch.cat([y, z.flatten(1)], 1)

    def decode(self, code: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [0, 1] for codes (N, k + d)."""
        y, z = code.split([self.config.attributes, self.z_size], 1)
        z = z.unflatten(1, (-1, 2, 2)).contiguous(memory_format=torch.channels_last)
        return (self.autoencoder.decoder(y, z) + 1) / 2

    def sample_code(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return n codes (n, k + d): attributes of random sign, z distributed as in training."""
        device = generator.device if generator is not None else self.device
        k = self.config.attributes
        signs = torch.randint(2, (n, k), generator=generator, device=device).to(self.device)
        z = self.z_mean + self.z_variance.sqrt() * self.normal(n, self.z_size, generator)
        return torch.cat([2.0 * signs - 1, z], 1)
