"""Disentanglement metrics: against ground-truth factors, between models, and of images."""

from pydisent.metrics._classifier import Classifier, trained_classifier
from pydisent.metrics._encode import EncodedDataset, encode_dataset
from pydisent.metrics._result import MetricResult
from pydisent.metrics._samples import Samples, encode_once, sample_codes
from pydisent.metrics.accumulated_distance import accumulated_distance
from pydisent.metrics.attribute_classification import attribute_classification
from pydisent.metrics.attribute_flips import attribute_flips
from pydisent.metrics.class_swaps import class_swaps
from pydisent.metrics.dci import dci
from pydisent.metrics.dci_es import dci_es
from pydisent.metrics.factor_vae_score import factor_vae_score
from pydisent.metrics.fid import fid, frechet_distance
from pydisent.metrics.fixed_features import FixedFeatures
from pydisent.metrics.inception import InceptionFeatures
from pydisent.metrics.infomec import infomec
from pydisent.metrics.irs import irs
from pydisent.metrics.mask_overlap import mask_overlap
from pydisent.metrics.mcc import mcc
from pydisent.metrics.mig import mig
from pydisent.metrics.modularity import modularity
from pydisent.metrics.perceptual import FeatureNet, PerceptualDistance
from pydisent.metrics.perceptual_distance import perceptual_distance
from pydisent.metrics.ppl import ppl
from pydisent.metrics.reconstruction_error import reconstruction_error
from pydisent.metrics.sap import sap
from pydisent.metrics.tpl import tpl
from pydisent.metrics.udr import udr
from pydisent.metrics.vgg16 import Vgg16Distance
from pydisent.metrics.z_diff import z_diff

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
    "dci_es",
    "encode_dataset",
    "encode_once",
    "factor_vae_score",
    "fid",
    "frechet_distance",
    "infomec",
    "irs",
    "mask_overlap",
    "mcc",
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
