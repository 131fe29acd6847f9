"""The autoencoders' `paper` presets against the papers' own figures, written here by hand."""

import math
from itertools import pairwise

import _official_files
import pytest
import torch

from pydisent import data, systems
from pydisent.systems.beta_vae import RAMESH
from pydisent.training import Plan
from pydisent.training.batches import Batches
from pydisent.training.sampling import BatchSampler

pytestmark = pytest.mark.in_turn

MINE = ("vae", "beta-vae", "dip-vae-1", "dip-vae-2", "factor-vae", "beta-tcvae", "annealed-vae",
        "jacobian-ae", "attribute-ae")  # fmt: skip
# Locatello et al. (2019), the comparison's data sets, by channels.
COMPARED = {"dsprites": 1, "smallnorb": 1, "color-dsprites": 3, "noisy-dsprites": 3,
            "scream-dsprites": 3, "3dshapes": 3, "cars3d": 3}  # fmt: skip


def _layers(kernel, *widths, bias=True):
    """Weights of layers between these widths; of convolutions with square kernels."""
    return sum(kernel**2 * a * b + bias * b for a, b in pairwise(widths))


def _dense(*widths, bias=True):
    return _layers(1, *widths, bias=bias)


def _decoder(m, c):
    """Higgins et al. (2017), and Locatello et al. (2019): 256 units, 4×4 kernels."""
    return _dense(m, 256, 1024) + _layers(4, 64, 64, 32, 32, c)


def _higgins(m, c):
    """32, 32, 64, 64 maps of 4×4 kernels, stride 2, then 256 units."""
    return _layers(4, c, 32, 32, 64, 64) + _dense(1024, 256, 2 * m) + _decoder(m, c)


def _locatello(c):
    """The same, but for 2×2 kernels in the third and fourth convolution; ten latents."""
    encoder = _layers(4, c, 32, 32) + _layers(2, 32, 64, 64)
    return encoder + _dense(1024, 256, 20) + _decoder(10, c)


KUMAR = {"steps": 300_000, "image_size": 64, "mirror": False}  # updates: not in the paper
SHAPES_2D = KUMAR | {"split": None, "crop": None, "held_out": 0.0}
FACES = KUMAR | {"split": "all", "crop": 148, "held_out": 0.1}  # 90 % for training
CHAIRS = KUMAR | {"split": "train", "crop": None, "held_out": 0.0}  # the first 80 %
OF_SHAPES = {"latent_size": 10, "batch_size": 400, "decoder": "bernoulli", "networks": "higgins"}
OF_FACES = {"latent_size": 32, "batch_size": 100, "decoder": "gaussian", "networks": "higgins"}
OF_CHAIRS = OF_SHAPES | {"latent_size": 32}
ADAM = {"learning_rate": 1e-4, "adam_beta1": 0.9, "adam_beta2": 0.999, "adam_eps": 1e-8}

# (system, data): plan, settings, (C, H, W), parameters at first. Kumar et al., sec. 4, Table 1.
TABLE = {}
for system, on_shapes, on_faces in (
    ("vae", {}, {}),
    ("beta-vae", {"beta": 4, "warmup_steps": 0}, {"beta": 4}),
    ("dip-vae-1", {"lambda_od": 10, "lambda_d": 100}, {"lambda_od": 2, "lambda_d": 100}),
    (
        "dip-vae-2",
        {"lambda_od": 500, "lambda_d": 500, "lambda_3": 200},
        {"lambda_od": 80, "lambda_d": 40, "lambda_3": 0},
    ),
):
    rows = [("dsprites", SHAPES_2D, OF_SHAPES | on_shapes, 10, 1),
            ("celeba", FACES, OF_FACES | on_faces, 32, 3),
            ("chair-masks", CHAIRS, OF_CHAIRS | on_shapes, 32, 1)]  # fmt: skip
    for name, plan, settings, m, c in rows[: 2 if system == "dip-vae-2" else 3]:
        count = _higgins(m, c)
        TABLE[system, name] = plan, settings | ADAM, (c, 64, 64), count

for system, settings, more in (
    ("annealed-vae", {"gamma": 1000, "capacity": 25, "capacity_steps": 100_000}, 0),
    ("beta-tcvae", {"beta": 6, "estimator": "mws"}, 0),
    (
        "factor-vae",
        {"gamma": 35, "discriminator_learning_rate": 1e-4, "discriminator_beta1": 0.5},
        _dense(10, *6 * [1000], 2),
    ),
):
    shared = {"latent_size": 10, "batch_size": 64, "networks": "locatello", "decoder": "bernoulli"}
    for name, c in COMPARED.items():
        plan = SHAPES_2D | ({"split": "all"} if name == "smallnorb" else {})  # both parts, ten toys
        row = plan, shared | settings | ADAM, (c, 64, 64), _locatello(c) + more
        TABLE[system, name] = row

# Lezama, sec. 3 and App. A.1: 100 epochs of 60,000 digits; App. A.5: 25 epochs of 73,257 images.
OF_LEZAMA = {"factors": 2, "batch_size": 128, "learning_rate": 3e-4, "weight_decay": 1e-6,
             "supervision": True, "weight_cross_covariance": 1e-3}  # fmt: skip
WHOLE = {"image_size": None, "split": "train", "crop": None, "mirror": False, "held_out": 0.0}
TABLE["jacobian-ae", "mnist"] = (
    WHOLE | {"steps": pytest.approx(100 * 60_000 / 128, abs=50)},
    OF_LEZAMA
    | {"network": "mlp", "nuisance": 14, "weight_y": 0.25, "weight_diff": 0.1}
    | {"batch_norm": "teacher"},
    (1, 28, 28),
    _dense(784, 256, 128, 64, 2) + _dense(2, 64, 128, 256, 784),
)
TABLE["jacobian-ae", "svhn"] = (
    WHOLE | {"steps": round(25 * 73_257 / 128)},
    OF_LEZAMA
    | {"network": "conv", "nuisance": 16, "weight_y": 0.025, "weight_diff": 0.01}
    | {"batch_norm": "all"},
    (3, 32, 32),
    _layers(3, 3, 64, 128, 256, 2) + _layers(4, 2, 256, 128, 64, 3),
)
# Sec. 4.2, App. A.2: C(16) ... C(512) C(552), with batch norm; D(552) D(552) D(296) ... D(56).
_MAPS = (16, 32, 64, 128, 256, 512)
TABLE["attribute-ae", "celeba"] = (
    {"steps": math.floor(100 * 162_770 / 128), "image_size": 256, "split": "train", "crop": 178,
     "mirror": True, "held_out": 0.0},
    {"attributes": 40, "z_channels": 512, "batch_size": 128, "reconstruction_weight": 100,
     "prediction_weight": 0.1, "cross_covariance_weight": 0.1, "cycle_attributes_weight": 1e-4,
     "cycle_z_weight": 1e-5, "cycle_steps": math.floor(100 * 162_770 / 128),
     "student_steps": 254_328, "students": 2, "y_weight": 1, "difference_weight": 50,
     "learning_rate": 0.002, "adam_beta1": 0.5, "adam_beta2": 0.999, "variant": "author_code",
     "supervision": "jacobian", "supervisor": "original", "last_activation": True},
    (3, 256, 256),
    _layers(4, 3, *_MAPS, 552, bias=False) + 2 * (sum(_MAPS) + 552)
    + sum(_layers(4, a, b, bias=False) for a, b in (
        (552, 512), (552, 256), (296, 128), (168, 64), (104, 32), (72, 16), (56, 3)))
    + 2 * sum(_MAPS),
)  # fmt: skip


def _built(plan, shape):
    torch.manual_seed(0)
    return systems.build(plan.system, plan.config, shape)


def _count(system):
    return sum(p.numel() for p in system.parameters())


@pytest.mark.parametrize(("system", "name"), TABLE)
def test_figures_of_the_papers(system, name):
    expected, settings, shape, parameters = TABLE[system, name]
    plan = Plan.from_preset(system, name, "paper", data_path="x")
    config = plan.config
    assert {key: getattr(plan, key) for key in expected} == expected
    assert {key: getattr(config, key) for key in settings} == settings
    assert plan.note.startswith("as published for ")
    built = _built(plan, shape)
    assert _count(built) == parameters
    first = next(iter(built.optimizers.values())).param_groups[0]
    betas = settings.get("adam_beta1", 0.9), settings.get("adam_beta2", 0.999)
    decay = settings.get("weight_decay", 0)
    assert (first["lr"], first["betas"]) == (settings["learning_rate"], betas)
    assert first["weight_decay"] == decay


def test_no_other_data_is_called_published():
    for system in MINE:
        for name in data.names():
            note = systems.preset(system, "paper", name).note
            published = (system, name) in TABLE
            assert note.startswith("as published for " if published else "no published"), system


def test_one_batch_size_for_all_that_kumar_compares():
    for name, size in (("dsprites", 400), ("celeba", 100), ("sprites", 400), ("faces", 100)):
        for system in ("vae", "beta-vae", "dip-vae-1", "dip-vae-2"):
            assert systems.preset(system, "paper", name).config.batch_size == size


@pytest.mark.parametrize("preset", ["smoke", "quick"])
def test_third_moments_count_on_2d_shapes_alone(preset):
    for name in data.names():
        weight = systems.preset("dip-vae-2", preset, name).config.lambda_3
        assert weight == (200 if name in ("sprites", "dsprites") else 0), name


def test_ramesh_beta_vae():
    """App. C and Table 2: base 64, latent size 32, β = 8; the mean squared error."""
    plan = Plan.from_preset("beta-vae", "celeba", "paper", data_path="x", steps=1_500_000,
                            settings=dict(RAMESH))  # fmt: skip
    c = plan.config
    assert (c.batch_size, c.adam_beta1, c.adam_beta2, c.adam_eps) == (32, 0.5, 0.99, 1e-8)
    assert (c.latent_size, c.base, c.beta, c.warmup_steps) == (32, 64, 8, 1_000_000)
    assert c.networks == "dcgan"
    built = _built(plan, (3, 64, 64))
    maps = (64, 128, 256, 512)
    scales, leaks_and_thresholds = 5, 2 * sum(maps)
    encoder = _layers(4, 3, *maps) + _dense(8192, 64) + scales + leaks_and_thresholds
    assert _count(built.encoder) == encoder
    decoder = _dense(32, 8192) + _layers(4, *maps[::-1], 3) + scales + leaks_and_thresholds
    assert _count(built.decoder) == decoder
    x = torch.rand(2, 3, 64, 64)
    z = torch.randn(2, 32)
    with torch.no_grad():
        found = [float(built.eval().reconstruction_loss(z, image)) for image in (x, 0 * x)]
        error = [float((built.decode(z) - image).square().mean()) for image in (x, 0 * x)]
    # Without the constant of the density; float32 resolves 0.005 of its 64,000 nats.
    assert found[0] - found[1] == pytest.approx(error[0] - error[1], abs=0.02)


def test_jeons_autoencoders():
    """App. B, Tables 3 and 4: ngf = 64 on CelebA, the generator as decoder, reversed as encoder."""
    settings = {"networks": "ib-gan", "base": 64, "latent_size": 15}
    plan = Plan.from_preset("factor-vae", "celeba", "paper", data_path="x", settings=settings)
    built = _built(plan, (3, 64, 64))
    norms = 2 * (1024 + 8 * 8 * 256) + 2 * (256 + 256 + 128 + 64)
    decoder = _dense(15, 1024, 8 * 8 * 256, bias=False) + _layers(3, 256, 256, 256, bias=False)
    decoder += _layers(4, 256, 128, 64, bias=False) + _layers(4, 64, 3) + norms
    assert _count(built.decoder) == decoder
    norms = 2 * (128 + 256 + 256 + 256 + 1024)
    encoder = _layers(4, 3, 64) + _layers(4, 64, 128, 256, bias=False)
    encoder += _layers(3, 256, 256, 256, bias=False) + _dense(8 * 8 * 256, 1024, bias=False)
    assert _count(built.encoder) == encoder + _dense(1024, 30) + norms


@pytest.mark.parametrize(("system", "name"), TABLE)
def test_two_updates_on_files_of_the_official_format(tmp_path, monkeypatch, system, name):
    """Of each paper preset, at a batch of two; of the first phases, where there are several."""
    path = _official_files.write(name, tmp_path, monkeypatch)
    plan = Plan.from_preset(system, name, "paper", data_path=path, settings={"batch_size": 2})
    images, _ = data.hold_out(data.load(**plan.data_arguments()), plan.held_out)
    assert images.image_shape == TABLE[system, name][2]
    built = _built(plan, images.image_shape)
    built.dataset_size = len(images)
    batches = Batches(
        images, BatchSampler(len(images), built.images_per_step, 0), built, plan.mirror
    )
    for phase, _ in built.phases(plan.steps)[:2]:
        built.start_phase(phase)
        built.train()
        for step in range(2):
            logs = built.step(*batches(step))
            assert all(torch.isfinite(value) for value in logs.values()), logs
        assert built.phase_step == 2
