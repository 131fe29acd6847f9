"""Runs whose generator is known in closed form, without any training."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from pydisent.training import Plan


@dataclass(frozen=True)
class FakeConfig:
    k: int = 2
    iterations: int = 8
    penalty_weight: float = 0.5
    base: int = 64
    regularizer: str = "alignment"


class LinearSystem(nn.Module):
    """decode(z) = 1/2 + A z for a matrix A of n = C·H·W rows: J = A everywhere."""

    def __init__(self, matrix, image_shape, name="spectral-gan"):
        super().__init__()
        self.matrix = nn.Parameter(matrix)
        self.image_shape, self.name, self.config = image_shape, name, FakeConfig()
        self.code_names = [f"z{i + 1}" for i in range(matrix.shape[1])]
        self.device = torch.device("cpu")

    def decode(self, code):
        return (0.5 + code @ self.matrix.T).unflatten(-1, self.image_shape)

    def encode(self, x):
        return (x.flatten(1) - 0.5) @ torch.linalg.pinv(self.matrix).T

    def sample_code(self, n, generator=None):
        return torch.randn(n, self.matrix.shape[1], generator=generator)

    def code_masks(self, code):
        return None

    def phases(self, steps):
        return (("train", steps), ("encoder", 10))


class MaskedSystem(LinearSystem):
    """Code i acts on one cell of a 2 × 3 layout, with a mask whose maximum is (i + 1) / 32."""

    def code_masks(self, code):
        _, height, width = self.image_shape
        cells = torch.arange(6).reshape(2, 3).repeat_interleave(-(-height // 2), 0)
        cells = cells.repeat_interleave(-(-width // 3), 1)[:height, :width]
        masks = torch.stack([(cells == i % 6) * (i + 1) / 32 for i in range(code.shape[1])])
        return masks.expand(len(code), -1, -1, -1)


class FakeDataset:
    name = "squares"
    attributes = labels = None

    def __init__(self, image_shape):
        self.image_shape = image_shape

    def __len__(self):
        return 40

    def images(self, indices):
        generator = torch.Generator().manual_seed(1)
        return torch.rand(len(self), *self.image_shape, generator=generator)[indices]


@dataclass
class FakeRun:
    path: Path
    system: nn.Module
    dataset: object
    plan: Plan
    log: list = field(default_factory=list)
    scores: dict | None = None
    held_out: object = None
    step: int = 30
    environment: dict = field(
        default_factory=lambda: {"python": "3.11", "backends": {"cpu": {"active": True}}}
    )


def axis_matrix(n, scales):
    """A matrix (n, m) whose columns are orthogonal with these lengths: M = diag(scales²)."""
    basis, _ = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(3)))
    return basis[:, : len(scales)] * torch.tensor(scales)


def tpl_scores(*lengths, distance="a fixed net"):
    """Scores of a run with these lengths of traversals."""
    details = {"per_dimension": list(lengths), "distance": distance}
    return {"tpl": {"score": sum(lengths), "details": details}}


def fake_run(path, scales=(0.9, 0.6, 0.3, 0.1), image_shape=(1, 8, 8), matrix=None, **kwargs):
    n = image_shape[0] * image_shape[1] * image_shape[2]
    name = kwargs.pop("name", "spectral-gan")
    weight, k = kwargs.pop("penalty_weight", 0.5), kwargs.pop("k", 2)
    regularizer = kwargs.pop("regularizer", "alignment")
    kind = MaskedSystem if kwargs.pop("masks", False) else LinearSystem
    system = kind(axis_matrix(n, scales) if matrix is None else matrix, image_shape, name)
    plan = Plan(
        system=name,
        data="squares",
        data_path=None,
        image_size=image_shape[1],
        preset="smoke",
        seed=0,
        steps=20,
        config=FakeConfig(k=k, penalty_weight=weight, base=4, regularizer=regularizer),
        log_every=1,
        checkpoint_every=10,
        command=("pydisent", "train", name, "--out", "a folder"),
    )
    log = [
        {"step": s, "seconds": s / 4, "phase": "train", "generator": 1 / s, "alignment": -s / 20}
        for s in range(1, 21)
    ] + [{"step": 25, "seconds": 75.0, "phase": "encoder", "reconstruction": 0.1}]
    settings = {"log": log, "dataset": FakeDataset(image_shape)} | kwargs
    return FakeRun(path=path, system=system, plan=plan, **settings)
