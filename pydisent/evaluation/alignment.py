"""The alignment of a generator's leading eigenvectors with the coordinate axes."""

from typing import Any

import torch

from pydisent.evaluation.codes import prior_codes
from pydisent.jacobian import eigenvectors
from pydisent.training.run import Run

_BATCH = 32


def alignment_summary(
    run: Run, *, codes: int = 256, seed: int = 0, k: int | None = None
) -> dict[str, Any]:
    """Return F, the mean of its first k diagonal entries, and the spectra (Ramesh et al., Eq. 6).

    Parameters
    ----------
    run : Run
        The run.
    codes : int
        Number of codes B drawn from the prior, >= 1.
    seed : int
        Seed of the codes.
    k : int, optional
        Number of leading eigenvectors; by default the system's setting k, or else m.

    Returns
    -------
    dict
        `k`, `codes`, `seed`; `heatmap`, F as a tensor (m, m) whose column j is the mean square of
        the j-th leading eigenvector of M = J'J; `diagonal`, its first k diagonal entries; `mean`,
        their mean in [0, 1]; `eigenvalues` of M at every code, descending, (B, m).

    Raises
    ------
    ValueError
        If `codes` or `k` is out of range, or the generator's output is not finite.
    """
    if codes < 1:
        raise ValueError(f"codes must be an integer >= 1, got {codes}")
    z = prior_codes(run.system, codes, seed)
    size = z.shape[1]
    chosen = min(leading(run) or size, size) if k is None else k
    if not 1 <= chosen <= size:
        raise ValueError(f"k must be an integer from 1 to the code's size {size}, got {k}")
    heatmap, spectra = torch.zeros(size, size), []
    for part in z.split(_BATCH):  # the Jacobians of all codes at once may not fit
        values, vectors = eigenvectors(run.system.decode, part)
        heatmap += vectors.square().sum(0).cpu() / codes
        spectra.append(values.cpu())
    diagonal = heatmap.diagonal()[:chosen].tolist()
    return {
        "k": chosen,
        "codes": codes,
        "seed": seed,
        "mean": sum(diagonal) / chosen,
        "diagonal": diagonal,
        "heatmap": heatmap,
        "eigenvalues": torch.cat(spectra),
    }


def leading(run: Run) -> int | None:
    """Return the run's setting k, or None if its system has none."""
    return getattr(run.plan.config, "k", None)


def penalty_weight(run: Run) -> float:
    """Return the weight λ of the run's alignment penalty, 0 if it has none."""
    config = run.plan.config
    weight = getattr(config, "penalty_weight", None) or 0.0
    return weight if getattr(config, "regularizer", "alignment") == "alignment" else 0.0
