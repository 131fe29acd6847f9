"""What is reproduced: tables and figures of the papers, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from pydisent.reproduce.claims import Claim
    from pydisent.reproduce.runs import Runs

Settings = Mapping[str, Any]
# A published score: its value, with the standard deviation if there is one.
Published = float | tuple[float, float]

# The built-in data that takes the place of official files where these are not given.
STAND_INS: Mapping[str, str] = {
    "dsprites": "sprites",
    "color-dsprites": "color-sprites",
    "3dshapes": "shapes3d",
    "mnist": "digits",
    "celeba": "faces",
}


# disentanglement_lib's networks and batch, for baselines whose own preset has others.
LOCATELLO: Settings = {"batch_size": 64, "networks": "locatello"}


@dataclass(frozen=True)
class Column:
    """A score of a table.

    Attributes
    ----------
    key : str
        "METRIC"; "METRIC/DETAIL" for a figure among a score's details (of several, the mean);
        "METRIC/DETAIL:ATTRIBUTE" for that of an attribute; or "log/NAME" for the median of a logged
        figure over training.
    title : str
        Its heading.
    better : {"higher", "lower", ""}
        The direction of the score.
    scale : float
        The table shows the score times this.
    digits : int
        Digits after the point.
    """

    key: str
    title: str
    better: str = "higher"
    scale: float = 1.0
    digits: int = 2

    @property
    def heading(self) -> str:
        """Return the title with an arrow to what is better."""
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
        Its settings where they differ from the preset's.
    small : mapping of str to object
        Those at scale "small" where they differ from `settings`.
    published : mapping of str to float or tuple
        The paper's figures by the columns' keys, in the units of the table.
    paper : mapping of str to object
        Those at scale "paper" where they differ from `settings`.
    steps, small_steps, paper_steps : int or None
        Updates of the first phase, at all scales, at scale "small" or at scale "paper", if not the
        preset's.
    begins_as : str or None
        The row whose trained weights it begins with: both agree up to there.
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
    """A figure that is drawn of trained models.

    Attributes
    ----------
    caption : str
        Its caption.
    draw : callable
        Returns the pictures of rows by file name, PNG or GIF.
    rows : tuple of str
        The rows; all if empty.
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
        Settings of all rows at these scales, after the rows' own.
    paper : mapping of str to object
        Fields of all rows' plans at scale "paper", such as the split.
    threshold : float or None
        The length from which TPL by VGG16 considers a dimension active.
    small_rows : sequence of str
        The rows that scale "small" is limited to; all if empty.
    small_size : int or None
        The image size at scale "small"; None for the presets'.
    figures : sequence of Figure
        What is drawn.
    measure : callable or None
        Measures what needs no training, at a scale and on a device, as plain values.
    summary : callable or None
        Returns a table {row: {key: figure}} that is computed from the scores of all rows and
        stands above theirs.
    summary_published : mapping
        The paper's figures of that table.
    claims : sequence of Claim
        What the paper concludes from the scores, as far as these can decide it.
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


@dataclass(frozen=True)
class Entry:
    """A table or figure of a paper.

    Attributes
    ----------
    name : str
        PAPER/tableN or PAPER/figureN, or PAPER/WORD for what the paper has no table of.
    title : str
        What it shows.
    claim : str
        What the paper concludes from it.
    cases : sequence of Case
        Its models, by data set.
    seeds : int
        How many seeds the paper trains, 1 if it does not say.
    differences : sequence of str
        How scale "small" differs from the paper, beyond its presets.
    remarks : sequence of str
        How all scales do.
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
        As of an `Entry`.
    reason : str
        Why not.
    """

    name: str
    title: str
    reason: str
