"""Evaluation of runs: scores, and everything else computed from them."""

from pydisent.evaluation.alignment import alignment_summary
from pydisent.evaluation.comparison import Comparison, compare
from pydisent.evaluation.perception import Perception
from pydisent.evaluation.ranking import with_udr
from pydisent.evaluation.registry import FACTORS, IMAGES, Need, metric
from pydisent.evaluation.scoring import MetricsFailedError, applicable, metric_names, score
from pydisent.evaluation.selection import Selection, select
from pydisent.evaluation.subject import Subject

__all__ = [
    "FACTORS",
    "IMAGES",
    "Comparison",
    "MetricsFailedError",
    "Need",
    "Perception",
    "Selection",
    "Subject",
    "alignment_summary",
    "applicable",
    "compare",
    "metric",
    "metric_names",
    "score",
    "select",
    "with_udr",
]
