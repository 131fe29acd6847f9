"""The Jacobian engine: products with, penalties on and eigenvectors of a generator's Jacobian.

In reading order: ``linearize`` checks its arguments (``_arguments``) and traces the function
(``_trace``). Each torch call (``_call``) becomes a linear step (``_step``), by a rule (``rules``)
or, if it is visible only in the autograd graph, by reverse mode (``_hidden``). The steps form a
program (``_program``), from which a ``Linearization`` computes products. Functions of the Gram
matrix J'J (``gram``, ``alignment``) share the computation of their gradient (``_gram``,
``_directions``, ``_gradient``). ``path_length``, ``directional`` and ``eigen`` also build on a
``Linearization``. Second derivatives (``taylor``, ``hessian``) are pushed together with first ones
(``_taylor``), through steps that have their own second derivatives.
``decompositions`` replace operations that PyTorch differentiates wrongly; ``corrections`` makes
them available to other code, and ``diagnosis`` finds out where they are needed.
"""

from pydisent.jacobian._call import DerivativeError
from pydisent.jacobian.alignment import AlignmentPenalty, alignment_penalty
from pydisent.jacobian.corrections import correct_derivatives
from pydisent.jacobian.diagnosis import Diagnosis, doctor
from pydisent.jacobian.directional import directional_derivative
from pydisent.jacobian.eigen import eigenvector_heatmap, eigenvectors, trace_eigenpath
from pydisent.jacobian.gram import gram_penalty
from pydisent.jacobian.hessian import HessianPenalty, hessian_penalty
from pydisent.jacobian.linearization import Linearization, linearize
from pydisent.jacobian.path_length import PathLengthPenalty, path_length_penalty
from pydisent.jacobian.taylor import second_directional_derivative

__all__ = [
    "AlignmentPenalty",
    "DerivativeError",
    "Diagnosis",
    "HessianPenalty",
    "Linearization",
    "PathLengthPenalty",
    "alignment_penalty",
    "correct_derivatives",
    "directional_derivative",
    "doctor",
    "eigenvector_heatmap",
    "eigenvectors",
    "gram_penalty",
    "hessian_penalty",
    "linearize",
    "path_length_penalty",
    "second_directional_derivative",
    "trace_eigenpath",
]
