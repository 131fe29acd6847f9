"""How many processes train at a time, and where."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydisent.training.engine import Engine


def suited_workers(accelerator: str) -> int:
    """Return how many processes train well at a time: one a core, or one on the GPU."""
    import torch

    from pydisent.training.engine import cores

    return 1 if accelerator != "cpu" and torch.cuda.is_available() else cores()


def engine_for(
    name: str, ray_address: str | None, runs: int, workers: int | None, accelerator: str
) -> "tuple[Engine, int]":
    """Return the engine for so many runs, and how many threads suit each of its processes."""
    from pydisent.training.engine import LocalEngine, cores

    if name == "local":
        if ray_address is not None:
            raise ValueError(f"ray_address is {ray_address!r}; accepted: with --engine ray alone")
        chosen = min(runs, suited_workers(accelerator)) if workers is None else workers
        return LocalEngine(chosen), max(1, cores() // chosen)
    from pydisent.training.ray_engine import RayEngine, joined

    elsewhere = joined(ray_address) is not None
    fitting = runs if elsewhere else min(runs, suited_workers(accelerator))
    chosen = fitting if workers is None else workers
    engine = RayEngine(chosen, ray_address, gpu=accelerator != "cpu")
    return engine, 1 if elsewhere else max(1, cores() // chosen)
