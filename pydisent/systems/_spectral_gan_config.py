"""Settings of the spectral GAN."""

from dataclasses import dataclass, field, fields
from typing import ClassVar

import torch

from pydisent._checks import check
from pydisent.jacobian.alignment import METHODS
from pydisent.systems._config import check_choices, check_integers, check_numbers
from pydisent.systems._optimizers import RMSPROP_VARIANTS
from pydisent.systems._regularizers import NONE, RegularizerConfig

ALIGNMENT = "alignment"
# Settings of the alignment penalty, except those that presets set.
_OF_ALIGNMENT = ("method", "tolerance", "rank", "interval", "sub_batch", "compute_dtype")
COMPUTE_DTYPES = {"fp32": None, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class SpectralGANConfig(RegularizerConfig):
    """The paper's settings for dSprites (Table 1, App. C, App. D).

    For CelebA they are those of Fig. 7: m = 128, k = 32, λ = 0.5. The paper also uses, with
    m = 128, k = 8 and λ = 0.1 (Fig. 5); and with base 128, k = 8 and λ = 2.3 (Fig. 11), and k = 16
    and λ = 1.7 (Fig. 12).

    Attributes
    ----------
    regularizer : str
        "alignment", the paper's penalty, with the settings from `penalty_weight` to
        `compute_dtype`; or a regularizer of `RegularizerConfig` in its place, with its own
        settings.
    latent_size : int
        Size m of the latent code.
    base : int
        Feature maps of the generator and discriminator at half resolution.
    batch_size : int
        Images per update.
    penalty_weight : float
        λ, the weight of the alignment penalty (Alg. 3); 0 turns it off.
    k : int
        The paper's k, the number of leading eigenvectors to align.
    iterations : int
        The paper's T (Alg. 2), which it gives only for Fig. 5, as 8.
    reweight : bool
        Whether the penalty's columns are weighted by Eq. 13; Fig. 5 compares both.
    method : str
        How the penalty is computed: "auto", "gram", "matrix_free" or "autograd"; see
        `pydisent.alignment_penalty`.
    tolerance : float
        Fraction of the penalty's gradient that may be dropped, in [0, 1); 0 is exact.
    rank : int or None
        Directions that the penalty's gradient keeps, instead of the number that `tolerance`
        requires, which must then keep its default; see `pydisent.alignment_penalty`. CUDA graphs
        can capture updates with the penalty if `rank` is set, or `tolerance` is 0 and `method` is
        "gram".
    interval : int
        Updates between penalties, which are weighted by the interval; not in the paper. A penalty
        costs about (m + 3r) / 3 times the generator's part of an update without it, for r
        directions.
    sub_batch : int or None
        Compute the penalty for the first `sub_batch` codes of the batch instead of all; not in the
        paper.
    compute_dtype : str
        Dtype of the penalty's tangents: "fp32", the networks' own dtype, or "bf16"; a CPU without
        native bf16 computes in fp32.
    learning_rate : float
        RMSProp's, for the generator, and for the discriminator unless set separately.
    discriminator_learning_rate : float or None
        RMSProp's, for the discriminator.
    rmsprop_decay, rmsprop_eps : float
        RMSProp's decay factor and ε.
    rmsprop_variant : str
        "tensorflow": ε inside the root, and an initial mean square of 1. "torch": ε outside the
        root, and an initial mean square of 0, so that first steps are 3.2 times the learning rate.
        The paper gives no formula, but its code is for TensorFlow 1 (Listing 1), whose decay of 0.9
        it uses, and in whose root an ε of 1e-6 puts a floor of 1e-3 under the gradient's size.
    instance_noise : float
        Standard deviation of the noise on the discriminator's real and fake inputs.
    r1_weight : float
        γ of the penalty γ/2 E‖∇D(x)‖² on real images; not in the paper. 0 turns it off.
    r1_interval : int
        Updates between R1 penalties, which are weighted by the interval.
    ema_decay : float
        Decay of the generator's moving average, which is then used for decoding; not in the paper.
        0 turns it off.
    encoder_base : int or None
        Feature maps of the encoder; None is twice `base` (App. D).
    encoder_steps : int
        Updates of the encoder, following the GAN's.
    encoder_learning_rate : float
        Adam's, with β 0.5 and 0.99; the paper does not give it.
    code_regression : float
        Weight of the mean squared error of generated images' codes, added to the reconstruction
        error of real images; not in the paper. 0 turns it off.
    """

    own_regularizers: ClassVar = (ALIGNMENT,)

    regularizer: str = field(default=ALIGNMENT, kw_only=True)
    latent_size: int = 10
    base: int = 64
    batch_size: int = 32
    penalty_weight: float = 0.6
    k: int = 6
    iterations: int = 8
    reweight: bool = True
    method: str = "auto"
    tolerance: float = 1e-3
    rank: int | None = None
    interval: int = 1
    sub_batch: int | None = None
    compute_dtype: str = "fp32"
    learning_rate: float = 1e-4
    discriminator_learning_rate: float | None = None
    rmsprop_decay: float = 0.9
    rmsprop_eps: float = 1e-6
    rmsprop_variant: str = "tensorflow"
    instance_noise: float = 0.6
    r1_weight: float = 0.0
    r1_interval: int = 1
    ema_decay: float = 0.0
    encoder_base: int | None = None
    encoder_steps: int = 30_000
    encoder_learning_rate: float = 1e-4
    code_regression: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_regularizer()
        sizes = ("latent_size", "base", "encoder_base", "batch_size")
        check_integers(self, *sizes, "k", "iterations", "r1_interval")
        check_integers(self, "rank", "interval", "sub_batch")
        check_integers(self, "encoder_steps", at_least=0)
        rates = ("learning_rate", "discriminator_learning_rate", "encoder_learning_rate")
        check_numbers(self, *rates, "rmsprop_eps", above=0)
        weights = ("penalty_weight", "instance_noise", "r1_weight", "code_regression")
        check_numbers(self, *weights, at_least=0)
        check_numbers(self, "rmsprop_decay", "ema_decay", "tolerance", at_least=0, below=1)
        check_choices(self, method=METHODS, compute_dtype=tuple(COMPUTE_DTYPES))
        check_choices(self, rmsprop_variant=RMSPROP_VARIANTS)
        for name in ("k", "rank"):
            value, rule = getattr(self, name), f"at most latent_size = {self.latent_size}"
            check(value is None or value <= self.latent_size, name, rule, value)
        if self.sub_batch is not None:
            rule = f"at most batch_size = {self.batch_size}"
            check(self.sub_batch <= self.batch_size, "sub_batch", rule, self.sub_batch)
        if self.rank is not None:
            default = type(self).tolerance
            check(self.tolerance == default, "tolerance", f"{default} with a rank", self.tolerance)
            check(self.method != "autograd", "rank", "none with method autograd", self.rank)

    def _check_regularizer(self) -> None:
        """Raise ValueError if a setting belongs to a regularizer other than the chosen one."""
        if self.regularizer == NONE:
            return
        defaults = {f.name: f.default for f in fields(self)}
        others = {f.name for f in fields(RegularizerConfig)} - {"regularizer"}
        for name in sorted(others) if self.regularizer == ALIGNMENT else _OF_ALIGNMENT:
            value, default = getattr(self, name), defaults[name]
            rule = f"{'none' if default is None else default} with regularizer {self.regularizer}"
            check(value == default, name, rule, value)
