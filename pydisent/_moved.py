"""Modules that have moved, importable under their former names."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def alias_modules(package: str, moved: dict[str, str]) -> None:
    """Make modules that moved out of a package importable under their former names.

    An alias imports its module on first attribute access.

    Parameters
    ----------
    package : str
        The package they moved out of.
    moved : dict of str to str
        Former names in the package, mapped to the present modules.
    """
    for name, target in moved.items():
        alias = _Alias(f"{package}.{name}", target)
        sys.modules[alias.__name__] = alias
        setattr(sys.modules[package], name, alias)


class _Alias(ModuleType):
    def __init__(self, name: str, target: str) -> None:
        super().__init__(name, f"Former name of `{target}`.")
        self._target = target

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # looked up on every module, for example by inspect
            raise AttributeError(name)
        return getattr(import_module(self._target), name)
