"""Configurations: dataclasses of plain values, set by name and described in tables."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

_C = TypeVar("_C")
_NONE = type(None)


def override(config: _C, values: Mapping[str, Any]) -> _C:
    """Return a copy of `config` with `values` set, strings read as each field's type.

    Raises
    ------
    ValueError
        If a name is not a field, a string does not read as its type, or the configuration
        rejects the value.
    """
    hints = typing.get_type_hints(type(config))
    known = [f.name for f in dataclasses.fields(config)]  # type: ignore[arg-type]
    read = {}
    for key, value in values.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ValueError(f"unknown setting {key!r}{hint}; accepted: {', '.join(known)}")
        read[key] = _read(key, value, hints[key])
    return dataclasses.replace(config, **read)  # type: ignore[type-var]


def require(
    config: object, names: tuple[str, ...], accepts: Callable[[Any], bool], accepted: str
) -> None:
    """Raise ValueError unless each named setting is None or a number that `accepts` takes."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not accepts(value):
            raise ValueError(f"{name} is {value}; accepted: a number {accepted}")


def require_one_of(config: object, name: str, accepted: Sequence[str]) -> None:
    """Raise ValueError unless the named setting is one of these."""
    if (value := getattr(config, name)) not in accepted:
        raise ValueError(f"{name} is {value!r}; accepted: {', '.join(map(repr, accepted))}")


def describe(config: Any) -> list[tuple[str, str, Any]]:
    """Return (name, type, value) of every field of a configuration."""
    hints = typing.get_type_hints(type(config))
    return [
        (f.name, _type_name(hints[f.name]), getattr(config, f.name))
        for f in dataclasses.fields(config)
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
    raise ValueError(f"setting {key} is {value!r}; accepted: {_type_name(hint)}")


def _parse(text: str, kind: Any) -> Any:
    named: dict[Any, dict[str, Any]] = {_NONE: {"none": None}, bool: {"true": True, "false": False}}
    if kind in named:
        if text.lower() not in named[kind]:
            raise ValueError(text)
        return named[kind][text.lower()]
    return kind(text)
