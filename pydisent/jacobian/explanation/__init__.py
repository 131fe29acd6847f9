"""What a generator does, as directions of its codes: the computation behind `pydisent.explain`.

In reading order: ``_generator`` gives any source of images one interface; ``_leading`` finds the
leading eigenvectors of M = J'J from products with it; ``_points`` does so at each code and for all
codes together, ``_regions`` for parts of the image; ``_pictures`` and ``_paths`` decode along them.
``_work`` holds their shared state, ``_budget`` their limits on time and memory, and ``_analysis``
calls them one after another.
"""

from pydisent.jacobian._arguments import Coupled
from pydisent.jacobian.explanation._analysis import Analysis, Directions, analyse
from pydisent.jacobian.explanation._arguments import Method
from pydisent.jacobian.explanation._budget import Report
from pydisent.jacobian.explanation._paths import Eigenpaths
from pydisent.jacobian.explanation._pictures import Pictures
from pydisent.jacobian.explanation._regions import Region

__all__ = [
    "Analysis",
    "Coupled",
    "Directions",
    "Eigenpaths",
    "Method",
    "Pictures",
    "Region",
    "Report",
    "analyse",
]
