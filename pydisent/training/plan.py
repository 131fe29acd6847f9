"""Plans: everything that, besides code and machine, determines the result of a run."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydisent import systems
from pydisent._checks import as_plain, check, check_integer, check_number
from pydisent.data import crops, splits
from pydisent.training.files import (
    NUMBER,
    Types,
    absolute,
    as_object,
    check_fields,
    check_value,
)

FORMAT = 1
# Values of the fields that the oldest runs did not record.
ADDED_LATER: dict[str, Any] = {
    "held_out": 0.0,
    "partial": False,
    "split": None,
    "crop": None,
    "mirror": False,
    "factors": None,
    "bins": None,
    "note": "",
}
# Fields that do not determine the result.
_REMARKS = ("command", "note")


def same_setting(name: str, kept: Any, asked: Any) -> bool:
    """Return whether a setting matches; precision "auto" matches whatever it resolved to."""
    return kept == asked or (name, asked) == ("precision", "auto")


def difference(kept: dict[str, Any], asked: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """Return the name and both values of the first difference between plans; None if they agree.

    The plans are plain values, as from `Plan.to_json`. Command and note are not compared.
    """
    if not isinstance(kept.get("config"), dict):
        return "config", kept.get("config"), asked["config"]
    kept = completed(kept)
    for before, now in ((kept, asked), (kept["config"], asked["config"])):
        for name in before | now:
            if name in ("config", *_REMARKS):
                continue
            if not same_setting(name, before.get(name), now.get(name)):
                return name, before.get(name), now.get(name)
    return None


def completed(values: dict[str, Any]) -> dict[str, Any]:
    """Return a plan's plain values, completed by those that older versions did not record."""
    values, name = ADDED_LATER | values, values.get("system")
    if name in systems.names() and isinstance(values.get("config"), dict):
        defaults = dataclasses.asdict(systems.config_class(name)())
        added = {**defaults, **systems.added_settings(name)}
        kept = values["config"]
        values["config"] = kept | {k: v for k, v in added.items() if k not in kept}
    return values


def setting_text(value: Any) -> str:
    """Return the shortest text that a setting can be read back from."""
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return str(value)


def check_resumable(path: Path, kept: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raise ValueError unless the run in `path` with plan `kept` can be resumed with `asked`."""
    if differs := difference(kept, asked):
        name, before, now = differs
        raise ValueError(
            f"{path} was trained with {name} {before}, not {now}: a run can only be resumed as it "
            "was started"
        )


def _if_there(value: Any, accepted: Sequence[Any]) -> Any:
    return value if value in accepted else None


_NONE = type(None)
_SETTING = (*NUMBER, bool, str, _NONE)
_FIELDS: Types = {
    "format": (int,),
    "system": (str,),
    "data": (str,),
    "data_path": (str, _NONE),
    "preset": (str,),
    "image_size": (int, _NONE),
    "seed": (int,),
    "steps": (int,),
    "config": (dict,),
    "log_every": (int,),
    "checkpoint_every": (int,),
    "held_out": NUMBER,
    "partial": (bool,),
    "split": (str, _NONE),
    "crop": (int, _NONE),
    "mirror": (bool,),
    "factors": (str, _NONE),
    "bins": (int, _NONE),
    "note": (str,),
    "command": (list,),
}


def _plain_config(config: Any) -> Any:
    """Return a configuration with NumPy's numbers as Python's; ValueError for other objects."""
    given = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    plain = {name: as_plain(value) for name, value in given.items()}
    for name, value in plain.items():
        check_value(f"config: {name}", value, _SETTING)
    changed = {name: value for name, value in plain.items() if value is not given[name]}
    return dataclasses.replace(config, **changed) if changed else config


@dataclass(frozen=True)
class Plan:
    """The settings of a run, recorded in `config.json`.

    Attributes
    ----------
    system, data, preset : str
        Names of the system, the data set and the preset.
    data_path : str or None
        The data set's file or folder.
    image_size : int or None
        Side of the images in pixels; None keeps that of the data.
    seed, steps : int
        The seed, and the number of updates of the first phase.
    config : object
        The system's configuration.
    log_every, checkpoint_every : int
        Updates between log lines and between checkpoints.
    held_out : float
        Fraction in [0, 1) of the images held out from training, the same ones in every run; see
        `pydisent.data.hold_out`.
    partial : bool
        Whether the data set's files may be incomplete; see `pydisent.data.load`.
    split, crop : str or None, int or None
        The part of the data set, and the square cut out of its pictures; see `pydisent.data.load`.
    mirror : bool
        Whether training images are mirrored at random.
    factors, bins : str or None, int or None
        The table of the images' factors, and the number of bins for quantities; see
        `pydisent.data.load`.
    note : str
        The preset's note on where its settings come from, or how they depart from the paper's.
    command : tuple of str
        The command line that started the run.
    """

    system: str
    data: str
    data_path: str | None
    preset: str
    image_size: int | None
    seed: int
    steps: int
    config: Any
    log_every: int
    checkpoint_every: int
    held_out: float = 0.0
    partial: bool = False
    split: str | None = None
    crop: int | None = None
    mirror: bool = False
    factors: str | None = None
    bins: int | None = None
    note: str = ""
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check every field, so that `from_json` can read back whatever is accepted."""
        check_number("held_out", self.held_out, at_least=0, below=1)
        for name in ("steps", "log_every", "checkpoint_every", "image_size"):
            if name != "image_size" or self.image_size is not None:
                check_integer(name, getattr(self, name), at_least=1)
        check_integer("seed", self.seed, at_least=0)
        check(self.seed < 2**63, "seed", "an integer in [0, 2^63)", self.seed)
        for name in _FIELDS.keys() - {"format", "config", "command"}:
            value = as_plain(getattr(self, name))
            check_value(name, value, _FIELDS[name])
            object.__setattr__(self, name, value)
        object.__setattr__(self, "config", _plain_config(self.config))
        object.__setattr__(self, "command", tuple(self.command))

    @classmethod
    def from_preset(
        cls,
        system: str,
        data: str | None = None,
        preset: str = "quick",
        *,
        data_path: str | Path | None = None,
        partial: bool = False,
        image_size: int | None = None,
        split: str | None = None,
        crop: int | None = None,
        mirror: bool | None = None,
        factors: str | Path | None = None,
        bins: int | None = None,
        seed: int = 0,
        steps: int | None = None,
        settings: dict[str, Any] | None = None,
        command: tuple[str, ...] = (),
    ) -> "Plan":
        """Return the plan of a preset, with `settings` of the system's configuration replaced.

        None means the system's own default for `data`, and the preset's value for `image_size`,
        `split`, `crop`, `mirror` and `steps`.

        Raises
        ------
        ValueError
            If a name is unknown or a value is invalid.
        """
        data = systems.default_data(system) if data is None else data
        chosen = systems.preset(system, preset, data)
        return cls(
            system=system,
            data=data,
            data_path=absolute(data_path),
            preset=preset,
            image_size=chosen.image_size if image_size is None else image_size,
            seed=seed,
            steps=chosen.steps if steps is None else steps,
            config=systems.override(chosen.config, settings or {}),
            log_every=chosen.log_every,
            checkpoint_every=chosen.checkpoint_every,
            held_out=chosen.held_out,
            partial=partial,
            split=_if_there(chosen.split, splits(data)) if split is None else split,
            crop=_if_there(chosen.crop, crops(data)) if crop is None else crop,
            mirror=chosen.mirror if mirror is None else mirror,
            factors=absolute(factors),
            bins=bins,
            note=chosen.note,
            command=command,
        )

    def remark(self) -> str:
        """Return the note, and the size, steps and settings that differ from the preset."""
        preset = systems.preset(self.system, self.preset, self.data)
        own = {name: value for name, _, value in systems.describe(preset.config)}
        given = {name: value for name, _, value in systems.describe(self.config)}
        own |= {"image_size": preset.image_size, "steps": preset.steps}
        given |= {"image_size": self.image_size, "steps": self.steps}
        changed = [
            f"{name} = {setting_text(value)}" for name, value in given.items() if value != own[name]
        ]
        here = f"here {', '.join(changed)}" if changed else ""
        return self.note if here in self.note else "; ".join(filter(None, (self.note, here)))

    def data_arguments(self) -> dict[str, Any]:
        """Return the arguments of `pydisent.data.load`."""
        return {
            "name": self.data,
            "path": self.data_path,
            "image_size": self.image_size,
            "split": self.split,
            "crop": self.crop,
            "partial": self.partial,
            "factors": self.factors,
            "bins": self.bins,
        }

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain values."""
        return dataclasses.asdict(self) | {"command": list(self.command), "format": FORMAT}

    @classmethod
    def from_json(cls, values: dict[str, Any], source: str = "config.json") -> "Plan":
        """Return the plan that `to_json` wrote.

        Parameters
        ----------
        values : dict
            The plain values.
        source : str
            The file that they were read from, for messages.

        Raises
        ------
        ValueError
            If a value is missing, unknown or invalid, or the format is unknown.
        """
        values = as_object(values, source)
        if values.get("format") != FORMAT:
            raise ValueError(f"{source}: format must be {FORMAT}, got {values.get('format')!r:.40}")
        values = completed(values)
        check_fields(source, values, _FIELDS)
        for word in values["command"]:
            check_value(f"{source}: a word of command", word, (str,))
        for name, value in values["config"].items():
            check_value(f"{source}: config: {name}", value, _SETTING)
        read = {name: value for name, value in values.items() if name != "format"}
        try:
            config = systems.override(systems.config_class(read["system"])(), read["config"])
            return cls(**read | {"config": config, "command": tuple(read["command"])})
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error
