"""Weights that are expensive to train, cached as files; reading them never executes code."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from pydisent._atomic import write_atomic
from pydisent._extras import optional
from pydisent._user_cache import cache_folder
from pydisent.metrics._weights import read_weights, take_weights

LOG = logging.getLogger(__name__)


def check_file_name(name: str) -> None:
    """Check that ``name`` can start a file name.

    Raises
    ------
    ValueError
        If it has characters other than letters, digits, dots, dashes and underscores.
    """
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(
            f"name must be letters, digits, dots, dashes and underscores, got {name!r}"
        )


def kept_weights(
    name: str,
    digest: str,
    shapes: Mapping[str, tuple[int, ...]],
    make: Callable[[], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """Return weights from the cache, making them if missing, or always without a cache.

    Parameters
    ----------
    name, digest : str
        What the weights belong to, and a hash of everything that determines them: the file's name.
    shapes : mapping
        The shape of each tensor; a damaged file, or one with other shapes, is made again.
    make : callable
        Returns the tensors, float32; called at most once.
    """
    folder = cache_folder()
    if folder is None:
        return make()
    file = folder / f"{name}-{digest}.safetensors"
    try:
        found = take_weights(read_weights(file, name), shapes, str(file))
        return {key: tensor.float() for key, tensor in found.items()}
    except FileNotFoundError:
        LOG.warning("%s: training once, for %s; PYDISENT_CACHE=off to keep nothing", name, file)
    except ImportError as error:
        LOG.warning("%s: nothing is kept: %s", name, error)
        return make()
    except (OSError, ValueError) as error:
        LOG.warning("%s: training again: %s", name, error)
    weights = make()
    try:
        _write(file, weights)
    except OSError as error:  # no space or permission: will be trained again next time
        LOG.warning("%s: nothing kept in %s: %s", name, folder, error)
    return weights


def _write(file: Path, weights: Mapping[str, Tensor]) -> None:
    with optional():
        from safetensors.torch import save

    file.parent.mkdir(parents=True, exist_ok=True)
    data = save({key: tensor.contiguous() for key, tensor in weights.items()})
    write_atomic(file, data, concurrent=True)
