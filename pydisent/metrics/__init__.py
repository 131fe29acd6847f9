"""Metrics of disentanglement: against ground-truth factors, between models, and of images."""

from ._classifier import Classifier, trained_classifier
from ._encode import EncodedDataset, encode_dataset
from ._perceptual import FeatureNet, PerceptualDistance
from ._result import MetricResult
from ._samples import Samples, encode_once, sample_codes
from .accumulated_distance import accumulated_distance
from .attribute_classification import attribute_classification
from .attribute_flips import attribute_flips
from .class_swaps import class_swaps
from .dci import dci
from .factor_vae_score import factor_vae_score
from .fid import fid, frechet_distance
from .fixed_features import FixedFeatures
from .inception import InceptionFeatures
from .irs import irs
from .mask_overlap import mask_overlap
from .mig import mig
from .modularity import modularity
from .perceptual_distance import perceptual_distance
from .ppl import ppl
from .reconstruction_error import reconstruction_error
from .sap import sap
from .tpl import tpl
from .udr import udr
from .vgg16 import Vgg16Distance
from .z_diff import z_diff

__all__ = [
    "Classifier",
    "EncodedDataset",
    "FeatureNet",
    "FixedFeatures",
    "InceptionFeatures",
    "MetricResult",
    "PerceptualDistance",
    "Samples",
    "Vgg16Distance",
    "accumulated_distance",
    "attribute_classification",
    "attribute_flips",
    "class_swaps",
    "dci",
    "encode_dataset",
    "encode_once",
    "factor_vae_score",
    "fid",
    "frechet_distance",
    "irs",
    "mask_overlap",
    "mig",
    "modularity",
    "perceptual_distance",
    "ppl",
    "reconstruction_error",
    "sample_codes",
    "sap",
    "tpl",
    "trained_classifier",
    "udr",
    "z_diff",
]
