"""The GANs' `paper` presets against the papers' own figures, by data set."""

import dataclasses
from itertools import pairwise

import _official_files
import pytest
import torch

from pydisent import data, systems
from pydisent.systems._rmsprop import TensorFlowRMSprop
from pydisent.training import Plan, open_run, train

pytestmark = pytest.mark.in_turn

# Ramesh et al.: App. C and D, Tables 1 and 2 (note 3: noise), Fig. 7 for CelebA; LSUN of Fig. 13d.
_RAMESH = {
    "base": 64, "batch_size": 32, "learning_rate": 1e-4, "discriminator_learning_rate": None,
    "rmsprop_decay": 0.9, "rmsprop_eps": 1e-6, "rmsprop_variant": "tensorflow", "iterations": 8,
    "encoder_base": None, "encoder_steps": 30_000, "reweight": True,
    # none of these in the paper
    "r1_weight": 0.0, "ema_decay": 0.0, "code_regression": 0.0,
}  # fmt: skip
_ALIGNED = {"latent_size": 128, "k": 32, "penalty_weight": 0.5, "instance_noise": 0.0}
# Zhu et al.: sec. 3.2, 4.3, 4.4 and Table 4; the authors' command for what the paper leaves out.
_ZHU = {
    "batch_size": 8, "ps_weight": 0.01, "perturbation": 3 * 2.0, "codes": 5, "rectangles": 4,
    "mask": "band", "learning_rate": 2e-3, "adam_beta1": 0.0, "adam_beta2": 0.99,
    "r1_weight": 100.0, "r1_interval": 16, "ema_half_life": 10.0, "regression_variant": "published",
    "resampling": "filtered", "width_schedule": "layers", "max_width": 512, "min_width": 64,
}  # fmt: skip
# Jeon et al.: Tables 3 and 7, and the text for the batch.
_JEON = {"batch_size": 64, "learning_rate": 5e-5, "rmsprop_momentum": 0.9}
_SPRITES = {
    "base": 16, "discriminator_base": 16, "discriminator_learning_rate": 1e-6,
    "noise_start": 1.0, "noise_end": 0.0, "label_smoothing": False,
}  # fmt: skip
_PHOTOGRAPHS = {
    "discriminator_learning_rate": 2e-6,
    "noise_start": 0.5, "noise_end": 0.01, "label_smoothing": True,
}  # fmt: skip
_BY_DATA = {
    "dsprites": (150_000, {**_SPRITES, "noise_steps": 100_000}),
    "color-dsprites": (500_000, {**_SPRITES, "noise_steps": 400_000}),
    "chairs": (
        700_000, {**_PHOTOGRAPHS, "noise_steps": 700_000, "base": 32, "discriminator_base": 32},
    ),
    "celeba": (
        1_000_000, {**_PHOTOGRAPHS, "noise_steps": 10**6, "base": 64, "discriminator_base": 64},
    ),
}  # fmt: skip
_IB = {
    "dsprites": {"noise_size": 16, "latent_size": 10, "gamma": 1.0, "beta": 0.141,
                 "encoder_units": "64,64,32", "shared_front": True},
    "color-dsprites": {"noise_size": 16, "latent_size": 10, "gamma": 1.0, "beta": 0.071,
                       "encoder_units": "32,32", "shared_front": False},
    "chairs": {"noise_size": 64, "latent_size": 10, "gamma": 1.2, "beta": 0.35,
               "encoder_units": "64,64,32", "shared_front": True},
    "celeba": {"noise_size": 64, "latent_size": 15, "gamma": 2.0, "beta": 0.325,
               "encoder_units": "64,64,32", "shared_front": True},
}  # fmt: skip
_WHOLE = {"celeba": "all", "chairs": "all"}  # 202,599 images; 86,366 views (Table 8)
# (system, data) -> updates, image size, crop, mirrored, settings
PUBLISHED = {
    ("spectral-gan", "dsprites"): (
        750_000, 64, None, False,
        {**_RAMESH, "latent_size": 10, "k": 6, "penalty_weight": 0.6, "instance_noise": 0.6},
    ),
    ("spectral-gan", "celeba"): (750_000, 64, None, False, {**_RAMESH, **_ALIGNED}),
    ("spectral-gan", "lsun"): (750_000, 64, None, False, {**_RAMESH, **_ALIGNED}),
    # 19 epochs of 202,599 images, 8 at a time: the paper's "around 19", 481,000 updates
    ("ps-sc", "celeba"): (481_173, 128, 128, True, {**_ZHU, "spatial_constriction": True}),
    # 28 epochs of 70,000
    ("ps-sc", "ffhq"): (245_000, 512, None, True, {**_ZHU, "spatial_constriction": True}),
    # 25 million images, the script's default
    ("ps-sc", "dsprites"): (3_125_000, 64, None, False, {**_ZHU, "spatial_constriction": False}),
    ("ps-sc", "3dshapes"): (3_125_000, 64, None, False, {**_ZHU, "spatial_constriction": True}),
    **{
        (name, on): (steps, 64, None, False, {**_JEON, **settings, **own})
        for on, (steps, settings) in _BY_DATA.items()
        for name, own in {
            "ib-gan": _IB[on],
            # Table 6: one network for both kinds of sprites, D_z = 10, IB-GAN's γ
            "infogan": {"latent_size": 10, "shared_front": True, "gamma": _IB[on]["gamma"]},
            "gan": {"latent_size": 10, "shared_front": True},
        }.items()
    },
}  # fmt: skip
CHANNELS = {"dsprites": 1, "chairs": 1}


@pytest.mark.parametrize(("system", "on"), PUBLISHED)
def test_paper_presets_have_the_papers_figures(system, on):
    steps, side, crop, mirror, settings = PUBLISHED[system, on]
    row = systems.preset(system, "paper", on)
    if on in data.names():  # the plan leaves out what the data does not have
        row = Plan.from_preset(system, on, "paper")
    found = (row.steps, row.image_size, row.split, row.crop, row.mirror)
    assert found == (steps, side, _WHOLE.get(on), crop, mirror)
    config = dataclasses.asdict(row.config)
    assert {name: config[name] for name in settings} == settings
    assert "published" in row.note
    assert "no published settings" not in row.note


def test_there_is_a_test_of_every_published_data_set():
    for kind in (systems.SpectralGAN, systems.PSSC, systems.GAN, systems.InfoGAN, systems.IBGAN):
        tested = {on for system, on in PUBLISHED if system == kind.name}
        assert tested == set(kind.presets.paper.published)


@pytest.mark.parametrize(
    ("system", "on", "source"),
    [
        ("spectral-gan", "sprites", "dsprites"), ("spectral-gan", "mnist", "dsprites"),
        ("spectral-gan", "faces", "celeba"), ("ps-sc", "shapes3d", "3dshapes"),
        ("ps-sc", "sprites", "dsprites"), ("ps-sc", "images", "celeba"),
        ("ps-sc", "clevr-simple", "3dshapes"), ("ib-gan", "color-sprites", "color-dsprites"),
        ("infogan", "chair-masks", "chairs"), ("gan", "faces", "celeba"),
    ],
)  # fmt: skip
def test_other_data_is_told_whose_settings_it_gets(system, on, source):
    preset = systems.preset(system, "paper", on)
    assert preset.note == f"no published settings for {on}; using those for {source}"
    assert preset.config == systems.preset(system, "paper", source).config


def _network(system, on):
    """The published network, without its weights' values."""
    side = PUBLISHED[system, on][1]
    config = systems.preset(system, "paper", on).config
    with torch.device("meta"):
        return systems.build(system, config, (CHANNELS.get(on, 3), side, side))


def _weights(*modules):
    """The numbers in the weights of dense layers and convolutions, without biases and norms."""
    named = [item for module in modules for item in module.named_parameters()]
    return sum(p.numel() for name, p in named if p.dim() > 1 and not name.endswith("original0"))


@pytest.mark.parametrize("on", ["dsprites", "celeba", "lsun"])
def test_sizes_of_ramesh(on):
    """DCGAN's 512-256-128-64 maps at 4 to 32 px, 4×4 kernels; App. D: the encoder's twice that."""
    system, m, c = (
        _network("spectral-gan", on),
        10 if on == "dsprites" else 128,
        CHANNELS.get(on, 3),
    )
    convs = 16 * (512 * 256 + 256 * 128 + 128 * 64 + 64 * c)
    assert _weights(system.generator) == m * 512 * 16 + convs
    assert _weights(system.discriminator) == 512 * 16 * 1 + convs
    convs = 16 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * c)
    assert _weights(system.encoder) == 1024 * 16 * m + convs


def _conv(inputs, outputs, size=3):
    return inputs * outputs * size**2 + outputs


def _zhu_generator(blocks, channels, constricted=True):
    """Parameters by the authors' module list: fmap_base 2 · 2⁹, G_nf_scale 6, from 64 to 512."""
    modules = ["Const", *["ResConv-up", "C", "ResConv-id", "Noise-2"] * blocks, "ResConv-id-2"]
    x, size, total = 512, 4, 512 * 4 * 4
    for number, module in enumerate(modules):
        f = min(max(2 * 2**9 // 2 ** (number // 6), 64), 512)
        if module == "C" and constricted:
            total += x * 5 * 4 * 4 * size  # 5 codes, 4 rectangles, 4 gates, without biases
            total += 5 * (2 * x + 2 * x)  # a scale and a shift a map, with biases
            continue
        if module == "C":  # all codes modulate the maps of one convolution
            total += 5 * x + x + _conv(x, f)
        elif module == "Noise-2":
            total += _conv(x, f) + 1 + _conv(f, f) + 1
        elif module.startswith("ResConv"):
            total += _conv(x, f) + _conv(x, f, 1)
            total += _conv(f, f) if module == "ResConv-id-2" else 0
            size *= 2 if module == "ResConv-up" else 1
        x = f if module != "Const" else x
    return total + _conv(x, channels, 1)


def _zhu_head(log_size, channels, outputs, statistics):
    """Parameters of StyleGAN2's residual discriminator, fmap_base 2 · 2¹⁰."""

    def f(stage):
        return min(max(2 * 2**10 // 2**stage, 64), 512)

    total = _conv(channels, f(log_size - 1), 1)
    for r in range(log_size, 2, -1):
        total += _conv(f(r - 1), f(r - 1)) + _conv(f(r - 1), f(r - 2)) + f(r - 1) * f(r - 2)
    last = _conv(f(1) + statistics, f(1)) + f(1) * 16 * f(0) + f(0)
    return total + last + f(0) * outputs + outputs


@pytest.mark.parametrize("on", ["celeba", "ffhq", "dsprites", "3dshapes"])
def test_sizes_of_zhu(on):
    system, channels, side = _network("ps-sc", on), CHANNELS.get(on, 3), PUBLISHED["ps-sc", on][1]
    log_size = side.bit_length() - 1
    found = [
        sum(p.numel() for p in network.parameters())
        for network in (system.generator, system.discriminator, system.recogniser)
    ]
    blocks = log_size - 2
    assert system.latent_size == 5 * blocks
    assert found == [
        _zhu_generator(blocks, channels, constricted=on != "dsprites"),
        _zhu_head(log_size, channels, 1, 1),
        # The authors' also has the minibatch deviation; ours reads images one by one.
        _zhu_head(log_size, channels, 5 * blocks, 0),
    ]
    if on == "celeba":
        assert found[0] / 1e6 == pytest.approx(37.3, abs=0.05)


@pytest.mark.parametrize("on", _BY_DATA)
@pytest.mark.parametrize("name", ["ib-gan", "infogan", "gan"])
def test_sizes_of_jeon(name, on):
    """Tables 3 to 6."""
    system, c = _network(name, on), CHANNELS.get(on, 3)
    g = {"dsprites": 16, "color-dsprites": 16, "chairs": 32, "celeba": 64}[on]
    r = _IB[on]["latent_size"] if name == "ib-gan" else 10
    z = _IB[on]["noise_size"] if name == "ib-gan" else 10
    generator = r * 16 * g + 16 * g * 8 * 8 * 4 * g  # FC
    generator += 2 * 9 * (4 * g) ** 2 + 16 * (4 * g * 2 * g + 2 * g * g + g * c)
    assert _weights(system.generator) == generator
    front = 16 * (c * g + g * 2 * g + 2 * g * 4 * g)
    head = 2 * 9 * (4 * g) ** 2 + 8 * 8 * 4 * g * 16 * g
    assert _weights(system.front, system.discriminator) == front + head + 16 * g
    assert _weights(system.reconstructor) == head + 16 * g * z
    assert (system.own_front is None) == (name != "ib-gan" or on != "color-dsprites")
    if name == "ib-gan":
        units = [z, 32, 32, 2 * r] if on == "color-dsprites" else [z, 64, 64, 32, 2 * r]
        assert _weights(system.encoder) == sum(a * b for a, b in pairwise(units))


@pytest.mark.parametrize(("system", "on"), PUBLISHED)
def test_optimisers(system, on):
    built, c = _network(system, on), systems.preset(system, "paper", on).config
    groups = {name: o.param_groups[0] for name, o in built.optimizers.items()}
    rates = {name: group["lr"] for name, group in groups.items()}
    if system == "spectral-gan":
        for name in ("generator", "discriminator"):
            assert isinstance(built.optimizers[name], TensorFlowRMSprop)
            group = groups[name]
            assert (group["lr"], group["alpha"], group["eps"], group["momentum"]) == (
                1e-4, 0.9, 1e-6, 0,
            )  # fmt: skip
        assert (groups["encoder"]["betas"], groups["encoder"]["eps"]) == ((0.5, 0.99), 1e-8)
    elif system == "ps-sc":
        assert rates == pytest.approx({"generator": 1.6e-3, "discriminator": 2e-3 * 16 / 17})
        assert groups["generator"]["betas"] == pytest.approx((0, 0.99 ** (4 / 5)))
        assert groups["discriminator"]["betas"] == pytest.approx((0, 0.99 ** (16 / 17)))
    else:
        assert rates == {
            "generator": 5e-5, "reconstructor": 5e-5,
            "discriminator": c.discriminator_learning_rate,
        }  # fmt: skip
        assert {group["momentum"] for group in groups.values()} == {0.9}


# Few and narrow, so that two updates take seconds; the images are as large as published.
REDUCED = {
    "spectral-gan": {"batch_size": 4, "base": 4, "encoder_steps": 1},
    "ps-sc": {"batch_size": 2, "max_width": 8, "min_width": 4},
    **{
        name: {"batch_size": 4, "base": 4, "discriminator_base": 4}
        for name in ("gan", "infogan", "ib-gan")
    },
}


@pytest.mark.in_turn
@pytest.mark.parametrize(("system", "on"), PUBLISHED)
def test_paper_presets_train_on_files_of_the_official_format(system, on, tmp_path, monkeypatch):
    monkeypatch.setenv("PYDISENT_CACHE", str(tmp_path / "the-cache"))
    side = PUBLISHED[system, on][1]
    (tmp_path / "official").mkdir()
    path = _official_files.write(on, tmp_path / "official", monkeypatch)
    plan = Plan.from_preset(
        system, on, "paper", data_path=path, steps=2, image_size=side, settings=REDUCED[system]
    )
    config = systems.preset(system, "paper", on).config
    assert plan.config == systems.override(config, REDUCED[system])
    train(plan, tmp_path / "run", accelerator="cpu", progress=False)
    run = open_run(tmp_path / "run")
    assert run.step == 2 + (system == "spectral-gan")
    images = run.system.decode(run.system.sample_code(2)).detach()
    assert images.shape == (2, CHANNELS.get(on, 3), side, side)
    assert images.isfinite().all()
    assert run.system.encode(images).isfinite().all()
