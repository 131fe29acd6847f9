"""Registries of systems, data sets and metrics, and the plug-ins that add to them.

A plug-in is a module that registers something when it is imported. It is found by an entry point of
an installed package, in the groups `pydisent.systems`, `pydisent.data` and `pydisent.metrics` (the
name is that of what is registered, the value a module, or an object in one), or by the environment
variable PYDISENT_PLUGINS: modules and paths of .py files, separated by commas. Processes that are
started, such as a sweep's, inherit the variable; machines of a Ray cluster that is joined must have
it themselves. Plug-ins are imported when a name is not found among those that there are, or all are
asked for.
"""

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, MutableMapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TypeVar

from pydisent._checks import check, check_one_of, shown
from pydisent._notice import warn

VARIABLE = "PYDISENT_PLUGINS"
_NAME = re.compile(r"[a-z0-9][a-z0-9_.+-]*", re.IGNORECASE)
_imported: set[str] = set()  # what of the variable was imported, or could not be

T = TypeVar("T")


class Registry(MutableMapping[str, T]):
    """What is known by name, in the order of registration; plug-ins add to it.

    Parameters
    ----------
    kind : str
        What its entries are, for messages.
    group : str
        The group of entry points that add to it.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind, self.group = kind, group
        self._entries: dict[str, T] = {}
        self._owners: dict[str, str] = {}
        self._asked = False

    def add(self, name: str, entry: T, owner: str) -> None:
        """Register an entry of the module `owner`, which may replace its own.

        Raises
        ------
        ValueError
            If the name is not letters, digits and - _ . +, or is another module's.
        """
        fits = isinstance(name, str) and _NAME.fullmatch(name) is not None
        check(fits, f"name of a {self.kind}", "letters, digits, dashes and dots", shown(name))
        taken = self._owners.get(name, owner)
        free = f"other than those of {taken}"
        check(taken == owner, f"name of a {self.kind} in {owner}", free, repr(name))
        self._entries[name], self._owners[name] = entry, owner

    def find(self, name: str) -> T:
        """Return an entry; ValueError, with all names, if there is none."""
        if name not in self:
            check_one_of(self.kind, name, tuple(self))
        return self[name]

    def __contains__(self, name: object) -> bool:
        if name not in self._entries:
            self._import_plugins()
        return name in self._entries

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            self._import_plugins()
        return self._entries[name]

    def __setitem__(self, name: str, entry: T) -> None:
        self._entries[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._entries[name]
        self._owners.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        self._import_plugins()
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        self._import_plugins()
        return len(self._entries)

    def _import_plugins(self) -> None:
        _import_named()
        if self._asked:
            return
        self._asked = True
        for point in entry_points(group=self.group):
            self._import_point(point)

    def _import_point(self, point: EntryPoint) -> None:
        owner = "" if point.dist is None else f" of {point.dist.name}"
        said = f"the plug-in {point.name} = {point.value} ({self.group}){owner}"
        try:
            point.load()
        except (Exception, SystemExit) as error:  # of anyone's code
            warn(f"{said} is left out: {type(error).__name__}: {error}")
        else:
            if point.name not in self._entries:
                warn(f"{said} registers no {self.kind} {point.name!r}")


def _import_named() -> None:
    """Import the modules and files that the environment variable names, each once."""
    for item in os.environ.get(VARIABLE, "").split(","):
        name = item.strip()
        if not name or name in _imported:
            continue
        _imported.add(name)  # before: it may ask for names itself
        try:
            _import_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
        except (Exception, SystemExit) as error:  # of anyone's code
            warn(f"the plug-in {name} ({VARIABLE}) is left out: {type(error).__name__}: {error}")


def _import_file(file: Path) -> None:
    """Import a file as the module of its name, unless it runs or is imported already."""
    for name in ("__main__", file.stem):
        there = sys.modules.get(name)
        if Path(getattr(there, "__file__", None) or "").resolve() == file.resolve():
            return
    if there is not None:
        raise ImportError(f"there is another module {file.stem}")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[file.stem] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[file.stem]
        raise
