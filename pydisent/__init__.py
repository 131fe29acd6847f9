"""Fast, correct losses, ops and full systems for learning disentangled representations."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydisent import _requirements, jacobian, losses, ops  # noqa: F401 (refuses an old torch first)
from pydisent._backends import backends
from pydisent.jacobian import (
    AlignmentPenalty,
    DerivativeError,
    Diagnosis,
    Linearization,
    alignment_penalty,
    correct_derivatives,
    directional_derivative,
    doctor,
    eigenvector_heatmap,
    gram_penalty,
    hessian_penalty,
    linearize,
    second_directional_derivative,
    trace_eigenpath,
)
from pydisent.losses import (
    beta_tc_decomposition,
    cross_covariance_penalty,
    dip_vae_penalty,
    gaussian_kl,
    information_lower_bound,
    jacobian_supervision,
    total_correlation,
)

if TYPE_CHECKING:
    from pydisent.training.pretrained import from_pretrained as from_pretrained
    from pydisent.zoo import load as load

__version__ = "0.1.0"

__all__ = [
    "AlignmentPenalty",
    "DerivativeError",
    "Diagnosis",
    "Linearization",
    "alignment_penalty",
    "backends",
    "beta_tc_decomposition",
    "correct_derivatives",
    "cross_covariance_penalty",
    "dip_vae_penalty",
    "directional_derivative",
    "doctor",
    "eigenvector_heatmap",
    "explain",
    "gaussian_kl",
    "gram_penalty",
    "hessian_penalty",
    "information_lower_bound",
    "jacobian",
    "jacobian_supervision",
    "linearize",
    "losses",
    "ops",
    "second_directional_derivative",
    "total_correlation",
    "trace_eigenpath",
]

# Imported on first use: these belong to higher layers and need optional packages.
_HOMES = {
    "explain": "pydisent.reports.explanation",
    "from_pretrained": "pydisent.training.pretrained",
    "load": "pydisent.zoo",
}
_PACKAGES = frozenset(
    "data evaluation explore integrations metrics nn reports reproduce sweeps systems training "
    "zoo".split()
)


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"pydisent.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
