"""Functions whose higher derivatives PyTorch gets wrong or lacks, composed of others.

Every function here takes the arguments of the native one, returns the same values up to rounding,
and is composed of operations whose derivatives of every order are right: ``tests/jacobian/
test_torch_probes.py`` measures both against central differences. The gradient of ‖J q‖² through the
native layer norm, instance norm, determinant, linear solve or weight norm is silently wrong in at
least one mode of differentiation; through the others it raises. (Recurrent cells are right; they
are decomposed because it is faster to push tangents through their parts.) Running statistics are
read but not written; modes such as `DecomposedFunctions` may update them.
"""

from pydisent.jacobian.decompositions._registry import DECOMPOSITIONS, traced, widen
from pydisent.jacobian.decompositions.attention import (
    multi_head_attention_forward,
    safe_softmax,
    scaled_dot_product_attention,
)
from pydisent.jacobian.decompositions.determinants import det, logdet, slogdet
from pydisent.jacobian.decompositions.distances import cdist, cosine_similarity, pdist
from pydisent.jacobian.decompositions.elementary import (
    absolute,
    as_strided_scatter,
    floor_divide,
    heaviside,
    linspace,
    logaddexp,
    logcumsumexp,
    normal,
    polar,
    select_scatter,
    sinc,
)
from pydisent.jacobian.decompositions.layers import (
    conv_tbc,
    glu,
    gru_cell,
    hardsigmoid,
    lstm_cell,
    rrelu,
)
from pydisent.jacobian.decompositions.losses import (
    linear_cross_entropy,
    multi_margin_loss,
    multilabel_margin_loss,
    poisson_nll_loss,
)
from pydisent.jacobian.decompositions.modes import (
    NATIVE_WRONG,
    CorrectedFunctions,
    DecomposedFunctions,
    RefuseWrongDerivatives,
)
from pydisent.jacobian.decompositions.norms import (
    KEEP_STATISTICS,
    batch_norm,
    batch_norm_legit,
    batch_norm_with_update,
    group_norm,
    instance_norm,
    layer_norm,
    native_batch_norm,
    native_layer_norm,
    rms_norm,
    weight_norm,
)
from pydisent.jacobian.decompositions.products import cumprod, prod
from pydisent.jacobian.decompositions.sampling import grid_sample
from pydisent.jacobian.decompositions.solves import (
    OF_SYMMETRIC_MATRICES,
    cholesky,
    cholesky_ex,
    cholesky_inverse,
    cholesky_solve,
    eigh,
    eigvalsh,
    householder_product,
    old_cholesky,
    pinv,
    pinverse,
    solve,
    solve_ex,
    tensorsolve,
)

__all__ = [
    "DECOMPOSITIONS",
    "KEEP_STATISTICS",
    "NATIVE_WRONG",
    "OF_SYMMETRIC_MATRICES",
    "CorrectedFunctions",
    "DecomposedFunctions",
    "RefuseWrongDerivatives",
    "absolute",
    "as_strided_scatter",
    "batch_norm",
    "batch_norm_legit",
    "batch_norm_with_update",
    "cdist",
    "cholesky",
    "cholesky_ex",
    "cholesky_inverse",
    "cholesky_solve",
    "conv_tbc",
    "cosine_similarity",
    "cumprod",
    "det",
    "eigh",
    "eigvalsh",
    "floor_divide",
    "glu",
    "grid_sample",
    "group_norm",
    "gru_cell",
    "hardsigmoid",
    "heaviside",
    "householder_product",
    "instance_norm",
    "layer_norm",
    "linear_cross_entropy",
    "linspace",
    "logaddexp",
    "logcumsumexp",
    "logdet",
    "lstm_cell",
    "multi_head_attention_forward",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "native_batch_norm",
    "native_layer_norm",
    "normal",
    "old_cholesky",
    "pdist",
    "pinv",
    "pinverse",
    "poisson_nll_loss",
    "polar",
    "prod",
    "rms_norm",
    "rrelu",
    "safe_softmax",
    "scaled_dot_product_attention",
    "select_scatter",
    "sinc",
    "slogdet",
    "solve",
    "solve_ex",
    "tensorsolve",
    "traced",
    "weight_norm",
    "widen",
]
