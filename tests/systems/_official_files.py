"""Synthetic files of the official formats, by the writers beside the tests of the readers."""

import importlib
import sys
from pathlib import Path

from pydisent.data import ffhq
from pydisent.data.cars3d import Cars3D
from pydisent.data.dsprites import DSprites
from pydisent.data.dsprites_variants import FILE, ColorDSprites, NoisyDSprites, ScreamDSprites
from pydisent.data.smallnorb import SmallNORB
from pydisent.data.three_d_shapes import ThreeDShapes

_DATA_TESTS = str(Path(__file__).parents[1] / "data")


def write(name, folder, monkeypatch):
    """Write a small data set of this name into `folder`, of grids a part; return `load`'s path."""
    if _DATA_TESTS not in sys.path:
        monkeypatch.syspath_prepend(_DATA_TESTS)
    return _WRITERS[name](folder, monkeypatch)


def _of(module):
    return importlib.import_module(module)


def _grid(module, file, reader):
    def written(folder, monkeypatch):
        test = _of(module)
        monkeypatch.setitem(reader.__init__.__kwdefaults__, "factor_sizes", test.SIZES)
        return test.write(folder / file)

    return written


def _celeba(folder, _):
    _of("_pictures").celeba(folder, partition=True)
    return folder


def _mnist(folder, _):
    return _of("test_mnist").write(folder, "train")


def _dsprites_variant(reader):
    def written(folder, monkeypatch):
        test, pictures = _of("test_dsprites"), _of("_pictures")
        monkeypatch.setitem(reader.__init__.__kwdefaults__, "factor_sizes", test.SIZES)
        test.write(folder / FILE)
        pictures.save(folder / "scream.png", pictures.noise(274, 350))
        return folder

    return written


def _cars3d(folder, monkeypatch):
    test = _of("test_cars3d")
    monkeypatch.setitem(Cars3D.__init__.__kwdefaults__, "cars", test.CARS)
    return test.write(folder)


def _smallnorb(folder, monkeypatch):
    test = _of("test_smallnorb")
    monkeypatch.setitem(SmallNORB.__init__.__kwdefaults__, "sizes", test.SIZES)
    return test.write(folder)


def _numbered(folder, side, count):
    pictures = _of("_pictures")
    for number in range(count):
        pictures.save(folder / f"{number:05}.png", pictures.noise(side, side, seed=number))
    return folder


def _ffhq(folder, monkeypatch):
    monkeypatch.setattr(ffhq, "COUNT", 6)
    return _numbered(folder, 512, 6)


_WRITERS = {
    "color-dsprites": _dsprites_variant(ColorDSprites),
    "noisy-dsprites": _dsprites_variant(NoisyDSprites),
    "scream-dsprites": _dsprites_variant(ScreamDSprites),
    "cars3d": _cars3d,
    "smallnorb": _smallnorb,
    "dsprites": _grid("test_dsprites", "small.npz", DSprites),
    "3dshapes": _grid("test_three_d_shapes", "small.h5", ThreeDShapes),
    "celeba": _celeba,
    "chairs": lambda folder, _: _of("_pictures").chairs(folder),
    "chair-masks": lambda folder, _: _of("_pictures").chairs(folder),
    "ffhq": _ffhq,
    "lsun": lambda folder, _: _numbered(folder, 64, 6),
    "mnist": _mnist,
    "svhn": lambda folder, _: _of("test_svhn").write(folder),
}
