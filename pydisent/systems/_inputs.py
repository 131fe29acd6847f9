"""Checks of the images and codes that are given to a system."""

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor

from pydisent._checks import check_batch, check_floating

Coder = Callable[[Any, Tensor], Tensor]


def check_inputs(system: type) -> None:
    """Make a system class's own `encode` and `decode` check their argument first."""
    for name, shape_of in (("encode", _image_shape), ("decode", _code_shape)):
        if name in vars(system):
            setattr(system, name, _checked(vars(system)[name], shape_of))


def _checked(coder: Coder, shape_of: Callable[[Any], tuple[int, ...]]) -> Coder:
    name = coder.__code__.co_varnames[1]

    @functools.wraps(coder)
    def checked(self: Any, given: Tensor) -> Tensor:
        check_floating(name, given)
        check_batch(name, given, *shape_of(self))
        return coder(self, given)

    return checked


def _image_shape(system: Any) -> tuple[int, ...]:
    return tuple(system.image_shape)


def _code_shape(system: Any) -> tuple[int, ...]:
    return (len(system.code_names),)
