"""Metrics of disentanglement: against ground-truth factors, between models, and of images."""

from ._encode import encode_dataset
from ._result import MetricResult
from .attribute_classification import attribute_classification
from .dci import dci
from .factor_vae_score import factor_vae_score
from .irs import irs
from .mig import mig
from .modularity import modularity
from .reconstruction_error import reconstruction_error
from .sap import sap
from .udr import udr
from .z_diff import z_diff

__all__ = [
    "MetricResult",
    "attribute_classification",
    "dci",
    "encode_dataset",
    "factor_vae_score",
    "irs",
    "mig",
    "modularity",
    "reconstruction_error",
    "sap",
    "udr",
    "z_diff",
]
