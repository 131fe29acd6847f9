"""Validation of the page's requests, all of which are treated as hostile."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pydisent._checks import check, check_integer, shown

LARGEST = 1e4  # absolute value of a coordinate
MOST_CODES = 240  # in one request
LONGEST_NAME = 80


def parsed(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises
    ------
    ValueError
        If the text is not a JSON object, or holds a number that is not finite.
    """
    try:
        found = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the message must be JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"the message must be a JSON object, got {type(found).__name__}")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"numbers must be finite, got {constant}")


def code_of(value: Any, size: int, name: str = "code") -> Tensor:
    """Return a list of numbers as a code (size,).

    Raises
    ------
    TypeError, ValueError
        If it is not a list of `size` numbers, or a number is too large.
    """
    if not isinstance(value, list):
        raise TypeError(f"{name} must be a list of numbers, got {shown(value)}")
    check(len(value) == size, name, f"a list of {size} numbers", f"{len(value)}")
    for number in value:
        if type(number) not in (int, float):
            raise TypeError(f"{name} must be a list of numbers, got {shown(number)} among them")
        if not -LARGEST <= number <= LARGEST:  # exact for integers of any size
            raise ValueError(f"{name} must be of numbers in [-{LARGEST}, {LARGEST}], got {number}")
    return torch.tensor(value, dtype=torch.float32)


def codes_of(value: Any, size: int) -> Tensor:
    """Return a list of lists as codes (N, size), with N from 1 to `MOST_CODES`."""
    if not isinstance(value, list):
        raise TypeError(f"codes must be a list of codes, got {shown(value)}")
    check(1 <= len(value) <= MOST_CODES, "codes", f"from 1 to {MOST_CODES}", len(value))
    return torch.stack([code_of(each, size, f"codes[{i}]") for i, each in enumerate(value)])


def names_of(value: Any, count: int) -> list[str]:
    """Return a list of `count` strings, each shortened to `LONGEST_NAME`."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise TypeError(f"names must be a list of texts, got {shown(value)}")
    check(len(value) == count, "names", f"{count} texts", len(value))
    return [name[:LONGEST_NAME] for name in value]


def integer_of(asked: Mapping[str, Any], name: str, at_least: int, at_most: int) -> int:
    """Return the integer called `name`, which must be within bounds."""
    value = asked.get(name)
    check_integer(name, value, at_least=at_least, at_most=at_most)
    return int(value)  # type: ignore[arg-type]


def choice_of(asked: Mapping[str, Any], name: str, among: Sequence[Any]) -> int:
    """Return the index called `name` into `among`."""
    return integer_of(asked, name, 0, len(among) - 1)
