"""The device on which runs are evaluated."""

import torch

from pydisent._checks import check_one_of

ACCELERATORS = ("auto", "cpu", "cuda", "mps", "gpu")


def device_of(accelerator: str = "auto") -> torch.device:
    """Return the device of an accelerator, named as for training.

    Parameters
    ----------
    accelerator : str
        "cpu", "cuda", "mps", or "gpu" for whichever of the last two is available; "auto" for a CUDA
        GPU if there is one, else the CPU. "auto" never chooses Metal, which lacks some operations,
        such as eigenvectors.

    Raises
    ------
    ValueError
        If there is no such accelerator, or the machine has none.
    """
    check_one_of("accelerator", accelerator, ACCELERATORS)
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if accelerator == "auto":
        return torch.device("cuda" if there["cuda"] else "cpu")
    if accelerator == "gpu":
        accelerator = "mps" if there["mps"] and not there["cuda"] else "cuda"
    if not there.get(accelerator, True):
        raise ValueError(
            f"accelerator must be available, got {accelerator!r} on a machine without it"
        )
    return torch.device(accelerator)
