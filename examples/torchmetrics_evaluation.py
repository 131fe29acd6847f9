"""Disentanglement scores as torchmetrics metrics, batch by batch (`pip install torchmetrics`).

python examples/torchmetrics_evaluation.py
"""

import argparse

import torch
from torch import nn
from torchmetrics import MetricCollection

from pydisent import data
from pydisent.metrics.torchmetrics import MCC, MIG, Modularity

parser = argparse.ArgumentParser()
parser.add_argument("--batches", type=int, default=20)
count = parser.parse_args().batches

torch.manual_seed(0)
sprites = data.load("sprites", image_size=32)
batches = torch.utils.data.DataLoader(sprites, batch_size=256, shuffle=True)
encoder = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(16, 6)).eval()

# Under DDP each process updates with its own batches, and `compute` gathers all of them.
scores = MetricCollection({"mig": MIG(), "modularity": Modularity(), "mcc": MCC()})
with torch.no_grad():
    for _, (images, factors) in zip(range(count), batches):
        scores.update(encoder(images), factors)
print({name: round(value.item(), 3) for name, value in scores.compute().items()})
