"""Training on Lightning Fabric: plans, run folders, the loop, checkpoints and logs."""

from pydisent._moved import alias_modules
from pydisent.training.folder import RunFolder
from pydisent.training.loop import Interrupted, NonFiniteError, train
from pydisent.training.plan import Plan
from pydisent.training.pretrained import from_pretrained, push_to_hub, save_pretrained
from pydisent.training.run import Run, open_run

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
