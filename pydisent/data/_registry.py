"""The registry of data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

from pydisent._checks import check
from pydisent._plugins import Registry
from pydisent.data._base import ImageDataset

Opener = Callable[..., ImageDataset]
_O = TypeVar("_O", bound=Opener)
_FACE_SPLITS = ("train", "validation", "test", "all")
_OPTIONS = ("partial", "factors", "bins")


@dataclass(frozen=True)
class Source:
    """A data set known to `load`.

    Attributes
    ----------
    opener : callable or str
        Opens it, ``opener(path, image_size=..., **options)``; or its location "module:name" below
        pydisent.data.
    path : bool
        Whether it reads user files; if not, the opener has no argument ``path``.
    splits : tuple of str
        Accepted values of ``split``; if empty, the opener has no such argument.
    crops : tuple of int
        Accepted values of ``crop``; likewise.
    options : tuple of str
        The further arguments of `load` that it takes: partial, factors, bins.
    """

    opener: Opener | str
    path: bool = False
    splits: tuple[str, ...] = ()
    crops: tuple[int, ...] = ()
    options: tuple[str, ...] = ()

    def find(self) -> Opener:
        """Return the callable that opens the data set."""
        if not isinstance(self.opener, str):
            return self.opener
        module, _, name = self.opener.partition(":")
        return getattr(import_module(f"pydisent.data.{module}"), name)

    def open(self, path: Any, image_size: int | None, **options: Any) -> ImageDataset:
        """Return the data set; `options` are those of `load`."""
        known = {"split": self.splits, "crop": self.crops}
        taken = [*self.options, *(name for name, values in known.items() if values)]
        places = (path,) if self.path else ()
        chosen = {name: options[name] for name in taken}
        return self.find()(*places, image_size=image_size, **chosen)


SOURCES: Registry[Source] = Registry("name", "pydisent.data")


def register(
    name: str,
    *,
    path: bool = False,
    splits: Sequence[str] = (),
    crops: Sequence[int] = (),
    options: Sequence[str] = (),
) -> Callable[[_O], _O]:
    """Register a class or function that opens a data set; a decorator.

    It is called as ``opener(path, image_size=...)`` or ``opener(image_size=...)``, and returns an
    `ImageDataset` with this ``name``.

    Parameters
    ----------
    name : str
        The name in `load`, plans and the command line.
    path : bool
        Whether it reads files, so that ``path`` is its first argument.
    splits, crops : sequence
        Accepted values of the arguments ``split`` and ``crop``; if empty, the argument is not
        passed.
    options : sequence of str
        The arguments of `load` that it also takes: partial, factors, bins.

    Raises
    ------
    ValueError
        If the name is malformed or already registered, or there is no such option.
    """
    unknown = [option for option in options if option not in _OPTIONS]
    check(not unknown, "options", f"of {', '.join(_OPTIONS)}", unknown)

    def decorate(opener: _O) -> _O:
        source = Source(opener, path, tuple(splits), tuple(crops), tuple(options))
        SOURCES.add(name, source, opener.__module__)
        return opener

    return decorate


_BUILT_IN = {
    "sprites": Source("sprites:Sprites"),
    "color-sprites": Source("color_sprites:ColorSprites"),
    "dsprites": Source("dsprites:DSprites", path=True),
    "color-dsprites": Source("dsprites_variants:ColorDSprites", path=True),
    "noisy-dsprites": Source("dsprites_variants:NoisyDSprites", path=True),
    "scream-dsprites": Source("dsprites_variants:ScreamDSprites", path=True),
    "shapes3d": Source("shapes3d:Shapes3D"),
    "3dshapes": Source("three_d_shapes:ThreeDShapes", path=True),
    "mpi3d": Source("mpi3d:MPI3D", path=True),
    "cars3d": Source("cars3d:Cars3D", path=True),
    "smallnorb": Source("smallnorb:SmallNORB", path=True, splits=("train", "test", "all")),
    "clevr-simple": Source("clevr_simple:ClevrSimple"),
    "faces": Source("faces:Faces", splits=_FACE_SPLITS),
    "digits": Source("digits:Digits"),
    "mnist": Source("mnist:MNIST", path=True, splits=("train", "test")),
    "svhn": Source("svhn:SVHN", path=True, splits=("train", "test", "extra")),
    "chairs": Source("chairs:load_chairs", path=True, splits=("train", "test", "all")),
    "chair-masks": Source("chairs:load_chair_masks", path=True, splits=("train", "test", "all")),
    "celeba": Source(
        "celeba:CelebA",
        path=True,
        splits=_FACE_SPLITS,
        crops=(128, 148, 178),
        options=("partial",),
    ),
    "ffhq": Source("ffhq:FFHQ", path=True, options=("partial",)),
    "lsun": Source("lsun:load_lsun", path=True),
    "images": Source("images:load_images", path=True, options=("partial", "factors", "bins")),
}
for _name, _source in _BUILT_IN.items():
    SOURCES.add(_name, _source, "pydisent.data")
