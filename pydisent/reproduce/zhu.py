"""Zhu, Xu & Tao (2021): where and what? Perceptual simplicity and spatial constriction."""

from typing import Any

from pydisent.reproduce.claims import Claim, exceeds, falls_below, ranks_as
from pydisent.reproduce.correlations import rank_correlations
from pydisent.reproduce.entry import LOCATELLO, Case, Column, Entry, Figure, Row, Unavailable
from pydisent.reproduce.figures import masks, rotation, scatter, transfer, traversals

TITLE = "Zhu et al. (2021), PS-SC"

_TPL = Column("tpl", "TPL", "lower")
_ACTIVE = Column("tpl/active", "active dimensions", "", digits=1)
_PPL = Column("ppl", "PPL", "lower")
_FID = Column("fid", "FID", "lower", digits=3)
_FACTOR_VAE = Column("factor-vae/zhu", "FactorVAE score, %", scale=100)
_OVERLAP = Column("mask-overlap", "mask overlap", "lower")
_DCI = Column("dci", "DCI", digits=3)
_BVM = Column("z-diff", "BVM (z-diff)", digits=3)
_FVM = Column("factor-vae", "FactorVAE (disentanglement_lib)", digits=3)
_MIG = Column("mig", "MIG", digits=3)
_SCORES = (_TPL, _ACTIVE, _PPL, _FID)

_PLAIN = {"ps_weight": 0.0, "spatial_constriction": False}
_ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "infogan": ("InfoGAN", _PLAIN),
    "ps": ("+ PS loss", {"spatial_constriction": False}),
    "sc": ("+ SC module", {"ps_weight": 0.0}),
    "both": ("+ both", {}),
}
_TINY = {"latent_size": 4}


def _lowers(text: str, first: str, second: str) -> Claim:
    return falls_below(text, first, second, _TPL.key)


_MODULES = (
    _lowers("PS lowers the TPL", "ps", "infogan"),
    _lowers("SC lowers the TPL", "sc", "infogan"),
    _lowers("PS and SC lower the TPL more than PS alone", "both", "ps"),
    _lowers("PS and SC lower the TPL more than SC alone", "both", "sc"),
)


def _arms(figures: dict[str, tuple[float, float, float]]) -> tuple[Row, ...]:
    """Return the rows of Table 3."""
    return tuple(
        Row(name, title, "ps-sc", settings,
            published=dict(zip(("tpl", "ppl", "fid"), figures.get(name, ()))))
        for name, (title, settings) in _ARMS.items()
    )  # fmt: skip


def _ablation(figures: dict[str, tuple[float, float, float]]) -> tuple[Row, ...]:
    """Return the rows of Table 4; at scale "small" λ is ten times as large, as in the preset."""
    weights = {"0.001": 0.001, "0.01": 0.01, "0.1": 0.1}
    rows = [
        Row(f"lambda-{name}", f"λ = {name}", "ps-sc", {"ps_weight": weight},
            {"ps_weight": 10 * weight}, dict(zip(("tpl", "ppl", "fid"), figures[name])))
        for name, weight in weights.items()
    ]  # fmt: skip
    softmax = dict(zip(("tpl", "ppl", "fid"), figures["softmax"]))
    return (Row("softmax", "softmax masks", "ps-sc", {"mask": "softmax"}, published=softmax), *rows)


def _models() -> tuple[Row, ...]:
    """Return the six models of Locatello et al. (2019), with six weights each."""
    grids = {
        "beta-vae": ("beta", (1, 2, 4, 6, 8, 16)),
        "annealed-vae": ("capacity", (5, 10, 25, 50, 75, 100)),
        "factor-vae": ("gamma", (10, 20, 30, 40, 50, 100)),
        "dip-vae-1": ("lambda_od", (1, 2, 5, 10, 20, 50)),
        "dip-vae-2": ("lambda_od", (1, 2, 5, 10, 20, 50)),
        "beta-tcvae": ("beta", (1, 2, 4, 6, 8, 10)),
    }
    return tuple(
        Row(
            f"{system}-{value}",
            f"{system}, {setting} {value}",
            system,
            {setting: float(value)},
            paper={**LOCATELLO, **({"lambda_3": 0.0} if system == "dip-vae-2" else {})},
        )
        for system, (setting, values) in grids.items()
        for value in values
    )


ENTRIES = (
    Entry(
        "zhu/table1",
        "TPL against supervised scores, over many VAEs",
        "TPL ranks models as supervised scores do, once models that encode little are left out.",
        (
            Case(
                "dsprites",
                _models(),
                (_TPL, _ACTIVE, _BVM, _DCI, _FVM, _MIG),
                threshold=0.01,
                smoke=_TINY,
                claims=tuple(
                    ranks_as(f"TPL ranks models as {name} does (more than 4 active dimensions)",
                             _TPL.key, key, sign=-1, where=(_ACTIVE.key, 4))
                    for key, name in (("dci", "DCI"), ("mig", "MIG"),
                                      ("factor-vae", "the FactorVAE score"), ("z-diff", "BVM"))
                ),
                small_rows=tuple(row.name for row in _models() if row.name.endswith(("-2", "-10"))
                                 or row.name in ("beta-vae-8", "annealed-vae-25", "annealed-vae-75",
                                                 "factor-vae-30", "dip-vae-1-50", "dip-vae-2-50",
                                                 "beta-tcvae-6")),
                figures=(Figure("DCI against TPL (Fig. 4)", scatter(_TPL, _DCI)),),
                summary=rank_correlations,
                summary_published={
                    "TPL (act > 0)": {"z-diff": 0.15, "dci": 0.44, "factor-vae": 0.21, "mig": 0.49},
                    "TPL (act > 4)": {"z-diff": 0.45, "dci": 0.72, "factor-vae": 0.60, "mig": 0.66},
                    "FVM": {"z-diff": 0.82, "dci": 0.77, "factor-vae": 1.00, "mig": 0.72},
                },
            ),
        ),
        seeds=50,
        differences=("16 settings instead of 36, trained anew, with weights as published",),
    ),
    Entry(
        "zhu/table3",
        "The two modules apart and together",
        "PS and SC each lower TPL, and most together.",
        (
            Case(
                "celeba",
                _arms({"infogan": (10.9, 43.6, 6.0), "ps": (8.5, 34.3, 6.2),
                       "sc": (9.9, 44.1, 5.9), "both": (8.1, 38.9, 6.0)}),
                (*_SCORES, _OVERLAP),
                threshold=0.3,
                claims=_MODULES,
                figures=(Figure("Codes with each one's mask", masks, ("both",)),),
            ),
            Case(
                "ffhq",
                _arms({"infogan": (33.4, 142.7, 11.0), "ps": (30.7, 139.6, 13.8),
                       "sc": (20.4, 136.5, 16.4), "both": (18.7, 120.1, 13.5)}),
                (*_SCORES, _OVERLAP),
                threshold=0.5,
            ),
            Case(
                "3dshapes",
                _arms({}),
                (*_SCORES, _OVERLAP, _FACTOR_VAE, _FVM),
                claims=(
                    *_MODULES,
                    exceeds("PS and SC raise the FactorVAE score, %", "both", "infogan",
                            _FACTOR_VAE.key, scale=100, digits=1),
                ),
                figures=(Figure("Codes with each one's mask", masks, ("both",)),),
            ),
        ),
        differences=("TPL, PPL and FID by the built-in features, not VGG16 and Inception",),
        remarks=("3D Shapes is not in the paper's table",),
    ),
    Entry(
        "zhu/table4",
        "Softmax masks, and the weight λ of PS",
        "Band masks disentangle better than softmax masks; λ = 0.01 is a good choice.",
        (
            Case(
                "celeba",
                _ablation({"softmax": (14.8, 49.3, 18.4), "0.001": (10.2, 47.5, 5.3),
                           "0.01": (8.1, 38.9, 6.0), "0.1": (9.1, 42.0, 7.2)}),
                _SCORES,
                threshold=0.3,
                claims=(
                    _lowers("Band masks have a lower TPL than softmax", "lambda-0.01", "softmax"),
                    _lowers("λ = 0.01 has a lower TPL than 0.001", "lambda-0.01", "lambda-0.001"),
                    _lowers("λ = 0.01 has a lower TPL than 0.1", "lambda-0.01", "lambda-0.1"),
                ),
                figures=(Figure("Softmax masks (Fig. 8)", masks, ("softmax",)),),
            ),
            Case(
                "ffhq",
                _ablation({"softmax": (28.3, 145.4, 57.1), "0.001": (20.3, 135.4, 23.7),
                           "0.01": (18.7, 120.1, 13.5), "0.1": (20.0, 123.2, 16.0)}),
                _SCORES,
                threshold=0.5,
            ),
        ),
        differences=("TPL, PPL and FID by the built-in features, not VGG16 and Inception",
                     "ten times each λ"),
    ),
    Entry(
        "zhu/table5",
        "FactorVAE scores on dSprites and 3D Shapes",
        "PS-SC scores above the other GANs on 3D Shapes; on dSprites without SC.",
        (
            Case(
                "dsprites",
                (
                    Row("ours", "PS-SC, without SC", "ps-sc", {"spatial_constriction": False},
                        published={"factor-vae/zhu": (83.54, 6.91)}),
                    Row("sc", "with SC", "ps-sc", {"spatial_constriction": True},
                        published={"factor-vae/zhu": (81.47, 5.39)}),
                    Row("ib-gan", "IB-GAN", "ib-gan", published={"factor-vae/zhu": (80.0, 7.0)}),
                    Row("infogan", "InfoGAN", "infogan",
                        published={"factor-vae/zhu": (65.41, 7.03)}),
                    Row("factor-vae", "FactorVAE", "factor-vae",
                        published={"factor-vae/zhu": (82.15, 0.88)}),
                    Row("beta-vae", "β-VAE", "beta-vae", paper=LOCATELLO,
                        published={"factor-vae/zhu": (74.41, 7.68)}),
                    Row("vae", "VAE", "vae", paper=LOCATELLO,
                        published={"factor-vae/zhu": (63.0, 6.0)}),
                ),
                (_FACTOR_VAE, _TPL),
                claims=(
                    exceeds("PS-SC scores above InfoGAN, %", "ours", "infogan", _FACTOR_VAE.key,
                            scale=100, digits=1),
                ),
            ),
            Case(
                "3dshapes",
                (
                    Row("ours", "PS-SC", "ps-sc", published={"factor-vae/zhu": (92.04, 6.49)}),
                    Row("infogan", "InfoGAN", "ps-sc", _PLAIN,
                        published={"factor-vae/zhu": (83.65, 9.49)}),
                    Row("factor-vae", "FactorVAE", "factor-vae",
                        published={"factor-vae/zhu": 89.0}),
                    Row("beta-vae", "β-VAE", "beta-vae", paper=LOCATELLO,
                        published={"factor-vae/zhu": 91.0}),
                ),
                (_FACTOR_VAE, _TPL),
                claims=(
                    exceeds("PS-SC scores above InfoGAN, %", "ours", "infogan", _FACTOR_VAE.key,
                            scale=100, digits=1),
                ),
                figures=(Figure("Codes with each one's mask (Fig. 7 c)", masks, ("ours",)),),
            ),
        ),
        seeds=10,
    ),
    Entry(
        "zhu/figure3",
        "The accumulated perceptual distance under rotation",
        "The distance is least where two codes each do one simple thing.",
        (
            Case(
                "3dshapes",
                (Row("ours", "PS-SC", "ps-sc"),),
                figures=(Figure("Distance against the angle (Fig. 3 d)", rotation),),
            ),
        ),
    ),
    Entry(
        "zhu/figure7",
        "Traversals with their masks",
        "Masks show where a code acts.",
        (
            Case("ffhq", (Row("ours", "PS-SC", "ps-sc"),),
                 figures=(Figure("Codes, the longest first, with masks", masks),)),
            Case("celeba", (Row("both", "PS-SC", "ps-sc"),),
                 figures=(Figure("Codes, the longest first, with masks", masks),)),
            Case("3dshapes", (Row("ours", "PS-SC", "ps-sc"),),
                 figures=(Figure("Codes, the longest first, with masks", masks),)),
        ),
    ),
    Entry(
        "zhu/figure9",
        "Traversals on CelebA",
        "PS-SC's semantics are cleaner than those of InfoGAN-CR and VPGAN.",
        (
            Case("celeba", (Row("both", "PS-SC", "ps-sc"),),
                 figures=(Figure("Codes, the longest first", traversals(sort="tpl")),)),
        ),
    ),
    Entry(
        "zhu/figure10",
        "Attributes copied between images",
        "Codes copied from one image to another carry one attribute.",
        (
            Case("ffhq", (Row("ours", "PS-SC", "ps-sc"),),
                 figures=(Figure("Codes copied between images", transfer),)),
            Case("celeba", (Row("both", "PS-SC", "ps-sc"),),
                 figures=(Figure("Codes copied between images", transfer),)),
        ),
    ),
)  # fmt: skip

UNAVAILABLE = (
    Unavailable("zhu/table1", "1,800 checkpoints of Locatello et al.; UDR on TC-VAE",
                "a third party's weights: VAEs are trained anew in their place"),
    Unavailable("zhu/table2", "PPL and FID on Shoes+Edges and CLEVR",
                "baselines of the Hessian penalty's authors"),
    Unavailable("zhu/table5", "CascadeVAE, InfoGAN-CR, PS-SC + TPL over 30 seeds",
                "third parties' models; for the last, train and `pydisent select`"),
    Unavailable("zhu/figure9", "InfoGAN-CR and VPGAN", "third parties' models"),
)  # fmt: skip
