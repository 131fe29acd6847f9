"""The Jacobian engine: products with, penalties on and eigenvectors of a generator's Jacobian.

In reading order: ``linearize`` checks its arguments (``_arguments``) and traces the function
(``_trace``). Each torch call (``_call``) becomes a linear step (``_step``), by a rule (``rules``)
or, where only the autograd graph shows it, by reverse mode (``_hidden``). The steps make a program
(``_program``), from which a ``Linearization`` computes products. Functions of the Gram matrix
J'J have one way to their gradient (``_gram``, ``_directions``, ``_gradient``): ``gram`` and
``alignment``. ``path_length``, ``directional`` and ``eigen`` are built on a ``Linearization``, too.
Second derivatives (``taylor``, ``hessian``) are pushed with the first ones (``_taylor``), through
steps that know how they change with their inputs.
``decompositions`` replace what PyTorch differentiates wrongly; ``corrections`` lends them to other
code, and ``diagnosis`` finds out where they are needed.
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
