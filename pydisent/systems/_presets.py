"""Presets as data: each system has a table of recipes, with overrides by data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

OTHER_DATA = "*"  # in a table by data set: every data set not named
PHOTOGRAPHS = ("celeba", "faces", "svhn", "images")
# For each data set, the published ones that it resembles, most similar first.
ALIKE: Mapping[str, Sequence[str]] = {
    "sprites": ("dsprites",),
    "color-sprites": ("color-dsprites", "dsprites"),
    "color-dsprites": ("color-sprites", "dsprites"),
    "noisy-dsprites": ("color-dsprites", "color-sprites", "dsprites"),
    "scream-dsprites": ("color-dsprites", "color-sprites", "dsprites"),
    "shapes3d": ("3dshapes", "svhn"),
    "3dshapes": ("shapes3d", "svhn"),
    "digits": ("mnist",),
    "chairs": ("chair-masks",),
    "chair-masks": ("chairs",),
    "celeba": ("svhn",),
    "faces": ("celeba", "svhn"),
    "ffhq": ("celeba",),
    "images": ("celeba", "svhn"),
    "lsun": ("celeba", "svhn"),
    "svhn": ("celeba",),
}
DIGITS = ("digits", "mnist", "svhn")  # a mirrored digit is not a digit

Settings = Mapping[str, Any]
DataSettings = Mapping[str, Settings]


@dataclass(frozen=True)
class Preset:
    """A system's settings for one size of experiment.

    Attributes
    ----------
    config : object
        The system's configuration.
    steps : int
        Updates of the first phase.
    image_size : int or None
        Side of the images in pixels; None keeps the data's size.
    log_every, checkpoint_every : int
        Updates between logged losses, and between checkpoints.
    note : str
        One line on how the preset departs from the paper.
    held_out : float
        Fraction of the images held out for testing.
    split, crop : str or None, int or None
        The split of the data, and the square cropped from its pictures, as in `pydisent.data.load`.
    mirror : bool
        Whether images are mirrored at random.
    """

    config: Any
    steps: int
    image_size: int | None
    log_every: int
    checkpoint_every: int
    note: str
    held_out: float = 0.0
    split: str | None = None
    crop: int | None = None
    mirror: bool = False


@dataclass(frozen=True)
class Recipe:
    """A row of a system's table of presets.

    Attributes
    ----------
    note, steps, image_size, log_every, checkpoint_every, held_out, split, crop, mirror
        As for `Preset`. A split or crop that the data set does not have is left out.
    settings : mapping of str to object
        The settings that differ from the configuration's defaults.
    by_data : mapping of str to mapping
        By data set, the fields of this row that differ. Their `settings` are added to the row's.
    published : tuple of str
        The data sets for which the row has the paper's own settings. Others use those of the first
        that they resemble (`ALIKE`), else of the first in the tuple, and the note says so.
    """

    note: str
    steps: int
    image_size: int | None
    log_every: int
    checkpoint_every: int
    held_out: float = 0.0
    split: str | None = None
    crop: int | None = None
    mirror: bool = False
    settings: Settings = field(default_factory=dict)
    by_data: DataSettings = field(default_factory=dict)
    published: tuple[str, ...] = ()

    def with_settings(self, **settings: Any) -> Recipe:
        """Return the recipe with further settings."""
        return replace(self, settings={**self.settings, **settings})

    def source(self, data_name: str) -> str:
        """Return the data set whose settings `data_name` uses."""
        if not self.published:
            return data_name
        return found(data_name, self.published) or self.published[0]

    def on(self, data_name: str) -> Recipe:
        """Return the recipe for a data set."""
        source = self.source(data_name)
        changes = dict(self.by_data.get(found(source, self.by_data) or OTHER_DATA, {}))
        if source != data_name:
            changes["note"] = f"no published settings for {data_name}; using those for {source}"
            if data_name in DIGITS:
                changes["mirror"] = False
        return replace(self.with_settings(**changes.pop("settings", {})), **changes)

    def preset(self, config: Any) -> Preset:
        """Return the preset with the given configuration."""
        shared = (f.name for f in fields(Preset) if f.name != "config")
        return Preset(config, **{name: getattr(self, name) for name in shared})


def found(data_name: str, table: Iterable[str]) -> str | None:
    """Return `data_name` or the first data set that it resembles, if in the table, else None."""
    return next((name for name in (data_name, *ALIKE.get(data_name, ())) if name in table), None)


@dataclass(frozen=True)
class Presets:
    """A system's table of presets."""

    smoke: Recipe
    quick: Recipe
    paper: Recipe


PRESETS = tuple(row.name for row in fields(Presets))
SMOKE = Recipe(
    note="tiny, to see that everything runs",
    steps=20,
    image_size=16,
    log_every=5,
    checkpoint_every=5,
)


def each(data_names: Sequence[str], **settings: Any) -> DataSettings:
    """Return a table with the same settings for each of the data sets."""
    return dict.fromkeys(data_names, settings)


def combine(first: DataSettings, second: DataSettings) -> DataSettings:
    """Return the settings of both tables by data set; the second's take precedence."""
    names = (*first, *(name for name in second if name not in first))
    return {name: {**first.get(name, {}), **second.get(name, {})} for name in names}
