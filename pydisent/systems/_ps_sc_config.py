"""Settings of PS-SC."""

import math
from dataclasses import dataclass

from pydisent._checks import check
from pydisent.nn.constricted import WIDTH_SCHEDULES
from pydisent.nn.resampling import RESAMPLINGS
from pydisent.nn.spatial_constriction import MASKS
from pydisent.systems._config import check_choices, check_integers, check_numbers
from pydisent.systems._presets import Recipe
from pydisent.systems._regularizers import RegularizerConfig
from pydisent.systems.precision import AUTO, PRECISIONS

VARIANTS = ("published", "author_code")


@dataclass(frozen=True)
class PSSCConfig(RegularizerConfig):
    """Settings of the paper and, where it is silent, of the authors' command for CelebA.

    A regularizer applies to the generator with freshly drawn noise inputs, in fp32.

    Attributes
    ----------
    codes : int
        Latent codes per resolution; the five from 8 px to 128 px have 25 in all.
    max_width, min_width : int
        Maximum and minimum number of feature maps in each network.
    width_schedule : str
        Where the number of the generator's feature maps decreases: "layers", as in the authors'
        code (37.3 million weights at 128 px), or "blocks", halved in each block after the second;
        see `pydisent.nn.ConstrictedGenerator`.
    resampling : str
        "filtered" by [1, 3, 3, 1], as in the authors' code, or "unfiltered": the generator repeats
        pixels, and the other networks average 2×2 pixels.
    batch_size : int
        Images per update.
    ps_weight : float
        λ, the weight of the perceptual simplicity loss (Eqs. 8-9). As in the authors' code, the
        loss is summed over dimensions; otherwise the published 0.01 would count d/2 times less. 0
        switches to InfoGAN's regression.
    regression_weight : float
        Weight of that regression, of the code recognised from one image.
    regression_variant : str
        "published": the squared error (sec. 3.2 speaks of MSE), summed over the code's dimensions.
        "author_code": its root, the norm of the error.
    perturbation : float
        Standard deviation of the perturbation p of one dimension; the published 3 N(0, 2²).
    spatial_constriction : bool
        Whether codes act inside learned masks (SC); if not, one modulated convolution per
        resolution takes all its codes, as in the authors' code.
    mask : str
        "band", or "softmax" (Table 4).
    rectangles : int
        Number J of rectangles per mask.
    learning_rate, adam_beta1, adam_beta2, adam_eps : float
        Adam's, for both optimisers; the discriminator's are corrected for R1's extra steps by
        r1_interval/(r1_interval + 1) (Karras et al. 2020, App. B).
    generator_interval : int
        The same correction for the generator and recogniser: they have no such steps, but the
        authors' code keeps StyleGAN2's interval of 4 and so trains them at 4/5 of the rate. The
        paper gives neither rate. 0 keeps the full rate.
    r1_weight : float
        γ of the penalty γ/2 E‖∇D(x)‖² on real images in [-1, 1]; 0 turns it off.
    r1_interval : int
        Updates between R1's separate steps, which are weighted by the interval.
    ema_half_life : float
        Half-life of the generator's moving average, used for decoding, in thousands of images; 0
        turns it off.
    precision : str
        "fp32", "bf16" for mixed precision (losses and R1 stay in fp32), or "auto": "bf16" on a
        device with native support. A CPU without it runs "bf16" in fp32.
    """

    codes: int = 5
    max_width: int = 512
    min_width: int = 64
    width_schedule: str = "layers"
    resampling: str = "filtered"
    batch_size: int = 8
    ps_weight: float = 0.01
    regression_weight: float = 0.01
    regression_variant: str = "published"
    perturbation: float = 6.0
    spatial_constriction: bool = True
    mask: str = "band"
    rectangles: int = 4
    learning_rate: float = 2e-3
    adam_beta1: float = 0.0
    adam_beta2: float = 0.99
    adam_eps: float = 1e-8
    generator_interval: int = 4
    r1_weight: float = 100.0
    r1_interval: int = 16
    ema_half_life: float = 10.0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integers(self, "codes", "max_width", "min_width", "rectangles")
        check_integers(self, "batch_size", "r1_interval")
        check_integers(self, "generator_interval", at_least=0)
        widest = f"at most max_width = {self.max_width}"
        check(self.min_width <= self.max_width, "min_width", widest, self.min_width)
        check_numbers(self, "perturbation", "learning_rate", "adam_eps", above=0)
        weights = ("ps_weight", "regression_weight", "r1_weight", "ema_half_life")
        check_numbers(self, *weights, at_least=0)
        check_numbers(self, "adam_beta1", "adam_beta2", at_least=0, below=1)
        check_choices(self, mask=MASKS, precision=PRECISIONS, resampling=RESAMPLINGS)
        check_choices(self, width_schedule=WIDTH_SCHEDULES, regression_variant=VARIANTS)


# Networks and rates of earlier versions.
EARLIER = {"width_schedule": "blocks", "resampling": "unfiltered", "generator_interval": 0}
_NETWORKS = "networks, rates and R1 as in the authors' command for CelebA"
_SCRIPT = "25 million images, the script's default"
PAPER = Recipe(
    note=f"SC and PS as published for CelebA; {_NETWORKS}, at 64 px; {_SCRIPT}: the paper gives "
    "neither sizes nor length nor λ for 3D Shapes",
    steps=3_125_000,
    image_size=64,
    log_every=500,
    checkpoint_every=10_000,
    published=("3dshapes", "dsprites", "celeba", "ffhq"),
    by_data={
        "dsprites": {
            "note": f"no SC, as published for dSprites (sec. 4.4); {_NETWORKS}, at 64 px; "
            f"{_SCRIPT}: the paper gives neither sizes nor length nor λ for dSprites",
            "settings": {"spatial_constriction": False},
        },
        "celeba": {
            "note": "as published for CelebA (sec. 4.3: the centre 128×128, 19 epochs of all "
            "images); networks, mirroring, rates and R1 as in the authors' command for it",
            "steps": math.ceil(19 * 202_599 / 8),
            "image_size": 128,
            "split": "all",
            "crop": 128,
            "mirror": True,
        },
        "ffhq": {
            "note": "512×512 and 28 epochs as published for FFHQ (sec. 4.3); the rest, with "
            "mirroring, is the authors' command for CelebA with two more blocks, 35 codes in all: "
            "theirs for FFHQ is not published",
            "steps": 28 * 70_000 // 8,
            "image_size": 512,
            "mirror": True,
        },
    },
)
QUICK = Recipe(
    note="32×32, 64 to 16 feature maps that halve by blocks, unfiltered, 3 codes a resolution, "
    "codes recognised at ten times the weight, G at the full rate, R1 γ = 10, an average of "
    "half-life 2, bf16 where native; 40,000 images",
    steps=5000,
    image_size=32,
    log_every=50,
    checkpoint_every=500,
    settings={
        **EARLIER,
        "codes": 3,
        "max_width": 64,
        "min_width": 16,
        "ps_weight": 0.1,
        "regression_weight": 0.1,
        "r1_weight": 10.0,
        "ema_half_life": 2.0,
        "precision": AUTO,
    },
)
