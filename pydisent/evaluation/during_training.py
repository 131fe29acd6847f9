"""Scores of a system while it is trained."""

from collections.abc import Callable, Sequence

from pydisent import data
from pydisent._checks import check
from pydisent._notice import warn_once
from pydisent.evaluation.scoring import MetricsFailedError, Score, check_names, figure, score
from pydisent.systems import NotTrainedError, System
from pydisent.training.folder import RunFolder
from pydisent.training.plan import Plan
from pydisent.training.run import Run


def figures_of(
    plan: Plan, folder: RunFolder, keys: Sequence[str]
) -> Callable[[System, int], dict[str, float]]:
    """Return what `pydisent.training.train` takes as `measure`: scores of the system in training.

    The data are loaded once more, when the first score is measured.

    Parameters
    ----------
    plan : Plan
        What is trained.
    folder : RunFolder
        The run's folder.
    keys : sequence of str
        "METRIC" for a score, or "METRIC/DETAIL" for a figure in its details.

    Returns
    -------
    callable
        Takes the system and the number of its updates; returns the figures by key. It lacks those
        that the system, as trained so far, does not have.

    Raises
    ------
    ValueError
        If there are no keys, or a metric does not exist.
    """
    names = tuple(dict.fromkeys(key.partition("/")[0] for key in keys))
    check(bool(names), "metrics", "names of metrics, at least 1", "none")
    check_names(names)
    images = None

    def measure(system: System, step: int) -> dict[str, float]:
        nonlocal images
        images = images or data.load(**plan.data_arguments())
        run = Run(folder.path, plan, {}, [], None, system, step, images)
        scores: dict[str, Score] = {}
        try:
            score(run, names, keep=scores.update)
        except NotTrainedError:
            return {}
        except MetricsFailedError as error:
            warn_once(f"{folder.path}: {error}")
        found = {key: figure(scores, key) for key in keys}
        return {key: value for key, value in found.items() if value is not None}

    return measure
