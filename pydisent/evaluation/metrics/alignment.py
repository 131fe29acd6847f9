"""Scores of the alignment of eigenvectors with coordinates."""

from pydisent.evaluation.alignment import alignment_summary
from pydisent.evaluation.registry import Need, metric
from pydisent.evaluation.subject import Subject
from pydisent.metrics import MetricResult

_LEADING = Need("a system with the setting k", lambda run: hasattr(run.plan.config, "k"))


@metric("f-diagonal", needs=_LEADING, label="F diagonal")
def f_diagonal(subject: Subject) -> MetricResult:
    """Return the mean of the first k diagonal entries of F (Ramesh et al., Eq. 6)."""
    summary = alignment_summary(subject.run)
    details = {name: summary[name] for name in ("k", "codes", "seed", "diagonal")}
    return MetricResult(summary["mean"], details)


@metric("f-diagonal-all", needs=_LEADING, label="F diagonal, all codes", by_default=False)
def f_diagonal_of_all(subject: Subject) -> MetricResult:
    """Return the mean of all m diagonal entries of F, comparable between models of different k."""
    summary = alignment_summary(subject.run, k=subject.run.system.latent_size)
    return MetricResult(
        summary["mean"], {n: summary[n] for n in ("k", "codes", "seed", "diagonal")}
    )
