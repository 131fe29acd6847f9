"""Training on Lightning Fabric: plans, run folders, the loop, checkpoints and logs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydisent._moved import alias_modules

if TYPE_CHECKING:
    from pydisent.training._finite import NonFiniteError
    from pydisent.training.folder import RunFolder
    from pydisent.training.loop import train
    from pydisent.training.plan import Plan
    from pydisent.training.pretrained import from_pretrained, push_to_hub, save_pretrained
    from pydisent.training.run import Run, open_run
    from pydisent.training.signals import Interrupted

__all__ = [
    "Interrupted",
    "NonFiniteError",
    "Plan",
    "Run",
    "RunFolder",
    "from_pretrained",
    "open_run",
    "push_to_hub",
    "save_pretrained",
    "train",
]

# Imported on first use: opening a trained run does not need the packages that training needs.
_HOMES = {
    "Interrupted": "pydisent.training.signals",
    "NonFiniteError": "pydisent.training._finite",
    "Plan": "pydisent.training.plan",
    "Run": "pydisent.training.run",
    "RunFolder": "pydisent.training.folder",
    "from_pretrained": "pydisent.training.pretrained",
    "open_run": "pydisent.training.run",
    "push_to_hub": "pydisent.training.pretrained",
    "save_pretrained": "pydisent.training.pretrained",
    "train": "pydisent.training.loop",
}

alias_modules(
    __name__,
    {
        "engine": "pydisent.sweeps.engine",
        "environment": "pydisent._environment",
        "perception": "pydisent.evaluation.perception",
        "ray_engine": "pydisent.sweeps.ray_engine",
        "scoring": "pydisent.evaluation.scoring",
        "sweep": "pydisent.sweeps",
    },
)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
