"""Presets are data: each system has a table of recipes, which name what depends on the data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

OTHER_DATA = "*"  # in a table by data set: every data set that it does not name
PHOTOGRAPHS = ("celeba", "faces", "svhn", "images")

Settings = Mapping[str, Any]
DataSettings = Mapping[str, Settings]


@dataclass(frozen=True)
class Preset:
    """A system's settings at one size of experiment.

    Attributes
    ----------
    config : object
        The system's configuration.
    steps : int
        Updates of the first phase.
    image_size : int or None
        Side of the images in pixels; None keeps the data's own.
    log_every, checkpoint_every : int
        Updates between logged losses, and between checkpoints.
    note : str
        One line on how it departs from the paper.
    held_out : float
        Share of the images that are kept for testing.
    """

    config: Any
    steps: int
    image_size: int | None
    log_every: int
    checkpoint_every: int
    note: str
    held_out: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """A row of a system's table of presets.

    Attributes
    ----------
    note, steps, image_size, log_every, checkpoint_every, held_out
        As for `Preset`.
    settings : mapping of str to object
        The settings that differ from the configuration's defaults.
    by_data : mapping of str to mapping
        By data set, the fields of this row that differ there. Their `settings` add to the row's.
    """

    note: str
    steps: int
    image_size: int | None
    log_every: int
    checkpoint_every: int
    held_out: float = 0.0
    settings: Settings = field(default_factory=dict)
    by_data: DataSettings = field(default_factory=dict)

    def with_settings(self, **settings: Any) -> Recipe:
        """Return the recipe with further settings."""
        return replace(self, settings={**self.settings, **settings})

    def on(self, data_name: str) -> Recipe:
        """Return the recipe for a data set."""
        changes = dict(self.by_data.get(data_name, {}))
        return replace(self.with_settings(**changes.pop("settings", {})), **changes)

    def preset(self, config: Any) -> Preset:
        """Return the preset with this configuration."""
        return Preset(
            config,
            self.steps,
            self.image_size,
            self.log_every,
            self.checkpoint_every,
            self.note,
            self.held_out,
        )


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
    """Return a table that has these settings for each of the data sets."""
    return dict.fromkeys(data_names, settings)


def combine(first: DataSettings, second: DataSettings) -> DataSettings:
    """Return the settings of both tables by data set; the second's take precedence."""
    names = (*first, *(name for name in second if name not in first))
    return {name: {**first.get(name, {}), **second.get(name, {})} for name in names}
