"""Which trained models come with the package? Adds those of selected runs to its zoo.

``python bench/zoo.py runs/mine ...`` writes each run's weights, configuration and card to
``pydisent/zoo/SYSTEM/DATA``, up to 8 MB in total. Training-only parts are left out, and parameters
are stored in half precision if that changes no cheap score by 1e-3.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

import pydisent
from pydisent import data, metrics
from pydisent.data import ImageDataset
from pydisent.evaluation.codes import dataset_images, reconstruct
from pydisent.systems import System
from pydisent.systems.pretrained import CARD
from pydisent.training import Run, open_run
from pydisent.training.pretrained import read_pretrained, save_pretrained

ZOO = Path(pydisent.__file__).parent / "zoo"
LIMIT = 8e6  # bytes
SAMPLES, IMAGES = 2000, 200
TOLERANCE = 1e-3


@torch.no_grad()
def cheap_scores(
    system: System, seen: ImageDataset, unseen: ImageDataset | None
) -> dict[str, float]:
    """Scores that take seconds, for testing the weights, depending on the data and codes.

    All models have a reconstruction error, which involves every part, and one of: MIG, if the data
    is a grid of factors; if the code has attributes, the fraction recovered from images in which
    they were set; if it has factors and the images have classes, class swaps.

    Parameters
    ----------
    system : System
        The model.
    seen, unseen : ImageDataset
        The training images, and the held-out ones, if any.
    """
    images = dataset_images(unseen or seen, IMAGES, 0)
    error = (reconstruct(system, images) - images).square().mean()
    scores = {f"reconstruction error of {IMAGES} images": float(error)}
    if isinstance(seen, data.FactorDataset):
        samples = metrics.sample_codes(system.encode, seen, train=SAMPLES, test=1)
        scores[f"mig of {SAMPLES} images"] = float(metrics.mig(*samples[:2]).score)
    elif system.needs_attributes:
        scores[f"attributes read again of {IMAGES} images"] = read_again(system, images)
    elif unseen is not None and unseen.labels is not None:
        scores["class swaps by the nearest image"] = nearest_swaps(system, seen, unseen)
    return scores


def read_again(system: System, images: Tensor) -> float:
    """The fraction of attributes recovered from images that were given those of others."""
    columns = list(system.factor_columns)
    codes = system.encode(images)
    codes[:, columns] = codes[:, columns].roll(1, 0)
    again = system.encode(system.decode(codes))
    return float((again[:, columns].sign() == codes[:, columns].sign()).float().mean())


def nearest_swaps(system: System, seen: ImageDataset, unseen: ImageDataset) -> float:
    """Lezama's class swaps, classified by the nearest training image instead of a net."""
    assert seen.labels is not None
    assert unseen.labels is not None
    known, labels = seen.images(torch.arange(len(seen))).flatten(1), seen.labels

    def classify(images: Tensor) -> Tensor:
        return labels[torch.cdist(images.flatten(1), known).argmin(1)]

    found = metrics.class_swaps(
        system.encode,
        system.decode,
        unseen,
        unseen.labels,
        classify,
        factors=system.factor_columns,
        pairs=SAMPLES,
    )
    return float(found.score)


def put(path: Path, zoo: Path = ZOO) -> str:
    """Add a run's model to the zoo; return its name."""
    run = open_run(path)
    name = f"{run.plan.system}/{run.plan.data}"
    measured = run.scores or {}
    cheap = cheap_scores(run.system, run.dataset, run.held_out)
    for dtype in (torch.float16, None):
        write(run, zoo / name, name, dtype)
        again = cheap_scores(read_pretrained(zoo / name), run.dataset, run.held_out)
        moved = max(abs(again[key] - cheap[key]) for key in cheap)
        print(f"{name}: {dtype or 'as trained'} moves a score by {moved:.1e}: {again}")
        if moved <= TOLERANCE:
            break
    else:
        raise ValueError(f"{path} does not score the same when it is read again")
    run.scores = measured | {key: {"score": value} for key, value in again.items()}
    write(run, zoo / name, name, dtype)
    return name


def write(run: Run, folder: Path, name: str, dtype: torch.dtype | None) -> None:
    """Write the model and its card, which loads it by name."""
    save_pretrained(
        run, folder, license="apache-2.0", source=name, inference_only=True, dtype=dtype
    )
    card = folder / CARD
    card.write_text(card.read_text().replace("pydisent.from_pretrained(", "pydisent.load("))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="*")
    for path in parser.parse_args(argv).runs:
        print(f"{path} -> {put(path)}")
    size = sum(file.stat().st_size for file in ZOO.glob("*/*/*"))
    print(f"{size / 1e6:.1f} MB of {LIMIT / 1e6:.0f}")
    return int(size > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
