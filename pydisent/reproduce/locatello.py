"""Locatello et al. (2019): challenging common assumptions, a comparison of VAEs."""

from typing import Any

from pydisent.reproduce.claims import ranks_as
from pydisent.reproduce.entry import LOCATELLO, Case, Column, Entry, Figure, Row, Unavailable
from pydisent.reproduce.figures import scatter, traversals

TITLE = "Locatello et al. (2019), challenging common assumptions"

_MIG = Column("mig", "MIG", digits=3)
_DCI = Column("dci", "DCI", digits=3)
_FACTOR_VAE = Column("factor-vae", "FactorVAE score", digits=3)
_SAP = Column("sap-svm", "SAP", digits=3)
_MODULARITY = Column("modularity", "modularity", digits=3)
_Z_DIFF = Column("z-diff", "β-VAE score", digits=3)
_SCORES = (_MIG, _DCI, _FACTOR_VAE, _SAP, _MODULARITY, _Z_DIFF)

_TITLES = {
    "vae": "VAE",
    "beta-vae": "β-VAE",
    "annealed-vae": "AnnealedVAE",
    "factor-vae": "FactorVAE",
    "beta-tcvae": "β-TCVAE",
    "dip-vae-1": "DIP-VAE-I",
    "dip-vae-2": "DIP-VAE-II",
}
# Weights from the study (disentanglement_lib's `unsupervised_study_v1`), one of six per method.
_THEIRS: dict[str, dict[str, Any]] = {
    "beta-vae": {"beta": 4.0},
    "annealed-vae": {"capacity": 25.0},
    "factor-vae": {"gamma": 30.0, "permuted_batch": "same"},
    "beta-tcvae": {"beta": 6.0},
    "dip-vae-1": {"lambda_od": 10.0},
    "dip-vae-2": {"lambda_od": 10.0, "lambda_3": 0.0},
}


def _case(data: str) -> Case:
    return Case(
        data,
        tuple(
            Row(system, title, system, paper={**LOCATELLO, **_THEIRS.get(system, {})})
            for system, title in _TITLES.items()
        ),
        _SCORES,
        smoke={"latent_size": 4},
        claims=(
            ranks_as("DCI ranks models as MIG does", _DCI.key, _MIG.key),
            ranks_as("The FactorVAE score ranks models as the β-VAE score does", _FACTOR_VAE.key,
                     _Z_DIFF.key),
            ranks_as("SAP ranks models as MIG does", _SAP.key, _MIG.key),
        ),
        figures=(
            Figure("DCI against MIG", scatter(_MIG, _DCI)),
            Figure("Codes of β-TCVAE", traversals(), ("beta-tcvae",)),
        ),
    )  # fmt: skip


ENTRIES = (
    Entry(
        "locatello/comparison",
        "Seven VAEs by six scores of disentanglement",
        "Scores agree to a degree, and no method is ahead by all: seeds and weights matter more.",
        (_case("dsprites"), _case("3dshapes")),
        seeds=50,
        remarks=(
            "one weight a method, of the study's six; the study's VAE is its β-VAE with β = 1",
            "scores as disentanglement_lib defines them",
        ),
    ),
)

UNAVAILABLE = (
    Unavailable("locatello/comparison", "Published scores",
                "the paper has them as figures, and disentanglement_lib's documentation and "
                "configuration hold no table of them"),
)  # fmt: skip
