"""Metrics of disentanglement against ground-truth factors, on any encoder."""

from ._encode import encode_dataset
from ._result import MetricResult
from .factor_vae_score import factor_vae_score
from .z_diff import z_diff

__all__ = ["MetricResult", "encode_dataset", "factor_vae_score", "z_diff"]
