"""The sections of a report, in order."""

from collections.abc import Sequence

from pydisent.evaluation.subject import Subject
from pydisent.reports import (
    eigenpaths,
    figures,
    information,
    masks,
    matrices,
    pictures,
    transfer,
    traversals,
)
from pydisent.reports._section import Section

_MAKERS = (
    pictures.samples_section,
    figures.alignment_section,
    matrices.section,
    traversals.section,
    masks.section,
    transfer.section,
    eigenpaths.section,
    figures.spectra_section,
    pictures.steps_section,
    pictures.reconstructions_section,
    information.section,
    figures.losses_section,
)


def sections(subjects: Sequence[Subject]) -> list[Section]:
    """Return all picture sections that apply to the subjects."""
    made = (make(subjects) for make in _MAKERS)
    return [section for section in made if section is not None]
