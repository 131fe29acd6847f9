"""The subjects of a report."""

from collections import Counter
from collections.abc import Sequence
from itertools import count

from pydisent.evaluation.alignment import leading, penalty_weight
from pydisent.evaluation.codes import Split
from pydisent.evaluation.subject import Subject
from pydisent.training.run import Run


def subjects_of(runs: Sequence[Run], seed: int, split: Split = "auto") -> list[Subject]:
    """Label runs as `labels_of` does, and set each one's k.

    A run without the alignment penalty is evaluated with the k of the first run that has it.
    """
    aligned = [leading(run) for run in runs if penalty_weight(run) > 0]
    return [
        Subject(run, label, k=_compared_k(run, aligned), seed=seed, split=split)
        for run, label in zip(runs, labels_of(runs))
    ]


def labels_of(runs: Sequence[Run]) -> list[str]:
    """Label runs by system; by folder if two share a system, and numbered if two share a folder.

    No two labels are the same: figures and files are by label.
    """
    names = [run.system.name for run in runs]
    if len(set(names)) < len(names):
        names = [run.path.resolve().name for run in runs]
    counts = Counter(names)
    taken = {name for name in names if counts[name] == 1}
    labels = []
    for place, name in enumerate(names, 1):
        if counts[name] > 1:
            numbered = (f"{name}-{number}" for number in count(place))
            name = next(label for label in numbered if label not in taken)
            taken.add(name)
        labels.append(name)
    return labels


def _compared_k(run: Run, aligned: list[int | None]) -> int | None:
    if penalty_weight(run) > 0 or not aligned or aligned[0] is None:
        return None
    return min(aligned[0], len(run.system.code_names))
