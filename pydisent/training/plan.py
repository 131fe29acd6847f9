"""What a run trains: everything that, with the code and the machine, fixes its result."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydisent import systems
from pydisent.training._files import (
    NUMBER,
    Types,
    absolute,
    as_object,
    check_count,
    check_fields,
    check_value,
)

FORMAT = 1
# What was so in runs from before it was kept.
ADDED_LATER = {"held_out": 0.0, "partial": False}


def same_setting(name: str, kept: Any, asked: Any) -> bool:
    """Return whether a setting of a run is as asked; "auto" is content with what it came to be."""
    return kept == asked or (name, asked) == ("precision", "auto")


def difference(kept: dict[str, Any], asked: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """Return the name and the values of what differs first between two plans as plain values.

    A run that was begun by `kept` goes on by `asked` if there is nothing. The command that
    started it is no matter.
    """
    if not isinstance(kept.get("config"), dict):
        return "config", kept.get("config"), asked["config"]
    for before, now in ((kept, asked), (kept["config"], asked["config"])):
        for name in before | now:
            if name in ("command", "config"):
                continue
            if not same_setting(name, before.get(name), now.get(name)):
                return name, before.get(name), now.get(name)
    return None


def check_resumable(path: Path, kept: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raise ValueError if the run in `path`, begun by `kept`, cannot go on by `asked`."""
    if differs := difference(kept, asked):
        name, before, now = differs
        raise ValueError(
            f"{path} was trained with {name} {before}, not {now}: a run can only be resumed as it "
            "was started"
        )


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
    "command": (list,),
}


@dataclass(frozen=True)
class Plan:
    """A run's settings, as `config.json` keeps them.

    Attributes
    ----------
    system, data, preset : str
        Names of the system, the data set and the preset.
    data_path : str or None
        Where the data set's files are.
    image_size : int or None
        Pixels a side; None keeps the data's own.
    seed, steps : int
        The seed, and the updates of the first phase.
    config : object
        The system's configuration.
    log_every, checkpoint_every : int
        Updates between log lines and between checkpoints.
    held_out : float
        Share in [0, 1) of the images that training does not see: `pydisent.data.hold_out` draws
        them, the same in every run.
    partial : bool
        Whether a part of the data set's files will do; as for `pydisent.data.load`.
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
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; accepted: an integer >= 1")
        if self.image_size is not None:
            check_count("image_size", self.image_size, 1)
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}; accepted: a number in [0, 1)")
        if not isinstance(self.partial, bool):
            raise ValueError(f"partial is {self.partial!r}; accepted: True or False")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; accepted: an integer in [0, 2^63)")

    @classmethod
    def from_preset(
        cls,
        system: str,
        data: str = "sprites",
        preset: str = "quick",
        *,
        data_path: str | Path | None = None,
        partial: bool = False,
        seed: int = 0,
        steps: int | None = None,
        settings: dict[str, Any] | None = None,
        command: tuple[str, ...] = (),
    ) -> "Plan":
        """Return the plan of a preset, with `settings` of the system's configuration replaced.

        Raises
        ------
        ValueError
            If a name is unknown or a value is not accepted.
        """
        chosen = systems.preset(system, preset, data)
        return cls(
            system=system,
            data=data,
            data_path=absolute(data_path),
            preset=preset,
            image_size=chosen.image_size,
            seed=seed,
            steps=chosen.steps if steps is None else steps,
            config=systems.override(chosen.config, settings or {}),
            log_every=chosen.log_every,
            checkpoint_every=chosen.checkpoint_every,
            held_out=chosen.held_out,
            partial=partial,
            command=command,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain values."""
        return dataclasses.asdict(self) | {"command": list(self.command), "format": FORMAT}

    @classmethod
    def from_json(cls, values: dict[str, Any], source: str = "config.json") -> "Plan":
        """Return the plan that `to_json` wrote.

        Parameters
        ----------
        values : dict
            What was written.
        source : str
            The file that it was read from, for messages.

        Raises
        ------
        ValueError
            If a value is missing, unknown or not accepted, or the format is another.
        """
        values = as_object(values, source)
        if values.get("format") != FORMAT:
            raise ValueError(
                f"{source} has format {values.get('format')!r:.40}; accepted: {FORMAT}"
            )
        values = ADDED_LATER | values
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
