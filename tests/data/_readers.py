"""Readers of files, each with a small whole file."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _pictures import celeba, chairs, noise, save

from pydisent.data import load
from pydisent.metrics._weights import read_weights, take_weights

SUFFIXES = ("png", "jpg", "gif", "bmp", "tif", "webp", "ppm")
SHAPES = {"a.weight": (30, 40), "a.bias": (40,)}


@dataclass(frozen=True)
class Reader:
    """Writes a whole file below a folder and returns it; opens the data of that folder."""

    write: Callable[[Path], Path]
    open: Callable[[Path], Any]


def written_by(test):
    """The module of another test file, which writes small files; skips where that would."""
    return importlib.import_module(test)


def _dsprites(folder):
    return written_by("test_dsprites").write(folder / "small.npz", metadata=None)


def _open_dsprites(folder):
    module = written_by("test_dsprites")
    return module.DSprites(folder / "small.npz", factor_sizes=module.SIZES).images([0])


def _shapes(layout):
    return lambda folder: written_by("test_three_d_shapes").write(folder / "small.h5", layout)


def _open_shapes(folder):
    module = written_by("test_three_d_shapes")
    return module.ThreeDShapes(folder / "small.h5", factor_sizes=module.SIZES).images([0])


def _mpi3d(packed):
    return lambda folder: written_by("test_mpi3d").write(folder / "small.npz", packed)


def _open_mpi3d(folder):
    module = written_by("test_mpi3d")
    return module.MPI3D(folder / "small.npz", factor_sizes=module.SIZES).images([0])


def _cars(packed):
    return lambda folder: written_by("test_cars3d").write(folder, packed, 1) / "car_001_mesh.mat"


def _open_cars(folder):
    return written_by("test_cars3d").Cars3D(folder, cars=1).images([0])


def _smallnorb(kind, suffix):
    def write(folder):
        written_by("test_smallnorb").write(folder, ["train"], suffix)
        return next(folder.glob(f"*-{kind}.mat*"))

    return write


def _open_smallnorb(folder):
    module = written_by("test_smallnorb")
    return module.SmallNORB(folder, split="train", sizes=module.SIZES).images([0])


def _scream(folder):
    _dsprites(folder).rename(folder / written_by("test_dsprites_variants").FILE)
    return save(folder / "scream.jpg", noise(90, 90))


def _open_scream(folder):
    variants, module = written_by("test_dsprites_variants"), written_by("test_dsprites")
    return variants.ScreamDSprites(folder, factor_sizes=module.SIZES).images([0])


def _mnist(kind, suffix):
    def write(folder):
        written_by("test_mnist").write(folder, suffix=suffix)
        return next(folder.glob(f"*-{kind}-*"))

    return write


def _svhn(packed):
    return lambda folder: written_by("test_svhn").write(folder, packed=packed) / "train_32x32.mat"


def _celeba(pattern, *, csv=False):
    def write(folder):
        celeba(folder, 6, partition=True)
        if csv:
            to_csv(folder)
        return next(folder.rglob(pattern))

    return write


def to_csv(folder):
    """Write CelebA's lists as Kaggle has them, in the place of the official ones."""
    for name, columns in (("list_attr_celeba", None), ("list_eval_partition", "partition")):
        file = folder / f"{name}.txt"
        lines = [line.split() for line in file.read_text().splitlines()]
        rows = lines[2:] if columns is None else lines
        header = ["image_id", *(lines[1] if columns is None else [columns])]
        text = "\n".join(",".join(row) for row in [header, *rows]) + "\n"
        file.with_suffix(".csv").write_text(text)
        file.unlink()


def _picture(suffix):
    return lambda folder: save(folder / f"a.{suffix}", noise(40, 40))


def _chair(folder):
    chairs(folder)
    return sorted(folder.rglob("*.png"))[0]


def _factors(folder):
    lines = ["file,shape,size"]
    for number in range(6):
        save(folder / "pictures" / f"{number}.png", noise(40, 40))
        lines.append(f"{number}.png,{('disc', 'ring')[number % 2]},{number / 4}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"


def _open_factors(folder):
    return load("images", folder / "pictures", image_size=8, factors=folder / "table.csv")[0]


def _weights(suffix):
    def write(folder):
        tensors = {name: torch.randn(shape) for name, shape in SHAPES.items()}
        file = folder / f"net.{suffix}"
        if suffix == "safetensors":
            written_by("safetensors.torch").save_file(tensors, file)
        else:
            torch.save(tensors, file)
        return file

    return write


def _open_weights(suffix):
    def open_(folder):
        file = folder / f"net.{suffix}"
        return take_weights(read_weights(file, "net"), SHAPES, f"net {file}")

    return open_


def _loaded(name, **options):
    return lambda folder: load(name, folder, **options).images([0])


READERS = {
    "dsprites": Reader(_dsprites, _open_dsprites),
    "3dshapes plain": Reader(_shapes("plain"), _open_shapes),
    "3dshapes packed": Reader(_shapes("packed"), _open_shapes),
    "mpi3d stored": Reader(_mpi3d(False), _open_mpi3d),
    "mpi3d packed": Reader(_mpi3d(True), _open_mpi3d),
    "cars3d packed": Reader(_cars(True), _open_cars),
    "cars3d plain": Reader(_cars(False), _open_cars),
    **{
        f"smallnorb {kind}{suffix}": Reader(_smallnorb(kind, suffix), _open_smallnorb)
        for kind in ("dat", "cat", "info")
        for suffix in ("", ".gz")
    },
    "scream-dsprites": Reader(_scream, _open_scream),
    **{
        f"mnist {kind}{suffix}": Reader(_mnist(kind, suffix), _loaded("mnist"))
        for kind in ("images", "labels")
        for suffix in ("", ".gz")
    },
    "svhn packed": Reader(_svhn(True), _loaded("svhn")),
    "svhn plain": Reader(_svhn(False), _loaded("svhn")),
    "celeba attributes": Reader(_celeba("list_attr*.txt"), _loaded("celeba")),
    "celeba partition": Reader(_celeba("list_eval*.txt"), _loaded("celeba")),
    "celeba attributes.csv": Reader(_celeba("list_attr*.csv", csv=True), _loaded("celeba")),
    "celeba partition.csv": Reader(_celeba("list_eval*.csv", csv=True), _loaded("celeba")),
    "celeba picture": Reader(_celeba("000001.png"), _loaded("celeba")),
    "chairs": Reader(_chair, _loaded("chairs", split="all")),
    **{
        f"images {suffix}": Reader(_picture(suffix), _loaded("images", image_size=8))
        for suffix in SUFFIXES
    },
    "factors": Reader(_factors, _open_factors),
    "weights pth": Reader(_weights("pth"), _open_weights("pth")),
    "weights safetensors": Reader(_weights("safetensors"), _open_weights("safetensors")),
}
