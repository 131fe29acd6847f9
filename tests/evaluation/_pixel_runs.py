"""Runs of an encoder that reads pixels, without any training."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch

from pydisent.data import ArrayDataset, FactorDataset


class Grid(FactorDataset):
    """Images whose pixels are the factors, scaled to [0, 1]."""

    def __init__(self, sizes=(4, 3, 5, 4)):
        super().__init__("grid", (1, 2, 2), ("a", "b", "c", "d"), sizes)
        self.read = 0

    def _read(self, indices):
        self.read += len(indices)
        scaled = self.factors(indices) / (torch.tensor(self.factor_sizes) - 1).clamp(min=1)
        return scaled.float().reshape(-1, 1, 2, 2)


class System:
    """Codes that are the pixels; a decoder that dims them."""

    name, device, code_names = "pixels", torch.device("cpu"), ["p", "q", "r", "s"]
    factor_columns, needs_attributes = (), False

    def encode(self, images):
        return images.flatten(1)

    def decode(self, codes):
        return codes.reshape(-1, 1, 2, 2) * 0.5

    def code_masks(self, code):
        return None


@dataclass
class Run:
    dataset: object
    system: System = field(default_factory=System)
    plan: object = field(default_factory=lambda: SimpleNamespace(config=SimpleNamespace()))
    held_out: object = None


def attributed():
    """Bright and dark images, which have the first attribute and not; the second is noise."""
    rng = np.random.default_rng(0)
    attributes = rng.random((600, 2)) < 0.4
    images = rng.integers(0, 100, (600, 1, 2, 2)) + 150 * attributes[:, :1, None, None]
    data = ArrayDataset("faces", images.astype(np.uint8))
    data.attributes, data.attribute_names = torch.from_numpy(attributes), ("bright", "noise")
    return data
