"""Time of the metrics, and agreement of the fast DCI with the definition's scores.

    python bench/metrics.py [--runs RUN ...] [--images 100000] [--accelerator auto] [--without-gbt]

Times FactorVAE, z-diff, SAP, MIG, modularity and the rest on sprites, with an encoder of the
published architecture (4x4 convolutions of 32, 32, 64, 64 maps, stride 2, then 256 units),
including encoding. Its weights are random, which costs the same as trained ones. Then compares DCI
on presorted codes with DCI by scikit-learn's trees, on codes of trained runs if given, else on
codes that mix the factors with noise. It exits with an error if their scores differ by more than
0.02.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _harness import write_result
from torch import nn

from pydisent import data, metrics
from pydisent.metrics import Samples

SCORES = ("disentanglement", "completeness", "informativeness")
BOUND = 0.02
GROUP = ("encode", "factor-vae", "z-diff", "sap", "mig", "modularity")


def published_encoder(sprites: data.ImageDataset, latents: int = 10) -> nn.Module:
    """Return the encoder, with codes rescaled to variance 1, as untrained ones hardly vary."""
    torch.manual_seed(0)
    widths = (1, 32, 32, 64, 64)
    convolutions = [
        layer
        for before, after in itertools.pairwise(widths)
        for layer in (nn.Conv2d(before, after, 4, 2, 1), nn.ReLU())
    ]
    head = (nn.Flatten(), nn.Linear(1024, 256), nn.ReLU(), nn.Linear(256, latents))
    network = nn.Sequential(*convolutions, *head)
    with torch.no_grad():
        some = np.random.default_rng(0).choice(len(sprites), 512, replace=False)
        network[-1].weight /= network(sprites.images(some)).std(0)[:, None]
    return network


def time_suite(images: int) -> dict[str, float]:
    """Return the seconds of each step, in the order of `pydisent evaluate`."""
    encoder = published_encoder(data.load("sprites"))
    sprites = data.load("sprites")  # a fresh instance: nothing drawn yet
    seconds: dict[str, float] = {}

    def timed(name: str, run: Any) -> Any:
        begin = time.perf_counter()
        result = run()
        seconds[name] = time.perf_counter() - begin
        score = getattr(result, "score", None)
        print(f"{name:12} {seconds[name]:8.2f} s", "" if score is None else f"  score {score:.3f}")
        return result

    codes = timed("encode", lambda: metrics.encode_once(encoder, sprites, max_images=images))
    samples = metrics.sample_codes(codes.encode, codes)
    train = samples[:2]
    timed("factor-vae", lambda: metrics.factor_vae_score(codes.encode, codes))
    timed("z-diff", lambda: metrics.z_diff(codes.encode, codes))
    timed("sap", lambda: metrics.sap(*samples))
    timed("sap svm", lambda: metrics.sap(*samples, variant="svm"))
    timed("mig", lambda: metrics.mig(*train))
    timed("modularity", lambda: metrics.modularity(*train))
    timed("irs", lambda: metrics.irs(*train))
    timed("dci", lambda: metrics.dci(*samples))
    seconds["group of five"] = sum(seconds[name] for name in GROUP)
    print(f"{', '.join(GROUP)}: {seconds['group of five']:.1f} s")
    return seconds


def mixed_samples() -> Samples:
    """Codes, half of which follow one factor each and half of which mix them, with noise."""
    rng = np.random.default_rng(0)
    sizes = np.array((3, 6, 40, 32, 32))
    mix = rng.normal(size=(5, 5)) * 0.3

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        factors = rng.integers(0, sizes, size=(count, 5))
        scaled = factors / sizes
        codes = np.concatenate([scaled, scaled @ mix], 1)
        return codes + 0.1 * rng.normal(size=codes.shape), factors

    return Samples(*draw(10_000), *draw(5_000))


def run_samples(path: Path, accelerator: str) -> Samples:
    from pydisent.evaluation.devices import device_of
    from pydisent.training import open_run

    run = open_run(path, device_of(accelerator))
    dataset: Any = run.dataset
    return metrics.sample_codes(run.system.encode, dataset, device=run.system.device)


def compare_dci(samples: Samples) -> dict[str, Any]:
    """Return both estimators' scores and seconds, their difference and the speed-up."""
    found: dict[str, Any] = {}
    for estimator in ("presorted", "gbt"):
        begin = time.perf_counter()
        result = metrics.dci(*samples, estimator=estimator)  # type: ignore[arg-type]
        seconds = time.perf_counter() - begin
        details = {**result.details, "disentanglement": result.score}
        found[estimator] = {**{s: details[s] for s in SCORES}, "seconds": seconds}
        print(f"  {estimator:10}", "  ".join(f"{k} {v:.4f}" for k, v in found[estimator].items()))
    found["difference"] = max(abs(found["presorted"][s] - found["gbt"][s]) for s in SCORES)
    found["speedup"] = found["gbt"]["seconds"] / found["presorted"]["seconds"]
    print(f"  difference {found['difference']:.4f}  speed-up {found['speedup']:.1f}")
    return found


def table(result: dict) -> list[str]:
    seconds = result["seconds"]
    lines = [
        f"Metrics of a network of the published size on 64×64 `sprites`: encoding "
        f"{result['images']:,} images {seconds['encode']:.0f} s, then FactorVAE "
        f"{seconds['factor-vae']:.1f} s, z-diff {seconds['z-diff']:.1f} s, SAP "
        f"{seconds['sap']:.1f} s, MIG {seconds['mig']:.2f} s, modularity "
        f"{seconds['modularity']:.2f} s: {seconds['group of five']:.0f} s together. DCI:",
        "",
    ]
    for name, case in result.get("dci", {}).items():
        lines.append(
            f"- {name}: {case['presorted']['seconds']:.1f} s, scikit-learn's trees "
            f"{case['gbt']['seconds']:.0f} s ({case['speedup']:.0f}×); scores at most "
            f"{case['difference']:.4f} apart."
        )
    return [*lines, ""]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000, help="number of sprites to encode")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="trained runs on sprites")
    parser.add_argument("--accelerator", default="auto", help="accelerator for encoding with runs")
    parser.add_argument("--without-gbt", action="store_true", help="only time the suite")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    result: dict[str, Any] = {"images": args.images, "seconds": time_suite(args.images)}
    if not args.without_gbt:
        cases = {p.name: partial(run_samples, p, args.accelerator) for p in args.runs}
        result["dci"] = {}
        for name, draw in (cases or {"mixed factors": mixed_samples}).items():
            print(f"DCI, {name}")
            result["dci"][name] = compare_dci(draw())
    print("wrote", write_result("metrics", result))
    differences = [case["difference"] for case in result.get("dci", {}).values()]
    if max(differences, default=0.0) > BOUND:
        print(f"the fast DCI is further than {BOUND} from the definition", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
