"""The registry of systems."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, TypeVar

from pydisent._checks import check, check_one_of
from pydisent._plugins import Registry
from pydisent.systems._base import System
from pydisent.systems._presets import PRESETS, Preset

SYSTEMS: Registry[type[System]] = Registry("system", "pydisent.systems")
_S = TypeVar("_S", bound=type[System])


def register(system: _S) -> _S:
    """Register a system under its ``name``; a class decorator.

    Raises
    ------
    ValueError
        If it is not a subclass of `System` with a name, a dataclass ``Config`` and ``presets``, or
        the name is malformed or already registered.
    """
    rule = "a subclass of System with name, a dataclass Config and presets"
    whole = isinstance(system, type) and issubclass(system, System)
    whole = whole and all(hasattr(system, part) for part in ("name", "Config", "presets"))
    check(
        whole and is_dataclass(system.Config), "system", rule, getattr(system, "__name__", system)
    )
    SYSTEMS.add(system.name, system, system.__module__)
    return system


def names() -> tuple[str, ...]:
    """Return the names of all systems."""
    return tuple(sorted(SYSTEMS))


def config_class(name: str) -> type:
    """Return the configuration dataclass of system `name`; ValueError if there is none."""
    return _find(name).Config


def build(name: str, config: Any, image_shape: tuple[int, int, int]) -> System:
    """Build system `name` with fresh weights for images (C, H, W).

    Raises
    ------
    ValueError
        If there is no such system, it does not support the images, or its weights exceed this
        machine's memory.
    TypeError
        If `config` is not of the system's configuration class.
    """
    return _find(name)(config, image_shape)


def preset(name: str, preset_name: str, data_name: str) -> Preset:
    """Return the preset `preset_name` of system `name` for data set `data_name`.

    Raises
    ------
    ValueError
        If there is no such system or preset.
    """
    system = _find(name)
    check_one_of("preset", preset_name, PRESETS)
    return system.preset(preset_name, data_name)


def default_data(name: str) -> str:
    """Return the default data set of system `name`; ValueError if there is no such system."""
    return _find(name).default_data


def added_settings(name: str) -> Mapping[str, Any]:
    """Return settings that older runs of system `name` used but did not record."""
    return _find(name).added_settings


def _find(name: str) -> type[System]:
    if name not in SYSTEMS:
        check_one_of("system", name, names())
    return SYSTEMS[name]
