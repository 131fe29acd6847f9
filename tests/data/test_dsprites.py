import zipfile

import numpy as np
import pytest
import torch

from pydisent.data import load
from pydisent.data.dsprites import DSprites

SIZES = (3, 2, 4, 3, 5)
COUNT = 360


class Explosive:
    """Unpickling it raises."""

    def __reduce__(self):
        return (exec, ("raise SystemError('the metadata was unpickled')",))


def arrays():
    imgs = np.random.default_rng(0).integers(0, 2, (COUNT, 64, 64), dtype=np.uint8)
    return {
        "imgs": imgs,
        "latents_classes": np.indices((1, *SIZES)).reshape(6, -1).T.astype(np.int64),
        "latents_values": np.zeros((COUNT, 6)),
        "metadata": np.array(Explosive(), dtype=object),
    }


def write(path, **changes):
    contents = {k: v for k, v in (arrays() | changes).items() if v is not None}
    np.savez_compressed(path, **contents)
    return path


def rewrite(path, entry, change):
    """Change the bytes of one entry, in an archive that is whole."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries[entry] = change(entries[entry])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "small.npz"


def test_images_and_factors(file):
    dataset = DSprites(write(file), factor_sizes=SIZES)
    assert (dataset.name, len(dataset), dataset.image_shape) == ("dsprites", COUNT, (1, 64, 64))
    images = dataset.images(range(COUNT))
    assert images.dtype == torch.float32
    np.testing.assert_array_equal(images[:, 0].numpy(), arrays()["imgs"])
    np.testing.assert_array_equal(
        dataset.factors(range(COUNT)).numpy(), arrays()["latents_classes"][:, 1:]
    )


def test_only_the_two_arrays_are_needed(file):
    write(file, latents_values=None, metadata=None)
    assert len(DSprites(file, factor_sizes=SIZES)) == COUNT


def test_half_size(file):
    dataset = DSprites(write(file), factor_sizes=SIZES, image_size=32)
    by_hand = arrays()["imgs"][:7].reshape(7, 1, 32, 2, 32, 2).mean((3, 5))
    np.testing.assert_array_equal(dataset.images(range(7)).numpy(), by_hand)


def test_the_official_grid_is_the_default(file):
    with pytest.raises(ValueError, match=r"path .*latents_classes must be \(737280, 6\)"):
        load("dsprites", write(file))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"imgs": None}, r"lacks \['imgs'\] and has"),
        ({"latents_classes": None}, r"lacks \['latents_classes'\]"),
        ({"imgs": np.zeros((COUNT, 32, 32), np.uint8)}, r"imgs must be .*got \(360, 32, 32\)"),
        ({"imgs": np.zeros((COUNT - 1, 64, 64), np.uint8)}, r"imgs must be .*got \(359, 64"),
        ({"imgs": np.zeros((COUNT, 64, 64), np.float32)}, "imgs must be .*float32"),
        ({"imgs": np.full((COUNT, 64, 64), 255, np.uint8)}, "zeros and ones, got 255"),
        ({"imgs": np.zeros((64, 64, COUNT), np.uint8).T}, "Fortran"),
        ({"latents_classes": np.zeros((COUNT, 5), np.int64)}, r"latents_classes.*\(360, 5\)"),
        ({"latents_classes": np.zeros((COUNT, 6))}, "latents_classes.*float64"),
        ({"latents_classes": np.zeros((COUNT, 6), np.int64)}, "last factor fastest"),
        (
            {"latents_classes": np.full((COUNT, 6), None, object)},
            r"latents_classes must be .*got .*object",
        ),
    ],
)
def test_wrong_arrays(file, changes, words):
    with pytest.raises(ValueError, match=words) as raised:
        DSprites(write(file, **changes), factor_sizes=SIZES)
    assert str(raised.value).startswith(f"path {str(file)!r} is not the official dSprites file")


def test_truncated_archive(file):
    data = write(file).read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"path .*is not the official dSprites file"):
        DSprites(file, factor_sizes=SIZES)


def test_truncated_image_entry(file):
    rewrite(write(file), "imgs.npy", lambda content: content[:-100])
    with pytest.raises(ValueError, match="imgs ends within images 0 to 360"):
        DSprites(file, factor_sizes=SIZES)


def test_damaged_image_entry(file):
    data = bytearray(write(file).read_bytes())
    data[2000] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"path .*is not the official dSprites file"):
        DSprites(file, factor_sizes=SIZES)


@pytest.mark.parametrize("entry", ["imgs", "latents_classes"])
@pytest.mark.parametrize(
    ("text", "other"),
    [
        (b"{'descr'", b"{'''scr'"),
        (b"{'descr'", b"{)descr'"),
        (b"'fortran_order'", b"'fortran_ordex'"),
        (b"\x93NUMPY", b"\x93NUMPX"),
    ],
)
def test_damaged_headers(file, entry, text, other):
    def damage(content):
        assert text in content
        return content.replace(text, other, 1)

    rewrite(write(file), f"{entry}.npy", damage)
    with pytest.raises(ValueError, match=r"small\.npz' is not the official dSprites file"):
        DSprites(file, factor_sizes=SIZES)


@pytest.mark.parametrize("damage", ["encrypted", "method"])
def test_entries_that_do_not_unpack(file, damage):
    data = bytearray(write(file).read_bytes())
    # The local header's flags and method, and the central directory's.
    for magic, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = data.index(magic)
        if damage == "encrypted":
            data[start + flags] |= 1
        else:
            data[start + flags + 2] = 97
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"small\.npz' is not the official dSprites file"):
        DSprites(file, factor_sizes=SIZES)


def test_not_an_archive(file, tmp_path):
    file.write_bytes(b"not an archive")
    with pytest.raises(ValueError, match=r"path .*is not the official dSprites file"):
        DSprites(file)
    with pytest.raises(ValueError, match=r"path .*is a folder; expected the official dSprites"):
        DSprites(tmp_path)
