"""The choice of an engine and of the number of its processes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydisent.sweeps.engine import Engine


def suited_workers(accelerator: str) -> int:
    """Return a suitable number of processes: one per core, or one on a GPU."""
    import torch

    from pydisent.sweeps.engine import cores

    return 1 if accelerator != "cpu" and torch.cuda.is_available() else cores()


def engine_for(
    name: str, ray_address: str | None, runs: int, workers: int | None, accelerator: str
) -> "tuple[Engine, int]":
    """Return the engine for a number of runs, and the threads per process."""
    from pydisent.sweeps.engine import LocalEngine, cores

    if name == "local":
        if ray_address is not None:
            raise ValueError(f"ray_address must be given only with ray, got {ray_address!r}")
        chosen = min(runs, suited_workers(accelerator)) if workers is None else workers
        return LocalEngine(chosen), max(1, cores() // chosen)
    from pydisent.sweeps.ray_engine import RayEngine, joined

    elsewhere = joined(ray_address) is not None
    fitting = runs if elsewhere else min(runs, suited_workers(accelerator))
    chosen = fitting if workers is None else workers
    engine = RayEngine(chosen, ray_address, gpu=accelerator != "cpu")
    return engine, 1 if elsewhere else max(1, cores() // chosen)
