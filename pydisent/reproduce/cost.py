"""The cost of a generator update with the alignment penalty (Ramesh et al., Fig. 4)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pydisent import alignment_penalty
from pydisent.nn import DCGANDiscriminator, DCGANGenerator
from pydisent.reproduce.runs import Runs

COUNTS = (1, 2, 4, 8)  # T
VECTORS = (2, 4, 8, 16, 32)  # k
_SIZES: Mapping[str, dict[str, int]] = {
    "smoke": {"base": 4, "latent_size": 8, "batch_size": 4, "image_size": 16, "updates": 1},
    "small": {"base": 16, "latent_size": 128, "batch_size": 16, "image_size": 32, "updates": 5},
    "paper": {"base": 64, "latent_size": 128, "batch_size": 32, "image_size": 64, "updates": 20},
}


def relative_costs(scale: str, device: torch.device) -> dict[str, Any]:
    """Return the median time of a generator update with the penalty, relative to one without.

    Both are timed alternately. The networks are a DCGAN's, with RMSProp.

    Returns
    -------
    dict
        "device"; "plain_ms", the time without the penalty, in ms; and "relative", by T and k.
    """
    size = _SIZES[scale]
    generator = DCGANGenerator(size["latent_size"], 3, size["base"], size["image_size"]).to(device)
    judge = DCGANDiscriminator(3, size["base"], size["image_size"]).to(device)
    optimizer = torch.optim.RMSprop(generator.parameters(), 1e-4, alpha=0.9, eps=1e-6)
    z = torch.randn(size["batch_size"], size["latent_size"], device=device)

    def update(k: int, iterations: int) -> float:
        start = _now(z)
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.softplus(-judge(generator(z))).mean()
        if k:
            loss = loss + 0.1 * alignment_penalty(generator, z, k=k, iterations=iterations)
        loss.backward()
        optimizer.step()
        return _now(z) - start

    vectors = [k for k in VECTORS if k <= size["latent_size"]]
    relative: dict[str, dict[str, float]] = {}
    plain: list[float] = []
    for iterations in COUNTS:
        relative[str(iterations)] = {}
        for k in vectors:
            update(0, 1), update(k, iterations)  # warm up
            pairs = [(update(0, 1), update(k, iterations)) for _ in range(size["updates"])]
            without, with_it = (statistics.median(side) for side in zip(*pairs))
            plain.append(without)
            relative[str(iterations)][str(k)] = with_it / without
    return {"device": device.type, "plain_ms": 1e3 * statistics.median(plain), "relative": relative}


def _now(like: torch.Tensor) -> float:
    if like.device.type == "cuda":
        torch.cuda.synchronize(like.device)
    return time.perf_counter()


def draw_cost(runs: Runs, rows: Sequence[str]) -> Mapping[str, bytes]:
    """Draw the cost against k, with one curve for each T."""
    from pydisent.reports.style import SERIES, figure, figure_png

    found = runs.measured
    assert found is not None
    with figure(420, 320) as drawn:
        axis = drawn.subplots()
        for colour, (iterations, row) in zip(SERIES, found["relative"].items()):
            vectors = [int(k) for k in row]
            axis.plot(vectors, row.values(), "o-", color=colour, label=f"T = {iterations}")
        axis.set(
            xlabel="k",
            ylabel="cost of a generator update",
            title=f"relative to one without ({found['plain_ms']:.0f} ms, {found['device']})",
        )
        axis.set_ylim(bottom=0)
        axis.legend()
        return {"cost.png": figure_png(drawn)}
