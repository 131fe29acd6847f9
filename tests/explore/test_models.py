"""What the page shows of a run, against closed forms."""

import threading

import numpy as np
import pytest
import torch
from _bad_uploads import BAD
from _fake_runs import FakeDataset, LinearSystem, axis_matrix, fake_run, tpl_scores

from pydisent import systems, trace_eigenpath
from pydisent.explore import Model, models_of
from pydisent.systems import NotTrainedError

SCALES = (0.9, 0.6, 0.3, 0.1)
Z = torch.tensor([0.3, -1.0, 2.0, 0.5])


class Bent(LinearSystem):
    """The images are bent, so that the eigenvectors turn as one moves."""

    def decode(self, code):
        return (code @ self.matrix.T).sin().unflatten(-1, self.image_shape) / 2 + 0.5


@pytest.fixture
def model(run):
    return Model(run, "this")


@pytest.fixture
def bent(run):
    generator = torch.Generator().manual_seed(7)
    run.system = Bent(torch.randn(64, 4, generator=generator) / 4, (1, 8, 8))
    return Model(run, "bent")


def smoke(name, data="sprites", shape=(1, 16, 16)):
    torch.manual_seed(0)
    return systems.build(name, systems.preset(name, "smoke", data).config, shape).eval()


def test_a_run_is_named_as_a_command_would(model, run, monkeypatch, tmp_path):
    monkeypatch.setattr(run, "path", tmp_path / "runs" / "gan")
    monkeypatch.chdir(tmp_path)
    assert model.about()["folder"] == "runs/gan"
    monkeypatch.setattr(run, "path", tmp_path.parent)
    assert model.about()["folder"] == tmp_path.parent.name


def test_a_frame_is_the_decoded_image_in_bytes(model, run):
    ((kind, pixels),) = model.frames(Z, mask=2)  # which this system has none of
    grey = (0.5 + run.system.matrix.double() @ Z.double()).clamp(0, 1).reshape(8, 8, 1) * 255
    assert kind == 0
    assert pixels.shape == (8, 8, 4)
    assert pixels.dtype == np.uint8
    assert (pixels[..., 3] == 255).all()
    assert (np.abs(pixels[..., :3] - grey.detach().numpy()) <= 0.5 + 1e-3).all()
    assert np.array_equal(model.pictures(torch.stack([Z, -Z]))[0], pixels)


def test_a_mask_dims_what_is_outside_of_it(tmp_path):
    model = Model(fake_run(tmp_path, masks=True), "masked")
    (_, image), (kind, masked) = model.frames(Z, mask=1)  # at the top, in the middle
    assert kind == 1
    inside = np.zeros((8, 8), bool)
    inside[:4, 3:6] = True
    assert np.array_equal(masked[inside], image[inside])
    # 0.3 times the grey, and 0.7 times a dark blue.
    blue = 0.3 * image[..., :1] + 0.7 * 255 * np.array([0.1, 0.25, 0.5])
    assert (np.abs(masked[..., :3] - blue)[~inside] <= 1).all()
    assert len(model.frames(Z)) == 1


def test_eigenvectors_of_an_affine_generator(model):
    found = model.analysis(Z)
    assert found["eigenvalues"] == pytest.approx([s**2 for s in SCALES], rel=1e-4)
    assert torch.allclose(torch.tensor(found["vectors"]), torch.eye(4), atol=1e-4)


@pytest.mark.parametrize("forwards", [True, False])
def test_steps_go_along_the_axis_of_an_affine_generator(model, forwards):
    path, along = model.walk(Z, 2, forwards=forwards, length=0.25, steps=3)
    steps = torch.arange(1, 4)[:, None] * (0.25 if forwards else -0.25) * torch.eye(4)[1]
    assert torch.allclose(path, Z + steps, atol=1e-4)
    assert torch.allclose(along, torch.eye(4)[1], atol=1e-4)


def test_a_path_is_algorithm_1s_in_one_go_and_in_two(bent):
    z = 2 * Z  # where signs would turn back, were they chosen anew at each step
    whole = trace_eigenpath(bent.system.decode, z[None], ordinals=[1], step_size=0.2, steps=16)
    here, along = bent.walk(z, 1, forwards=False, length=0.2, steps=6)
    there, _ = bent.walk(here[-1], 1, forwards=False, length=0.2, steps=10, direction=along)
    assert torch.equal(torch.cat([z[None], here, there]), whole[0, 0])
    back, _ = bent.walk(here[-1], 1, forwards=False, length=0.2, steps=1, direction=-along)
    assert (back[0] - here[-1]) @ (here[-1] - here[-2]) < 0


def test_frames_and_eigenvectors_at_once_are_those_one_by_one(run):
    run.system = smoke("ps-sc", "shapes3d", (3, 16, 16))
    model = Model(run, "ps-sc")
    codes = torch.randn(12, model.size, generator=torch.Generator().manual_seed(1))
    alone = [(model.frames(z, 0), model.analysis(z)) for z in codes[:3]]
    found = []
    thread = threading.Thread(target=lambda: found.extend(model.analysis(z) for z in codes[:3]))
    thread.start()
    rounds = 0
    while thread.is_alive() or rounds < 3:
        for z, (frames, _) in zip(codes, alone):
            for (_, pixels), (_, expected) in zip(model.frames(z, 0), frames, strict=True):
                assert np.array_equal(pixels, expected)
        rounds += 1
    thread.join()
    assert found == [analysis for _, analysis in alone]


def test_ranges_are_those_of_the_prior(model, run):
    assert model.ranges() == [(-3.0, 3.0)] * 4

    def mixed(n, generator=None):
        signs = 2.0 * torch.randint(2, (n, 1), generator=generator) - 1
        rest = torch.rand(n, 3, generator=generator) * torch.tensor([1.0, 4.0, 0.0])
        return torch.cat([signs, rest], 1)

    run.system.sample_code = mixed
    assert model.ranges() == [(-1.0, 1.0), (0.0, 1.0), (0.0, 4.0), (0.0, 0.5)]


def test_who_cannot_encode_says_why(model, run, picture):
    assert not model.why_no_encoder

    def untrained(x):
        raise NotTrainedError("its encoder is trained after the generator")

    for encode, reason in (
        (untrained, "trained after the generator"),
        (lambda x: x.flatten(1)[:, :3], "encodes 3 of the 4 numbers"),
    ):
        run.system.encode = encode
        other = Model(run, "other")
        assert reason in other.about()["encoder"]
        with pytest.raises(ValueError, match=reason):
            other.encode_stored(picture[1])
        with pytest.raises(ValueError, match=reason):
            other.encode_image(0)


def test_a_picture_is_cropped_made_grey_and_encoded(model, run, picture):
    pixels, stored = picture
    code, seen = model.encode_stored(stored)
    square = pixels[:, 2:18].astype(float)  # the largest in the middle
    grey = square @ np.array([0.299, 0.587, 0.114])
    assert np.abs(seen[..., 0] - grey.reshape(8, 2, 8, 2).mean((1, 3))).max() <= 1.5
    expected = run.system.encode(torch.from_numpy(seen[None, None, ..., 0] / 255).float())
    assert torch.allclose(code, expected[0], atol=1e-5)


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_picture_is_refused(model, name):
    stored, reason = BAD[name]
    with pytest.raises(ValueError, match="the picture must be") as caught:
        model.encode_stored(stored)
    assert reason in str(caught.value)


def test_images_of_the_data_are_encoded_by_number(model, run):
    index, code, seen = model.encode_image(7)
    image = run.dataset.images([7])
    assert index == 7
    assert torch.allclose(code, run.system.encode(image)[0], atol=1e-6)
    assert np.abs(seen[..., 0] - 255 * image[0, 0].numpy()).max() <= 0.5 + 1e-3
    assert 0 <= model.encode_image(None)[0] < 40
    for bad in (40, -1):
        with pytest.raises(ValueError, match=rf"index must be an integer in \[0, 39\], got {bad}"):
            model.encode_image(bad)
    with pytest.raises(TypeError, match="index must be an integer"):
        model.encode_image("/etc/passwd")


def test_unseen_images_come_first(run):
    held_out = FakeDataset((1, 8, 8))
    run.held_out = held_out
    assert Model(run, "x").pictured == (held_out, "test")


def test_strengths(tmp_path, run):
    assert Model(run, "x").strengths() == {
        "tpl": None, "kl": None, "images": 40, "part": "train", "missing": "",
    }  # fmt: skip
    run.scores = tpl_scores(1.0, 2.0, 0.5, 0.25)
    assert Model(run, "x").strengths()["tpl"] == [1.0, 2.0, 0.5, 0.25]

    def missing(indices):
        raise FileNotFoundError("the data has gone")

    run.system.posterior, run.dataset.images = None, missing
    assert Model(run, "x").strengths()["missing"] == "the data has gone"


def test_two_runs_must_share_a_code(tmp_path):
    four, three = fake_run(tmp_path / "a"), fake_run(tmp_path / "b", scales=SCALES[:3])
    with pytest.raises(ValueError, match=r"codes of one size .* got 4 for \S+a and 3 for \S+b"):
        models_of([four, three])
    for runs in ([], [four] * 3):
        with pytest.raises(ValueError, match=f"runs must be one or two, got {len(runs)}"):
            models_of(runs)
    assert [m.label for m in models_of([four, fake_run(tmp_path / "b")])] == ["a", "b"]


def test_eigenvectors_of_a_huge_code_are_not_made(run, monkeypatch):
    monkeypatch.setattr("pydisent.explore._models.LARGEST_MATRIX", 3)
    model = Model(run, "huge")
    assert model.about()["eigenvectors"] == 0
    with pytest.raises(ValueError, match="code must be of at most 3 numbers"):
        model.analysis(Z)


def test_the_matrix_of_the_fake_is_what_it_should_be():
    gram = axis_matrix(64, SCALES).double().T @ axis_matrix(64, SCALES).double()
    assert torch.allclose(gram, torch.tensor(SCALES).double().square().diag(), atol=1e-6)
