import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pydisent.metrics import InceptionFeatures, fid


class Conv(nn.Module):
    def __init__(self, n, out, k=1, stride=1, pad=0):
        super().__init__()
        self.conv = nn.Conv2d(n, out, k, stride, pad, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Parts(nn.Module):
    """The named convolutions of a block, and how they are joined."""

    def __init__(self, join, **convolutions):
        super().__init__()
        for name, conv in convolutions.items():
            setattr(self, name, conv)
        self.join = join

    def forward(self, x):
        return torch.cat(self.join(self, x), 1)


def averaged(x, fid_weights):
    """3 × 3 means; those of the FID weights leave out what is outside of the image."""
    total = F.avg_pool2d(x, 3, 1, 1) * 9
    inside = F.avg_pool2d(torch.ones_like(x), 3, 1, 1) * 9
    return total / (inside if fid_weights else 9)


def a(n, pooled, fw):
    def join(m, x):
        return [
            m.branch1x1(x),
            m.branch5x5_2(m.branch5x5_1(x)),
            m.branch3x3dbl_3(m.branch3x3dbl_2(m.branch3x3dbl_1(x))),
            m.branch_pool(averaged(x, fw)),
        ]

    return Parts(
        join,
        branch1x1=Conv(n, 64),
        branch5x5_1=Conv(n, 48),
        branch5x5_2=Conv(48, 64, 5, 1, 2),
        branch3x3dbl_1=Conv(n, 64),
        branch3x3dbl_2=Conv(64, 96, 3, 1, 1),
        branch3x3dbl_3=Conv(96, 96, 3, 1, 1),
        branch_pool=Conv(n, pooled),
    )


def b(n):
    def join(m, x):
        double = m.branch3x3dbl_3(m.branch3x3dbl_2(m.branch3x3dbl_1(x)))
        return [m.branch3x3(x), double, F.max_pool2d(x, 3, 2)]

    return Parts(
        join,
        branch3x3=Conv(n, 384, 3, 2),
        branch3x3dbl_1=Conv(n, 64),
        branch3x3dbl_2=Conv(64, 96, 3, 1, 1),
        branch3x3dbl_3=Conv(96, 96, 3, 2),
    )


def c(c7, fw):
    def join(m, x):
        y = m.branch7x7dbl_3(m.branch7x7dbl_2(m.branch7x7dbl_1(x)))
        return [
            m.branch1x1(x),
            m.branch7x7_3(m.branch7x7_2(m.branch7x7_1(x))),
            m.branch7x7dbl_5(m.branch7x7dbl_4(y)),
            m.branch_pool(averaged(x, fw)),
        ]

    wide, high = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
    return Parts(
        join,
        branch1x1=Conv(768, 192),
        branch7x7_1=Conv(768, c7),
        branch7x7_2=Conv(c7, c7, *wide),
        branch7x7_3=Conv(c7, 192, *high),
        branch7x7dbl_1=Conv(768, c7),
        branch7x7dbl_2=Conv(c7, c7, *high),
        branch7x7dbl_3=Conv(c7, c7, *wide),
        branch7x7dbl_4=Conv(c7, c7, *high),
        branch7x7dbl_5=Conv(c7, 192, *wide),
        branch_pool=Conv(768, 192),
    )


def d():
    def join(m, x):
        long = m.branch7x7x3_4(m.branch7x7x3_3(m.branch7x7x3_2(m.branch7x7x3_1(x))))
        return [m.branch3x3_2(m.branch3x3_1(x)), long, F.max_pool2d(x, 3, 2)]

    return Parts(
        join,
        branch3x3_1=Conv(768, 192),
        branch3x3_2=Conv(192, 320, 3, 2),
        branch7x7x3_1=Conv(768, 192),
        branch7x7x3_2=Conv(192, 192, (1, 7), 1, (0, 3)),
        branch7x7x3_3=Conv(192, 192, (7, 1), 1, (3, 0)),
        branch7x7x3_4=Conv(192, 192, 3, 2),
    )


def e(n, fw, maximum):
    def join(m, x):
        one, two = m.branch3x3_1(x), m.branch3x3dbl_2(m.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, 1, 1) if maximum else averaged(x, fw)
        return [
            m.branch1x1(x),
            m.branch3x3_2a(one),
            m.branch3x3_2b(one),
            m.branch3x3dbl_3a(two),
            m.branch3x3dbl_3b(two),
            m.branch_pool(pooled),
        ]

    wide, high = ((1, 3), 1, (0, 1)), ((3, 1), 1, (1, 0))
    return Parts(
        join,
        branch1x1=Conv(n, 320),
        branch3x3_1=Conv(n, 384),
        branch3x3_2a=Conv(384, 384, *wide),
        branch3x3_2b=Conv(384, 384, *high),
        branch3x3dbl_1=Conv(n, 448),
        branch3x3dbl_2=Conv(448, 384, 3, 1, 1),
        branch3x3dbl_3a=Conv(384, 384, *wide),
        branch3x3dbl_3b=Conv(384, 384, *high),
        branch_pool=Conv(n, 192),
    )


class Inception(nn.Module):
    """Inception-v3 with torchvision's names, as written down in its paper."""

    def __init__(self, fw):
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, 1, 1)
        self.Conv2d_3b_1x1 = Conv(64, 80)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = a(192, 32, fw), a(256, 64, fw), a(288, 64, fw)
        self.Mixed_6a = b(288)
        self.Mixed_6b, self.Mixed_6c = c(128, fw), c(160, fw)
        self.Mixed_6d, self.Mixed_6e = c(160, fw), c(192, fw)
        self.Mixed_7a, self.Mixed_7b, self.Mixed_7c = d(), e(1280, fw, False), e(2048, fw, fw)
        self.fc = nn.Linear(2048, 1008 if fw else 1000)
        if not fw:
            self.AuxLogits = nn.Module()
            self.AuxLogits.conv0, self.AuxLogits.conv1 = Conv(768, 128), Conv(128, 768, 5)
            self.AuxLogits.fc = nn.Linear(768, 1000)

    def pooled(self, images):
        x = F.interpolate(images, (299, 299), mode="bilinear", align_corners=False) * 2 - 1
        x = F.max_pool2d(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))), 3, 2)
        x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, 2)
        for name in "5b 5c 5d 6a 6b 6c 6d 6e 7a 7b 7c".split():
            x = getattr(self, f"Mixed_{name}")(x)
        assert x.shape[2:] == (8, 8)
        return x.mean((2, 3))


@pytest.fixture(scope="module", params=["fid", "torchvision"])
def inception(request, tmp_path_factory):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Inception(request.param == "fid").eval()
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.bias, module.running_mean):
                    nn.init.uniform_(tensor, -0.2, 0.2)
                module.weight.data.add_(1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    path = tmp_path_factory.mktemp("inception") / f"{request.param}.pth"
    torch.save(net.state_dict(), path)
    return request.param, net, path


def test_features_by_hand(inception):
    variant, net, path = inception
    if variant == "torchvision":
        # Published: 27 161 264 parameters, the auxiliary classifier's among them.
        assert sum(p.numel() for p in net.parameters()) == 27_161_264
    found = InceptionFeatures(path)
    assert found.name == f"inception-v3-{variant}"
    assert (found.notice is None) == (variant == "fid")
    images = torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = net.pooled(images)
    features = found.features(images)
    assert features.shape == (1, 2048)
    assert expected.std() > 0.01
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-4 * float(expected.std()))
    other = InceptionFeatures(path, "fid" if variant == "torchvision" else "torchvision")
    assert (other.features(images) - expected).abs().mean() > 0.01 * expected.std()


def test_grey_images_and_fid(inception):
    variant, _, path = inception
    if variant == "torchvision":
        return  # nothing that the variants differ in
    net = InceptionFeatures(path)
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(4))
    with pytest.warns(UserWarning, match="2 real and 2 made images by 2048 features"):
        found = fid(images, images.expand(-1, 3, -1, -1), features=net)
    assert found.details["distance"] == "inception-v3-fid"
    assert found.score <= 1e-10 * float(net.features(images).square().sum())


def test_files_that_do_not_fit(inception, tmp_path):
    variant, net, _ = inception
    if variant == "torchvision":
        return  # the checks are the same
    state = net.state_dict()
    for change, words in (
        ({"fc.weight": torch.zeros(10, 2048)}, "must have 1000 or 1008 classes, got 10"),
        ({"Mixed_8.conv.weight": torch.zeros(1)}, "Mixed_8.conv.weight, which is not part"),
        ({"Mixed_7c.branch_pool.bn.bias": torch.zeros(3)}, r"Mixed_7c.branch_pool.bn.bias must be"),
        ({"Mixed_5b.branch1x1.bn.running_var": -torch.ones(64)}, "running_var must be at least 0"),
    ):
        torch.save(state | change, tmp_path / "w.pth")
        with pytest.raises(ValueError, match=words):
            InceptionFeatures(tmp_path / "w.pth")
    for name, words in (
        ("fc.weight", "lacks fc.weight, which tells fid from torchvision: give variant"),
        ("Conv2d_1a_3x3.conv.weight", "lacks Conv2d_1a_3x3.conv.weight"),
    ):
        torch.save({k: v for k, v in state.items() if k != name}, tmp_path / "w.pth")
        with pytest.raises(ValueError, match=words):
            InceptionFeatures(tmp_path / "w.pth")
    with pytest.raises(ValueError, match="variant must be fid, torchvision or None, got 'tf'"):
        InceptionFeatures(tmp_path / "w.pth", "tf")
