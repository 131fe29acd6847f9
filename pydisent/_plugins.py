"""Registries of systems, data sets and metrics, and the plug-ins that add to them.

A plug-in is a module that registers something when it is imported. It is found through an entry
point of an installed package, in the groups `pydisent.systems`, `pydisent.data` and
`pydisent.metrics` (the entry point is named after what it registers; its value is a module, or an
object in one), or through the environment variable PYDISENT_PLUGINS: modules and paths of .py
files, separated by commas. Child processes, such as those of a sweep, inherit the variable; the
machines of an existing Ray cluster must set it themselves. Plug-ins are imported when a name is not
yet registered, or when all names are listed.
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
_imported: set[str] = set()  # items of the variable that were tried, even if they failed

T = TypeVar("T")


class Registry(MutableMapping[str, T]):
    """Entries by name, in the order of registration; plug-ins can add to them.

    Parameters
    ----------
    kind : str
        What the entries are, for messages.
    group : str
        The entry-point group of plug-ins.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind, self.group = kind, group
        self._entries: dict[str, T] = {}
        self._owners: dict[str, str] = {}
        self._asked = False

    def add(self, name: str, entry: T, owner: str) -> None:
        """Register an entry of the module `owner`, which may replace its own entries.

        Raises
        ------
        ValueError
            If the name has characters other than letters, digits and - _ . +, or belongs to
            another module.
        """
        fits = isinstance(name, str) and _NAME.fullmatch(name) is not None
        check(fits, f"name of a {self.kind}", "letters, digits, dashes and dots", shown(name))
        taken = self._owners.get(name, owner)
        free = f"other than those of {taken}"
        check(taken == owner, f"name of a {self.kind} in {owner}", free, repr(name))
        self._entries[name], self._owners[name] = entry, owner

    def find(self, name: str) -> T:
        """Return an entry; ValueError, listing all names, if there is none."""
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
        except (Exception, SystemExit) as error:  # third-party code may raise anything
            warn(f"{said} is left out: {type(error).__name__}: {error}")
        else:
            if point.name not in self._entries:
                warn(f"{said} registers no {self.kind} {point.name!r}")


def _import_named() -> None:
    """Import the modules and files named by the environment variable, each once."""
    for item in os.environ.get(VARIABLE, "").split(","):
        name = item.strip()
        if not name or name in _imported:
            continue
        _imported.add(name)  # first, as the import itself may look up names
        try:
            _import_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
        except (Exception, SystemExit) as error:  # third-party code may raise anything
            warn(f"the plug-in {name} ({VARIABLE}) is left out: {type(error).__name__}: {error}")


def _import_file(file: Path) -> None:
    """Import a file as the module of its name, unless it is running or already imported."""
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
