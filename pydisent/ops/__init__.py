"""Fast ops, each with a pure-PyTorch reference, autograd, and compiled kernels if built."""

from sys import modules as _modules

from pydisent import _backends
from pydisent.ops.constriction import *
from pydisent.ops.covariance import *
from pydisent.ops.density import *
from pydisent.ops.doubling import *
from pydisent.ops.gates import *
from pydisent.ops.latent import *
from pydisent.ops.registry import REGISTRY as _REGISTRY
from pydisent.ops.spectral import *
from pydisent.ops.tangent import *

_FAMILIES = {_modules[f"{__name__}.{op.spec.family}"] for op in _REGISTRY.values()}
__all__ = sorted(name for family in _FAMILIES for name in family.__all__)

_backends.load_native()
