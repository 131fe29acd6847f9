"""Figures and reports of runs; drawing needs the `report` extra."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydisent._moved import alias_modules

if TYPE_CHECKING:
    from pydisent.evaluation.alignment import alignment_summary
    from pydisent.evaluation.comparison import compare
    from pydisent.reports.comparison import write_comparison
    from pydisent.reports.eigenpaths import write_eigenpaths
    from pydisent.reports.explanation import Explanation, explain
    from pydisent.reports.masks import write_masks
    from pydisent.reports.matrices import write_matrices
    from pydisent.reports.page import write_report
    from pydisent.reports.pictures import write_local_svd
    from pydisent.reports.rotation import write_rotation
    from pydisent.reports.transfer import write_transfer
    from pydisent.reports.traversal import Traversal, traverse
    from pydisent.reports.traversals import write_traversals

__all__ = [
    "Explanation",
    "Traversal",
    "alignment_summary",
    "compare",
    "explain",
    "traverse",
    "write_comparison",
    "write_eigenpaths",
    "write_local_svd",
    "write_masks",
    "write_matrices",
    "write_report",
    "write_rotation",
    "write_transfer",
    "write_traversals",
]

# Imported on first use, so that each figure needs only its own dependencies.
_HOMES = {
    "Explanation": "pydisent.reports.explanation",
    "Traversal": "pydisent.reports.traversal",
    "alignment_summary": "pydisent.evaluation.alignment",
    "compare": "pydisent.evaluation.comparison",
    "explain": "pydisent.reports.explanation",
    "traverse": "pydisent.reports.traversal",
    "write_comparison": "pydisent.reports.comparison",
    "write_eigenpaths": "pydisent.reports.eigenpaths",
    "write_local_svd": "pydisent.reports.pictures",
    "write_masks": "pydisent.reports.masks",
    "write_matrices": "pydisent.reports.matrices",
    "write_report": "pydisent.reports.page",
    "write_rotation": "pydisent.reports.rotation",
    "write_transfer": "pydisent.reports.transfer",
    "write_traversals": "pydisent.reports.traversals",
}

alias_modules(
    __name__,
    {
        "alignment": "pydisent.evaluation.alignment",
        "ranking": "pydisent.evaluation.ranking",
        "selection": "pydisent.evaluation.selection",
    },
)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
