"""Synthetic files of the official formats, by the writers beside the tests of the readers."""

import importlib
import sys
from pathlib import Path

from pydisent.data.dsprites import DSprites
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


_WRITERS = {
    "dsprites": _grid("test_dsprites", "small.npz", DSprites),
    "3dshapes": _grid("test_three_d_shapes", "small.h5", ThreeDShapes),
    "celeba": _celeba,
    "chair-masks": lambda folder, _: _of("_pictures").chairs(folder),
    "mnist": _mnist,
    "svhn": lambda folder, _: _of("test_svhn").write(folder),
}
NAMES = tuple(_WRITERS)
