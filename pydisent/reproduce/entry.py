"""The papers' tables and figures to reproduce, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from pydisent.reproduce.claims import Claim
    from pydisent.reproduce.runs import Runs

Settings = Mapping[str, Any]
# A published score, with its standard deviation if given.
Published = float | tuple[float, float]

# The built-in data that stands in for official files that are not given.
STAND_INS: Mapping[str, str] = {
    "dsprites": "sprites",
    "color-dsprites": "color-sprites",
    "3dshapes": "shapes3d",
    "mnist": "digits",
    "celeba": "faces",
}


# disentanglement_lib's networks and batch size, for baselines whose own presets differ.
LOCATELLO: Settings = {"batch_size": 64, "networks": "locatello"}


@dataclass(frozen=True)
class Column:
    """A score of a table.

    Attributes
    ----------
    key : str
        "METRIC"; "METRIC/DETAIL" for a figure in a score's details (the mean, if a list);
        "METRIC/DETAIL:ATTRIBUTE" for that of an attribute; "log/NAME" for the median of a logged
        value over training; or "log/score/" and any of the first three for that of a score.
    title : str
        The heading.
    better : {"higher", "lower", ""}
        Which scores are better.
    scale : float
        Factor by which the score is multiplied in the table.
    digits : int
        Digits after the decimal point.
    """

    key: str
    title: str
    better: str = "higher"
    scale: float = 1.0
    digits: int = 2

    @property
    def heading(self) -> str:
        """Return the title with an arrow towards better scores."""
        return f"{self.title} { ({'higher': '↑', 'lower': '↓'}.get(self.better, '')) }".strip()


@dataclass(frozen=True)
class Row:
    """A trained model of a table.

    Attributes
    ----------
    name, title : str
        Its name among the rows, and in print.
    system : str
        The system.
    settings : mapping of str to object
        Settings that differ from the preset's.
    small : mapping of str to object
        Settings at scale "small" that differ from `settings`.
    published : mapping of str to float or tuple
        The paper's figures by column key, in the units of the table.
    paper : mapping of str to object
        Settings at scale "paper" that differ from `settings`.
    steps, small_steps, paper_steps : int or None
        Updates of the first phase, at all scales, at scale "small" or at scale "paper", if not the
        preset's.
    begins_as : str or None
        The row whose trained weights it starts from; both train identically up to there.
    """

    name: str
    title: str
    system: str
    settings: Settings = field(default_factory=dict)
    small: Settings = field(default_factory=dict)
    published: Mapping[str, Published] = field(default_factory=dict)
    paper: Settings = field(default_factory=dict)
    steps: int | None = None
    small_steps: int | None = None
    paper_steps: int | None = None
    begins_as: str | None = None


@dataclass(frozen=True)
class Figure:
    """A figure drawn from trained models.

    Attributes
    ----------
    caption : str
        Its caption.
    draw : callable
        Returns the pictures of the given rows by file name, PNG or GIF.
    rows : tuple of str
        The rows to draw; all if empty.
    """

    caption: str
    draw: Callable[[Runs, Sequence[str]], Mapping[str, bytes]]
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """The models of an entry on one data set.

    Attributes
    ----------
    data : str
        The paper's data set.
    rows : sequence of Row
        The models.
    columns : sequence of Column
        Their scores.
    settings : mapping of str to object
        Settings of all rows, at every scale.
    small, smoke : mapping of str to object
        Settings of all rows at these scales, which override the rows' own.
    paper : mapping of str to object
        Fields of all rows' plans at scale "paper", such as the split.
    threshold : float or None
        The length from which TPL by VGG16 considers a dimension active.
    small_rows : sequence of str
        The rows trained at scale "small"; all if empty.
    small_size : int or None
        The image size at scale "small"; None for the presets'.
    figures : sequence of Figure
        The figures to draw.
    measure : callable or None
        Takes measurements that need no training, at a scale and on a device, as plain values.
    summary : callable or None
        Returns a table {row: {key: figure}}, computed from the scores of all rows and placed above
        their table.
    summary_published : mapping
        The paper's figures for that table.
    claims : sequence of Claim
        The paper's conclusions that the scores can decide.
    """

    data: str
    rows: Sequence[Row] = ()
    columns: Sequence[Column] = ()
    settings: Settings = field(default_factory=dict)
    small: Settings = field(default_factory=dict)
    smoke: Settings = field(default_factory=dict)
    paper: Settings = field(default_factory=dict)
    threshold: float | None = None
    small_rows: Sequence[str] = ()
    small_size: int | None = None
    figures: Sequence[Figure] = ()
    measure: Callable[[str, torch.device], dict[str, Any]] | None = None
    summary: Callable[[Sequence[dict[str, Any]]], dict[str, dict[str, float]]] | None = None
    summary_published: Mapping[str, Mapping[str, Published]] = field(default_factory=dict)
    claims: Sequence[Claim] = ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the metrics that the columns are read from."""
        names = (column.key.partition("/")[0] for column in self.columns)
        return tuple(dict.fromkeys(name for name in names if name != "log"))

    @property
    def scored_in_training(self) -> tuple[str, ...]:
        """Return the figures whose medians over training are columns."""
        keys = (column.key for column in self.columns)
        return tuple(k.removeprefix("log/score/") for k in keys if k.startswith("log/score/"))


@dataclass(frozen=True)
class Entry:
    """A table or figure of a paper.

    Attributes
    ----------
    name : str
        PAPER/tableN or PAPER/figureN, or PAPER/WORD if the paper has no such table or figure.
    title : str
        What it shows.
    claim : str
        The paper's conclusion from it.
    cases : sequence of Case
        Its models, by data set.
    seeds : int
        Number of seeds that the paper trains, 1 if it does not say.
    differences : sequence of str
        How scale "small" differs from the paper, beyond its presets.
    remarks : sequence of str
        How all scales differ from the paper.
    """

    name: str
    title: str
    claim: str
    cases: Sequence[Case]
    seeds: int = 1
    differences: Sequence[str] = ()
    remarks: Sequence[str] = ()

    @property
    def paper(self) -> str:
        """Return the paper's name."""
        return self.name.partition("/")[0]


@dataclass(frozen=True)
class Unavailable:
    """A table or figure, or a part of one, that cannot be reproduced.

    Attributes
    ----------
    name, title : str
        As for an `Entry`.
    reason : str
        Why it cannot be reproduced.
    """

    name: str
    title: str
    reason: str
