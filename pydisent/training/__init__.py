"""Training on Lightning Fabric: the loop, checkpoints, logs and run folders."""

from pydisent.training.folder import RunFolder
from pydisent.training.loop import Interrupted, NonFiniteError, train
from pydisent.training.plan import Plan
from pydisent.training.run import Run, open_run

__all__ = ["Interrupted", "NonFiniteError", "Plan", "Run", "RunFolder", "open_run", "train"]
