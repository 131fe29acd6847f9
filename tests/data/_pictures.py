"""Folders of small pictures, as the official ones are laid out."""

import numpy as np
from PIL import Image

ATTRIBUTES = [f"Attribute_{i}" for i in range(40)]


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def noise(height, width, channels=3, seed=0):
    shape = (height, width, channels)[: 3 if channels > 1 else 2]
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def chairs(folder, models=5, elevations=(20, 30), azimuths=(11, 23, 100), side=64):
    """A dark square on white, brighter with the model, lower with the elevation, further right
    with the azimuth."""
    for model in range(models):
        views = [(p, t) for p in elevations for t in azimuths]
        for number, (p, t) in enumerate(views, 1):
            pixels = np.full((side, side, 3), 255, np.uint8)
            top, left = 8 * elevations.index(p), 8 * azimuths.index(t)
            pixels[top : top + 8, left : left + 8] = 10 * model
            name = f"image_{number:03}_p{p:03}_t{t:03}_r096.png"
            save(folder / f"{9 - model}abc" / "renders" / name, pixels)
    return folder


def celeba(folder, count=20, suffix=".png", partition=False):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2, (count, 40)) * 2 - 1
    lines = [str(count), " ".join(ATTRIBUTES)]
    for number, row in enumerate(values, 1):
        save(folder / "img_align_celeba" / f"{number:06}{suffix}", noise(218, 178, seed=number))
        lines.append(f"{number:06}.jpg " + " ".join(f"{v:2}" for v in row))
    (folder / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    if partition:
        parts = [f"{n:06}.jpg {(n - 1) * 3 // count}" for n in range(1, count + 1)]
        (folder / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    return values == 1
