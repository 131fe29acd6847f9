"""Issues in PyTorch's tracker about operations whose derivatives are wrong."""

from __future__ import annotations

# Each reports what is measured here for the operation: a wrong or missing derivative.
REPORTS: dict[str, tuple[int, ...]] = {
    "layer_norm": (175754, 196700),
    "batch_norm": (186256, 196699),
    "instance_norm": (186256, 196699),  # which runs the kernels of batch norm
    "det": (192540, 196696),
    "slogdet": (192540, 196697),
    "logdet": (192540,),
    "solve": (192540, 196695),
    "householder_product": (196698,),
    "cholesky_solve": (196694,),
    "cholesky_inverse": (198017,),
    "logcumsumexp": (196705,),
    "logaddexp": (196704,),
    "scaled_dot_product_attention": (128971,),
}
_ALIASES = {"native_layer_norm": "layer_norm", "native_batch_norm": "batch_norm"}


def reports_of(name: str) -> tuple[str, ...]:
    """The issues about an operation, such as ``pytorch#175754``."""
    for prefix in ("linalg_", "linalg."):
        name = name.removeprefix(prefix)
    return tuple(f"pytorch#{n}" for n in REPORTS.get(_ALIASES.get(name, name), ()))
