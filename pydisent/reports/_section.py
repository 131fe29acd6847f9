"""Sections of a report: pictures, their descriptions, and why some are missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # needs the packages that training needs
    from pydisent.evaluation.subject import Subject


@dataclass(frozen=True)
class Picture:
    """A picture of a report.

    Attributes
    ----------
    file : str
        Its file name.
    data : bytes
        PNG or GIF.
    alt, caption : str
        A description for readers who cannot see it, and its caption.
    folded : bool
        Whether it is initially hidden behind its caption.
    """

    file: str
    data: bytes
    alt: str
    caption: str
    folded: bool = False

    @property
    def moving(self) -> bool:
        """Return whether it is an animation."""
        return self.file.endswith(".gif")


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes
    ----------
    label : str
        Its label.
    cells : list of str
        One for each run.
    best : set of int
        Indices of the best cells, if any.
    notes : list of str
        Notes beside the cells, or "".
    """

    label: str
    cells: list[str]
    best: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


Pictures = Picture | Sequence[Picture]


@dataclass
class Section:
    """A section: its pictures, and the errors in place of missing ones."""

    title: str
    intro: str
    pictures: list[Picture] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def attempt(self, what: str, draw: Callable[..., Pictures], *args: Any) -> bool:
        """Add the pictures of `draw(*args)`, or record its error; return whether it succeeded."""
        try:
            made = draw(*args)
        except Exception as error:  # a report with a gap is better than none
            self.missing.append(f"{what}: {str(error) or type(error).__name__}")
            return False
        self.pictures.extend([made] if isinstance(made, Picture) else made)
        return True


def section_of(
    title: str,
    intro: str,
    subjects: Sequence[Subject],
    draw: Callable[[Subject], Pictures],
    *,
    only: Sequence[Subject] | None = None,
) -> Section:
    """Return a section with the pictures of each subject.

    Parameters
    ----------
    title, intro : str
        Title and introduction of the section.
    subjects : sequence of Subject
        All subjects of the report. If there are several, their labels precede the file names.
    draw : callable
        Returns the pictures of a subject.
    only : sequence of Subject, optional
        The subjects to draw; all by default.
    """
    section = Section(title, intro)
    for subject in subjects if only is None else only:
        section.attempt(subject.label, labelled, subjects, subject, draw)
    return section


def labelled(
    subjects: Sequence[Subject], subject: Subject, draw: Callable[[Subject], Pictures]
) -> Sequence[Picture]:
    """Return a subject's pictures, their names prefixed with its label if there are several."""
    made = draw(subject)
    pictures = [made] if isinstance(made, Picture) else made
    if len(subjects) == 1:
        return pictures
    return [replace(p, file=f"{subject.label}-{p.file}") for p in pictures]


def described(files: dict[str, bytes], about: dict[str, tuple[str, str]]) -> list[Picture]:
    """Return pictures of files with alternative texts and captions; those of more bases fold."""
    return [
        Picture(file, files[file], *words, folded="-bases" in file) for file, words in about.items()
    ]
