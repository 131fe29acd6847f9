"""The score of code masks."""

from pydisent.evaluation.masks import has_masks
from pydisent.evaluation.registry import Need, metric
from pydisent.evaluation.subject import Subject
from pydisent.metrics import MetricResult

_MASKS = Need("a system with masks of its codes", has_masks)


@metric("mask-overlap", needs=_MASKS, label="Mask overlap", lower_is_better=True)
def score_mask_overlap(subject: Subject) -> MetricResult:
    """Return the overlap of the codes' masks; their positions are details."""
    codes = subject.run.system.code_names
    return subject.masks.with_details({"codes": codes, "seed": subject.seed})
