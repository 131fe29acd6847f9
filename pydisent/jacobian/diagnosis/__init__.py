"""``doctor``: which of PyTorch's derivatives of a function's operations are right, and which not.

``doctor`` runs the function once and records its operations (``_recorder``, ``_operation``). A
``Probe`` compares every way in which PyTorch computes a derivative (``_routes``) with differences
of the operation's values (``_differences``). The same is done for the function as a whole
(``_model``), with the Jacobian engine (``_engine``), and inside ``correct_derivatives``.
"""

from pydisent.jacobian.diagnosis._probe import Verdict
from pydisent.jacobian.diagnosis._result import Diagnosis, Row
from pydisent.jacobian.diagnosis._run import catalogue, doctor

__all__ = ["Diagnosis", "Row", "Verdict", "catalogue", "doctor"]
