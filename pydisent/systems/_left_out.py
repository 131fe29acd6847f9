"""Training-only parts of a system, and systems without them."""

from typing import Any, NoReturn

from torch import nn


class LeftOutError(RuntimeError):
    """A system without its training-only parts was to be trained further."""


class LeftOut(nn.Module):
    """Placeholder without weights for a part; calling it raises `LeftOutError`."""

    def __init__(self, system: str, part: str) -> None:
        super().__init__()
        self.system, self.part = system, part

    def forward(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise `LeftOutError`."""
        raise LeftOutError(left_out_words(self.system, [self.part]))


def left_out_words(system: str, parts: list[str] | tuple[str, ...]) -> str:
    """Return why a system cannot be trained further."""
    return (
        f"{system} cannot be trained on: it was saved without its {' and '.join(parts)}, which "
        "only training uses; it encodes and decodes"
    )
