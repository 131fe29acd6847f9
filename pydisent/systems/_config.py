"""Configurations: dataclasses of plain values, validated, described and set by name."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydisent._checks import as_plain, check_int64, check_number, check_one_of, shown

_C = TypeVar("_C")
_NONE = type(None)
_PLAIN = {bool, int, float, str, _NONE}


def override(config: _C, values: Mapping[str, Any]) -> _C:
    """Return a copy of `config` with `values` set; strings are parsed as each field's type.

    Raises
    ------
    ValueError
        If a name is not a field, a string does not parse, or the configuration rejects a value.
    """
    hints = typing.get_type_hints(type(config))
    known = [f.name for f in dataclasses.fields(config)]  # type: ignore[arg-type]
    read = {}
    for key, value in values.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"setting must be one of {', '.join(known)}, got {key!r}{hint}")
        read[key] = _read(key, as_plain(value), hints[key])
    return dataclasses.replace(config, **read)  # type: ignore[type-var]


def check_types(config: object) -> None:
    """Raise TypeError unless every setting has its declared type, as far as that is plain.

    Numbers may be NumPy's, and integers stand for real numbers as well.
    """
    try:
        hints = typing.get_type_hints(type(config))
    except NameError:  # a user's annotations that cannot be resolved
        return
    for name in (f.name for f in dataclasses.fields(config)):  # type: ignore[arg-type]
        kinds = set(_choices(hints[name]))
        if not kinds <= _PLAIN:
            continue
        kind = type(as_plain(getattr(config, name)))
        if kind not in (kinds | {int} if float in kinds else kinds):
            words = f"{name} must be {_type_name(hints[name])}, got {shown(getattr(config, name))}"
            raise TypeError(words)


def check_integers(config: object, *names: str, at_least: int = 1) -> None:
    """Raise unless each named setting is None or an integer >= `at_least`."""
    for name in names:
        if (value := getattr(config, name)) is not None:
            check_int64(name, value, at_least=at_least)


def check_numbers(config: object, *names: str, **bounds: Any) -> None:
    """Raise unless each named setting is None or a finite number within the bounds."""
    for name in names:
        if (value := getattr(config, name)) is not None:
            check_number(name, value, **bounds)


def check_choices(config: object, **accepted: Sequence[str]) -> None:
    """Raise unless each named setting has an accepted value."""
    for name, choices in accepted.items():
        check_one_of(name, getattr(config, name), choices)


def describe(config: Any) -> list[tuple[str, str, Any]]:
    """Return (name, type, value) for every field of a configuration, own fields first."""
    hints = typing.get_type_hints(type(config))
    return [
        (f.name, _type_name(hints[f.name]), getattr(config, f.name))
        for f in sorted(dataclasses.fields(config), key=lambda f: bool(f.kw_only))
    ]


def _choices(hint: Any) -> tuple[Any, ...]:
    union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    return typing.get_args(hint) if union else (hint,)


def _type_name(hint: Any) -> str:
    return " or ".join("none" if t is _NONE else t.__name__ for t in _choices(hint))


def _read(key: str, value: Any, hint: Any) -> Any:
    for kind in _choices(hint):
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is kind:
            return value
        if isinstance(value, str):
            try:
                return _parse(value, kind)
            except ValueError:
                continue
    raise ValueError(f"{key} must be {_type_name(hint)}, got {shown(value)}")


def _parse(text: str, kind: Any) -> Any:
    named: dict[Any, dict[str, Any]] = {_NONE: {"none": None}, bool: {"true": True, "false": False}}
    if kind in named:
        if text.lower() not in named[kind]:
            raise ValueError(text)
        return named[kind][text.lower()]
    return kind(text)
