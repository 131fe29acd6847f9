"""Checks of the images and codes that are given to a system."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from pydisent._checks import check_batch, check_floating

Shape = tuple[int, ...]


def check_inputs(system: type) -> None:
    """Make a system class's own `encode` and `decode` check their images and codes first."""
    for method, name, shape_of in (("encode", "x", _image_shape), ("decode", "code", _code_shape)):
        own = vars(system).get(method)
        if inspect.isfunction(own):
            setattr(system, method, _checked(own, name, shape_of))


def _checked(
    coder: Callable[..., Tensor], name: str, shape_of: Callable[[Any], Shape | None]
) -> Callable[..., Tensor]:
    @functools.wraps(coder)
    def checked(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        given = args[0] if args else kwargs.get(name)
        if given is not None:  # else the call itself fails, or names its argument otherwise
            check_floating(name, given)
            shape = shape_of(self)
            if shape is not None:
                check_batch(name, given, *shape)
        return coder(self, *args, **kwargs)

    return checked


def _image_shape(system: Any) -> Shape:
    return tuple(system.image_shape)


def _code_shape(system: Any) -> Shape | None:
    """The shape of a code; None for a system of a user's that does not tell its `latent_size`."""
    size = getattr(system, "latent_size", None)
    return None if size is None else (size,)
