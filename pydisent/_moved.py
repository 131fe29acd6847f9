"""Modules that have moved, importable under their former names."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def alias_modules(package: str, moved: dict[str, str]) -> None:
    """Make the modules of a package that moved importable under their former names.

    An alias imports its module when an attribute is first asked for.

    Parameters
    ----------
    package : str
        The package that they have left.
    moved : dict of str to str
        The present module of each former name in the package.
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
        if name.startswith("__"):  # asked of every module, such as by inspect
            raise AttributeError(name)
        return getattr(import_module(self._target), name)
