"""Plans of sweeps, and the plans of their runs."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydisent import systems
from pydisent._checks import as_plain
from pydisent.training.files import absolute
from pydisent.training.plan import Plan, setting_text

Grid = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class SweepPlan:
    """The runs of a sweep: each system with each combination of its settings and each seed.

    Attributes
    ----------
    systems : tuple of str
        Names of systems.
    data, data_path, partial, factors, bins, preset, steps
        As in `Plan`, for every run; a path is made absolute.
    image_size, split, crop, mirror
        As in `Plan`; None leaves the value to each run's preset.
    grid : dict of str to tuple of str
        Values of settings, as text. A key "system.setting" applies only to that system, any other
        key to all systems.
    seeds : tuple of int
        Seeds, one run for each.
    """

    systems: tuple[str, ...]
    data: str = "sprites"
    data_path: str | Path | None = None
    partial: bool = False
    preset: str = "quick"
    steps: int | None = None
    grid: Grid = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    image_size: int | None = None
    split: str | None = None
    crop: int | None = None
    mirror: bool | None = None
    factors: str | Path | None = None
    bins: int | None = None

    def __post_init__(self) -> None:
        for name in ("data_path", "factors"):
            object.__setattr__(self, name, absolute(getattr(self, name)))
        # Plain values, which sweep.json gives back as they are.
        for name in ("systems", "seeds"):
            object.__setattr__(self, name, tuple(map(as_plain, getattr(self, name))))
        for name in ("steps", "image_size", "crop", "bins"):
            object.__setattr__(self, name, as_plain(getattr(self, name)))
        grid = {key: tuple(map(as_plain, values)) for key, values in self.grid.items()}
        object.__setattr__(self, "grid", grid)
        given: dict[str, Sequence[Any]] = {"systems": self.systems, "seeds": self.seeds}
        given |= {f"grid {key}": values for key, values in self.grid.items()}
        for name, values in given.items():
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must be different values, at least 1, got {list(values)}")

    def runs(self) -> dict[str, Plan]:
        """Return the plan of each run by the name of its folder.

        Raises
        ------
        ValueError
            If a name is unknown, a value is invalid, a system lacks a setting of the grid, or two
            runs are the same.
        """
        made: dict[str, Plan] = {}
        for system in self.systems:
            values = self._values(system)
            for chosen in itertools.product(*values.values()):
                settings = dict(zip(values, chosen))
                for seed in self.seeds:
                    plan = self._plan(system, settings, seed)
                    name = slug(system, plan, settings)
                    if name in made:
                        raise ValueError(f"grid must give each run once, got {name} twice")
                    made[name] = plan
        return made

    def _plan(self, system: str, settings: dict[str, str], seed: int) -> Plan:
        try:
            return Plan.from_preset(
                system,
                self.data,
                self.preset,
                data_path=self.data_path,
                partial=self.partial,
                image_size=self.image_size,
                split=self.split,
                crop=self.crop,
                mirror=self.mirror,
                factors=self.factors,
                bins=self.bins,
                seed=seed,
                steps=self.steps,
                settings=settings,
            )
        except ValueError as error:
            raise ValueError(f"{system}: {error}") from error

    def _values(self, system: str) -> dict[str, Sequence[str]]:
        """Return the grid's values for the settings of `system`; its own keys take precedence."""
        known = [name for name, *_ in systems.describe(systems.config_class(system)())]
        values: dict[str, Sequence[str]] = {}
        for key in sorted(self.grid, key=lambda key: "." in key):
            owner, _, setting = key.rpartition(".")
            if owner and owner not in self.systems:
                accepted = ", ".join(map(repr, self.systems))
                raise ValueError(f"grid must name one of {accepted} before a dot, got {key!r}")
            if owner not in ("", system):
                continue
            if setting not in known:
                hint = "" if owner else f", or SYSTEM.{setting} for the systems that have it"
                raise ValueError(
                    f"grid must name a setting of {system}, one of {', '.join(known)}{hint}, got "
                    f"{key!r}"
                )
            values[setting] = self.grid[key]
        return values


def common_data(names: Sequence[str]) -> str:
    """Return the default data set of these systems; ValueError if they differ."""
    by_system = {name: systems.default_data(name) for name in names}
    if len(set(by_system.values())) > 1:
        each = ", ".join(f"{data} for {name}" for name, data in by_system.items())
        raise ValueError(f"data must be given for systems whose defaults differ: {each}; got none")
    return by_system[names[0]]


def slug(system: str, plan: Plan, settings: Mapping[str, Any]) -> str:
    """Return a readable folder name of a run: system, settings of the grid, seed."""
    config = {name: value for name, _, value in systems.describe(plan.config)}
    words = [word for name in settings for word in (name, setting_text(config[name]))]
    return re.sub(r"[^\w.+-]", "_", "-".join([system, *words, "seed", str(plan.seed)]))
