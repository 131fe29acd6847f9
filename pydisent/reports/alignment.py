"""How far a generator's leading eigenvectors are aligned with the coordinate axes."""

from typing import TYPE_CHECKING, Any

import torch

from pydisent.jacobian import eigenvectors
from pydisent.reports._codes import sample_codes

if TYPE_CHECKING:
    from pydisent.training import Run

_BATCH = 32


def alignment_summary(
    run: "Run", *, codes: int = 256, seed: int = 0, k: int | None = None
) -> dict[str, Any]:
    """Measure F, the mean of its first k diagonal entries, and the spectra (Ramesh et al., Eq. 6).

    Parameters
    ----------
    run : Run
        Its system decodes and samples the codes.
    codes : int
        Codes B drawn from the prior, >= 1.
    seed : int
        Of the draw.
    k : int, optional
        Leading eigenvectors that count; by default the system's setting k, or all m.

    Returns
    -------
    dict
        `k`, `codes`, `seed`; `heatmap`, F as a tensor (m, m) whose column j is the mean square of
        the j-th leading eigenvector of M = J'J; `diagonal`, its first k diagonal entries; `mean`,
        their mean in [0, 1]; `eigenvalues`, those of M at every code, descending, (B, m).

    Raises
    ------
    ValueError
        If `codes` or `k` is out of range, or the generator's output is not finite.
    """
    if codes < 1:
        raise ValueError(f"codes is {codes}; accepted: an integer >= 1")
    z = sample_codes(run.system, codes, seed)
    size = z.shape[1]
    chosen = min(leading(run) or size, size) if k is None else k
    if not 1 <= chosen <= size:
        raise ValueError(f"k is {k}; accepted: an integer from 1 to the code's size {size}")
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


def leading(run: "Run") -> int | None:
    """Return the run's setting k, or None if its system has none."""
    return run.config.get("config", {}).get("k")


def penalty_weight(run: "Run") -> float:
    """Return λ of the run's alignment penalty, 0 if it has none."""
    return run.config.get("config", {}).get("penalty_weight") or 0.0
