import io
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pydisent.metrics import Vgg16Distance, fid, perceptual_distance, ppl

WIDTHS = (64, 64, "M", 128, 128, "M", *(256,) * 3, "M", *(512,) * 3, "M", *(512,) * 3)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def net():
    """VGG16's convolutions with random weights, in torchvision's layout: features.N."""
    generator = torch.Generator().manual_seed(0)
    layers, channels = [], 3
    for width in WIDTHS:
        if width == "M":
            layers.append(nn.MaxPool2d(2, 2))
            continue
        conv = nn.Conv2d(channels, width, 3, padding=1)
        with torch.no_grad():
            conv.weight.normal_(0, math.sqrt(2 / (9 * channels)), generator=generator)
            conv.bias.normal_(0, 0.1, generator=generator)
        layers += [conv, nn.ReLU()]
        channels = width
    net = nn.Module()
    net.features = nn.Sequential(*layers)
    return net


@pytest.fixture(scope="module")
def lpips():
    generator = torch.Generator().manual_seed(1)
    return {
        f"lin{k}.model.1.weight": torch.rand(1, c, 1, 1, generator=generator)
        for k, c in enumerate((64, 128, 256, 512, 512))
    }


@pytest.fixture(scope="module")
def files(net, lpips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    classifier = {"classifier.0.weight": torch.zeros(2, 2), "classifier.6.bias": torch.zeros(2)}
    torch.save({**net.state_dict(), **classifier}, folder / "vgg16.pth")
    torch.save(lpips, folder / "vgg.pth")
    return folder


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 40, 32, generator=torch.Generator().manual_seed(2))


def activations(net, images):
    """The five stages by torchvision's numbering: relu1_2, 2_2, 3_3, 4_3, 5_3."""
    mean, std = torch.tensor(IMAGENET, dtype=torch.float64)[..., None, None]
    x = (images - mean) / std
    stages = []
    for number, layer in enumerate(net.features):
        x = layer.to(x.dtype)(x)
        if number in (3, 8, 15, 22, 29):
            stages.append(x)
    return stages


def by_hand(net, first, second, weights=None, squared=True):
    total = 0
    with torch.no_grad():
        stages = zip(activations(net, first), activations(net, second))
        for k, (a, b) in enumerate(stages):
            difference = F.normalize(a) - F.normalize(b)
            w = 1 if weights is None else weights[f"lin{k}.model.1.weight"].to(a)
            local = (difference**2 * w).sum(1)
            total = total + (local if squared else local.sqrt()).mean((1, 2))
    return total


def test_the_net_is_vgg16(net):
    # 138 357 544 parameters, less the classifier's, as published.
    fully_connected = (512 * 49 + 1) * 4096 + 4097 * 4096 + 4097 * 1000
    assert sum(p.numel() for p in net.parameters()) == 138_357_544 - fully_connected


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_lpips_by_hand(net, lpips, files, images, squared, weighted):
    distance = perceptual_distance(
        "vgg16",
        weights=files / "vgg16.pth",
        lpips=files / "vgg.pth" if weighted else None,
        squared=squared,
    )
    first, second = images[:1].double(), images[1:].double()
    # LPIPS's scaling of images in [-1, 1] is ImageNet's of images in [0, 1].
    expected = by_hand(net, first, second, lpips if weighted else None, squared)
    torch.testing.assert_close(distance.distance(first, second), expected, rtol=1e-9, atol=0)
    assert distance.name == ("vgg16-lpips" if weighted else "vgg16-unweighted") + (
        "" if squared else "-length"
    )
    assert (distance.notice is None) == (weighted and squared)
    net.float()


def test_grey_small_and_large_images(net, files, images):
    distance = Vgg16Distance(files / "vgg16.pth")
    grey = images[:, :1]
    torch.testing.assert_close(distance.steps(grey), distance.steps(grey.repeat(1, 3, 1, 1)))
    small = images[:, :, :8, :8]
    enlarged = F.interpolate(small, (32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(distance.steps(small), distance.steps(enlarged))
    larger = Vgg16Distance(files / "vgg16.pth", upscale=64).stages(small)[0]
    assert larger.shape == (2, 64, 64, 64)
    blocks = images[:1].repeat_interleave(16, 2).repeat_interleave(16, 3)  # 640 x 512
    assert distance.stages(blocks)[0].shape == (1, 64, 320, 256)
    halved = images[:1].repeat_interleave(8, 2).repeat_interleave(8, 3)
    torch.testing.assert_close(distance.stages(blocks)[4], distance.stages(halved)[4])


def test_it_is_a_distance_and_a_feature_net(files, images):
    distance = Vgg16Distance(files / "vgg16.pth", files / "vgg.pth")
    assert distance.distance(images, images).tolist() == [0, 0]
    assert distance.features(images).shape == (2, 64 + 128 + 256 + 512 + 512)
    with pytest.warns(UserWarning, match="1472 features: a covariance is singular"):
        assert fid(images, images, features=distance).score == pytest.approx(0, abs=1e-6)

    def decode(codes):
        return torch.sigmoid(codes[:, :3, None, None] * images[0])

    found = ppl(decode, lambda n: torch.randn(n, 3), distance=distance, pairs=3)
    assert found.details["distance"] == "vgg16-lpips"
    assert found.score > 0


def test_safetensors(net, files, images):
    save_file = pytest.importorskip("safetensors.torch").save_file
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, files / "v.safetensors")
    there, here = Vgg16Distance(files / "vgg16.pth"), Vgg16Distance(files / "v.safetensors")
    assert torch.equal(there.steps(images), here.steps(images))


class Bomb:
    """What a pickle could hold: it writes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_reading_never_runs_code(tmp_path):
    torch.save({"features.0.weight": Bomb(tmp_path / "ran")}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match=r"bad.pth is not a state dict of tensors alone"):
        Vgg16Distance(tmp_path / "bad.pth")
    assert not (tmp_path / "ran").exists()


def changed(state, **tensors):
    return {**state, **{name.replace("__", "."): tensor for name, tensor in tensors.items()}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {k: v for k, v in s.items() if "28" not in k}, "lacks features.28.weight, feat"),
        (lambda s: changed(s, other=torch.zeros(1)), "has other, which is not part of the net"),
        (
            lambda s: changed(s, features__5__weight=torch.zeros(128, 64, 1, 1)),
            r"features.5.weight must be floating point \(128, 64, 3, 3\), got torch.float32 "
            r"\(128, 64, 1, 1\)",
        ),
        (
            lambda s: changed(s, features__0__bias=torch.full((64,), math.nan)),
            "0.bias must be f",
        ),
        (lambda s: changed(s, features__0__bias=torch.zeros(64).int()), "got torch.int32"),
        (lambda s: {"state_dict": s}, "must hold tensors by name, got 'state_dict', a"),
        (lambda s: [1], "must hold a state dict, got list"),
    ],
)
def test_files_that_do_not_fit(net, tmp_path, change, words):
    torch.save(change(net.state_dict()), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=words):
        Vgg16Distance(tmp_path / "w.pth")


def test_damaged_files(tmp_path):
    """The unpickler raises IndexError, struct.error and more where bytes are missing."""
    written = io.BytesIO()
    torch.save({"a": torch.ones(3)}, written, _use_new_zipfile_serialization=False)
    whole, file = written.getvalue(), tmp_path / "w.pth"
    for size in range(0, len(whole) - 1, 7):
        file.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"vgg16 .*w.pth is not a state dict of tensors"):
            Vgg16Distance(file)


def test_channel_weights_that_do_not_fit(files, lpips, tmp_path):
    for change, words in (
        (
            {"lin0.model.1.weight": torch.zeros(1, 65, 1, 1)},
            r"lin0.* must be .*\(1, 64, 1, 1",
        ),
        ({"lin5.model.1.weight": torch.zeros(1)}, "has lin5.model.1.weight, which is not part"),
        ({"lin1.model.1.weight": torch.full((1, 128, 1, 1), -1.0)}, "at least 0, got -1.0"),
    ):
        torch.save({**lpips, **change}, tmp_path / "lin.pth")
        with pytest.raises(ValueError, match=words):
            Vgg16Distance(files / "vgg16.pth", tmp_path / "lin.pth")


def test_bad_arguments(files, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vgg16 must be a file of weights, got .*none.pth"):
        Vgg16Distance(tmp_path / "none.pth")
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("not weights")
        with pytest.raises(ValueError, match=f"vgg16 .*{name} is not a "):
            Vgg16Distance(tmp_path / name)
    with pytest.raises(ValueError, match="upscale must be at least 16"):
        Vgg16Distance(files / "vgg16.pth", upscale=8)
    with pytest.raises(ValueError, match="kind must be one of 'fixed', 'vgg16', got 'vgg19'"):
        perceptual_distance("vgg19")
    with pytest.raises(ValueError, match="weights must be given for kind 'vgg16'"):
        perceptual_distance("vgg16")
    with pytest.raises(ValueError, match="must be None for kind 'fixed'"):
        perceptual_distance("fixed", weights=files / "vgg16.pth")
    with pytest.raises(TypeError, match="squared must be True or False, got 'no'"):
        perceptual_distance("fixed", squared="no")
    assert perceptual_distance("fixed", squared=True).name == "fixed-features-1-squared"
