"""Scores of codes against ground-truth factors."""

from typing import Any, Literal

from pydisent.evaluation.registry import FACTORS, metric
from pydisent.evaluation.subject import Subject
from pydisent.metrics import (
    MetricResult,
    dci,
    factor_vae_score,
    irs,
    mig,
    modularity,
    sap,
    z_diff,
)


@metric("z-diff", needs=FACTORS)
def score_z_diff(subject: Subject) -> MetricResult:
    """Return the score of Higgins et al."""
    result = z_diff(subject.codes.encode, subject.codes, seed=subject.seed)
    return result.with_details(subject.observed)


@metric("factor-vae", needs=FACTORS, label="FactorVAE score")
def score_factor_vae(subject: Subject) -> MetricResult:
    """Return disentanglement_lib's score; those of Zhu et al. and Jeon et al. are details."""

    def scored(variant: Literal["locatello", "zhu", "jeon"]) -> MetricResult:
        encode = subject.codes.encode
        return factor_vae_score(encode, subject.codes, variant=variant, seed=subject.seed)

    variants: tuple[Literal["zhu", "jeon"], ...] = ("zhu", "jeon")
    others: dict[str, Any] = {name: scored(name).score for name in variants}
    return scored("locatello").with_details(subject.axes | others)


@metric("sap", needs=FACTORS, label="SAP")
def score_sap(subject: Subject) -> MetricResult:
    """Return the score of Kumar et al.; the two of disentanglement_lib are details."""
    variants: tuple[Literal["svm", "continuous"], ...] = ("svm", "continuous")
    others = {name: sap(*subject.samples, variant=name).score for name in variants}
    return sap(*subject.samples).with_details(subject.axes | others)


@metric("mig", needs=FACTORS, label="MIG")
def score_mig(subject: Subject) -> MetricResult:
    """Return the mutual information gap."""
    return mig(*subject.samples[:2]).with_details(subject.axes)


@metric("dci", needs=FACTORS, label="DCI disentanglement")
def score_dci(subject: Subject) -> MetricResult:
    """Return disentanglement; completeness and informativeness are details."""
    return dci(*subject.samples, seed=subject.seed).with_details(subject.axes)


@metric("modularity", needs=FACTORS, label="Modularity")
def score_modularity(subject: Subject) -> MetricResult:
    """Return the modularity of codes."""
    return modularity(*subject.samples[:2]).with_details(subject.axes)


@metric("irs", needs=FACTORS, label="IRS")
def score_irs(subject: Subject) -> MetricResult:
    """Return the interventional robustness score."""
    return irs(*subject.samples[:2]).with_details(subject.axes)
