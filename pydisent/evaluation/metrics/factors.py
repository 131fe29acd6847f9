"""Scores of codes against ground-truth factors."""

from typing import Any, Literal

from pydisent.data import ObservedFactorDataset
from pydisent.evaluation.registry import (
    FACTORS,
    TWO_FACTORS,
    TWO_FACTORS_AND_CODES,
    Measure,
    metric,
)
from pydisent.evaluation.subject import Subject
from pydisent.metrics import (
    MetricResult,
    dci,
    dci_es,
    factor_vae_score,
    infomec,
    irs,
    mcc,
    mig,
    modularity,
    sap,
    z_diff,
)

# Names of grid factors whose values are classes; all others are quantities.
CLASSES = ("shape", "color", "model")


@metric("z-diff", needs=TWO_FACTORS)
def score_z_diff(subject: Subject) -> MetricResult:
    """Return the score of Higgins et al."""
    return _z_diff_by("higgins")(subject)


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
    """Return SAP by thresholds on all factors; disentanglement_lib's two are details."""
    variants: tuple[Literal["svm", "continuous"], ...] = ("svm", "continuous")
    others = {name: sap(*subject.samples, variant=name).score for name in variants}
    return sap(*subject.samples).with_details(subject.axes | others)


@metric("mig", needs=FACTORS, label="MIG")
def score_mig(subject: Subject) -> MetricResult:
    """Return the mutual information gap."""
    return mig(*subject.samples[:2]).with_details(subject.axes)


@metric("dci", needs=TWO_FACTORS_AND_CODES, label="DCI disentanglement")
def score_dci(subject: Subject) -> MetricResult:
    """Return disentanglement; completeness and informativeness are details."""
    return dci(*subject.samples, seed=subject.seed).with_details(subject.axes)


@metric("modularity", needs=TWO_FACTORS, label="Modularity")
def score_modularity(subject: Subject) -> MetricResult:
    """Return the modularity of codes."""
    return modularity(*subject.samples[:2]).with_details(subject.axes)


@metric("irs", needs=FACTORS, label="IRS")
def score_irs(subject: Subject) -> MetricResult:
    """Return the interventional robustness score."""
    return irs(*subject.samples[:2]).with_details(subject.axes)


@metric("mcc", needs=FACTORS, label="MCC")
def score_mcc(subject: Subject) -> MetricResult:
    """Return the mean correlation coefficient; rank correlation is a detail."""
    ranks = mcc(*subject.samples[:2], correlation="spearman").score
    return mcc(*subject.samples[:2]).with_details(subject.axes | {"spearman": ranks})


@metric("infomec", needs=TWO_FACTORS, label="InfoMEC modularity", by_default=False)
def score_infomec(subject: Subject) -> MetricResult:
    """Return InfoM; InfoE and InfoC are details."""
    return infomec(*subject.samples[:2], seed=subject.seed).with_details(subject.axes)


@metric(
    "dci-es", needs=TWO_FACTORS_AND_CODES, label="DCI-ES explicitness", slow=True, by_default=False
)
def score_dci_es(subject: Subject) -> MetricResult:
    """Return explicitness by random forests; size, and their D, C and I, are details."""
    quantities, names = _quantities(subject)
    result = dci_es(*subject.samples, continuous=quantities, seed=subject.seed)
    return result.with_details(subject.axes | {"quantities": names})


@metric("sap-kumar", needs=FACTORS, label="SAP by Kumar et al.", by_default=False)
def score_sap_kumar(subject: Subject) -> MetricResult:
    """Return SAP as published: R² for quantities, thresholds for classes (Kumar et al., sec. 3)."""
    quantities, names = _quantities(subject)
    result = sap(*subject.samples, continuous=quantities)
    return result.with_details(subject.axes | {"variant": "kumar", "quantities": names})


def _quantities(subject: Subject) -> tuple[list[int], list[str]]:
    """Return the columns of quantitative factors, and their names."""
    names, source = subject.codes.factor_names, subject.codes.source
    classes = source.factor_classes if isinstance(source, ObservedFactorDataset) else CLASSES
    quantities = [column for column, name in enumerate(names) if name not in classes]
    return quantities, [names[column] for column in quantities]


def _add_variants() -> None:
    """Register the variants of SAP and z-diff that are measured only on request."""
    for variant, words in (
        ("svm", "SAP of disentanglement_lib, linear SVM"),
        ("continuous", "SAP of disentanglement_lib, squared correlation"),
    ):
        metric(f"sap-{variant}", needs=FACTORS, label=words, by_default=False)(_sap_by(variant))
    for variant, words in (
        ("kumar", "z-diff of Kumar et al., SVM on the hinge loss"),
        ("kumar-squared-hinge", "z-diff, SVM on the squared hinge loss"),
        ("ramesh", "z-diff of Ramesh et al."),
    ):
        scored = _z_diff_by(variant)
        metric(f"z-diff-{variant}", needs=TWO_FACTORS, label=words, by_default=False)(scored)


def _sap_by(variant: Any) -> Measure:
    def score(subject: Subject) -> MetricResult:
        return sap(*subject.samples, variant=variant).with_details(subject.axes)

    return score


def _z_diff_by(variant: Any) -> Measure:
    def score(subject: Subject) -> MetricResult:
        codes = subject.codes
        result = z_diff(codes.encode, codes, variant=variant, seed=subject.seed)
        return result.with_details({"split": subject.images_of()[1]} | subject.observed)

    return score


_add_variants()
