"""Lezama (2019): disentangling by supervision of the Jacobian."""

from dataclasses import replace

from pydisent.reproduce.claims import exceeds, falls_below
from pydisent.reproduce.entry import Case, Column, Entry, Figure, Row, Unavailable
from pydisent.reproduce.figures import attributes, planes, scatter

TITLE = "Lezama (2019), Jacobian supervision"

# At this rate, weights stay as initialised.
_UNTRAINED = {"learning_rate": 1e-30}
# The published figures are from the author's code, whose target is the class that the classifier
# assigns to the reconstruction.
_SWAPS = Column("class-swaps/author_code", "successful class swaps, %", scale=100, digits=1)
_TRUE = Column("class-swaps", "to the true class, %", scale=100, digits=1)
_SWAP_ERROR = Column("class-swaps/reconstruction_mse", "reconstruction MSE", "lower", digits=4)
_FLIPS = Column("attribute-flips", "successful flips, %", scale=100, digits=1)
_AT_40 = Column("attribute-flips-published", "at α = 40, %", scale=100, digits=1)
_CHANGED = Column("attribute-flips/changed", "changed by the flip, %", scale=100, digits=1)
_KEPT = Column("attribute-flips/others_kept", "others kept, %", scale=100, digits=1)
_FLIP_ERROR = Column("attribute-flips/reconstruction_mse", "reconstruction MSE", "lower", digits=5)
_DIGITS = {"nuisance": 1, "factors": 2}


def _swaps(swaps: float, error: float) -> dict[str, float]:
    return {_SWAPS.key: swaps, _SWAP_ERROR.key: error}


def _flips(flips: float, error: float) -> dict[str, float]:
    return {_FLIPS.key: flips, _FLIP_ERROR.key: error}


def _weights(y: float, difference: float, xcov: float, swaps: float, error: float) -> Row:
    """Return a row of Table 4."""
    settings = {
        "nuisance": 14,
        "weight_y": y,
        "weight_diff": difference,
        "weight_cross_covariance": xcov,
    }
    title = f"λ_y {y:g}, λ_diff {difference:g}, λ_xcov {xcov:g}"
    name = f"weights-{y:g}-{difference:g}-{xcov:g}"
    return Row(name, title, "jacobian-ae", settings, published=_swaps(swaps, error))


def _student(name: str, title: str, published: dict[str, float], **settings: object) -> Row:
    return Row(name, title, "attribute-ae", settings, published=published, begins_as="teacher")


_TEACHER = {"students": 0}
_SUPERVISED = Row(
    "supervised-14",
    "Student with Jacobian supervision, d = 14",
    "jacobian-ae",
    {"nuisance": 14},
    published=_swaps(61.7, 0.014),
)

ENTRIES = (
    Entry(
        "lezama/table1",
        "Class swaps and reconstruction on MNIST",
        "Supervision by the Jacobian keeps the teacher's factors while the code grows; without it "
        "they are lost at the same reconstruction error.",
        (
            Case(
                "mnist",
                (
                    Row("teacher", "Teacher", "jacobian-ae", {"nuisance": 0},
                        published=_swaps(94.3, 0.036)),
                    _SUPERVISED,
                    Row("supervised-18", "Student with Jacobian supervision, d = 18", "jacobian-ae",
                        {"nuisance": 18}, published=_swaps(52.1, 0.012)),
                    Row("alone-14", "Student without, d = 14", "jacobian-ae",
                        {"nuisance": 14, "supervision": False}, published=_swaps(32.6, 0.011)),
                    Row("random-14", "Random weights, d = 14", "jacobian-ae",
                        {"nuisance": 14, **_UNTRAINED}, published=_swaps(9.8, 0.116), steps=1),
                ),
                (_SWAPS, _TRUE, _SWAP_ERROR),
                smoke=_DIGITS,
                claims=(
                    falls_below("A larger code lowers the error", "supervised-14", "teacher",
                                _SWAP_ERROR.key, digits=4),
                    exceeds("Supervision keeps class swaps, %", "supervised-14", "alone-14",
                            _SWAPS.key, scale=100, digits=1),
                    falls_below("… at an error that is at most 0.005 larger", "supervised-14",
                                "alone-14", _SWAP_ERROR.key, margin=0.005, digits=4),
                ),
                figures=(
                    Figure(
                        "What the first two units do (Fig. 1)",
                        planes, ("teacher", "supervised-14", "alone-14"),
                    ),
                ),
            ),
        ),
    ),
    Entry(
        "lezama/figure1",
        "What the first two units do, on MNIST",
        "The student with supervision keeps the classes of its teacher's plane.",
        (
            Case(
                "mnist",
                (
                    Row("teacher", "Teacher", "jacobian-ae", {"nuisance": 0}),
                    replace(_SUPERVISED, published={}),
                    Row("alone-14", "Student without", "jacobian-ae",
                        {"nuisance": 14, "supervision": False}),
                ),
                smoke=_DIGITS,
                figures=(
                    Figure("Planes of the first two units",
                           planes, ("teacher", "supervised-14", "alone-14")),
                ),
            ),
        ),
    ),
    Entry(
        "lezama/table4",
        "Ablation of the weights on MNIST",
        "λ_y and λ_diff trade class swaps against the reconstruction error.",
        (
            Case(
                "mnist",
                (
                    _weights(0, 0, 1e-1, 33.6, 1.15e-2),
                    _weights(0, 0, 1e-2, 32.6, 1.17e-2),
                    _weights(0, 0, 1e-3, 32.3, 1.12e-2),
                    _weights(0, 0, 1e-4, 31.1, 1.13e-2),
                    _weights(0.25, 0.1, 1e-1, 63.7, 1.55e-2),
                    _weights(0.25, 0.1, 1e-2, 65.2, 1.55e-2),
                    _weights(0.25, 0.1, 1e-3, 61.7, 1.42e-2),
                    _weights(1, 1, 1e-3, 70.5, 1.86e-2),
                    _weights(0.1, 1, 1e-3, 59.4, 1.70e-2),
                    _weights(1, 0.1, 1e-3, 65.0, 1.58e-2),
                    _weights(0.1, 0.1, 1e-3, 57.9, 1.38e-2),
                    _weights(0.01, 0.1, 1e-3, 52.3, 1.30e-2),
                    _weights(0.1, 0.01, 1e-3, 52.3, 1.28e-2),
                    _weights(0.01, 0.01, 1e-3, 42.5, 1.17e-2),
                ),
                (_SWAPS, _TRUE, _SWAP_ERROR),
                smoke=_DIGITS,
                claims=(
                    exceeds("Large λ_y and λ_diff raise class swaps, %", "weights-1-1-0.001",
                            "weights-0.01-0.01-0.001", _SWAPS.key, scale=100, digits=1),
                    exceeds("… and the error", "weights-1-1-0.001", "weights-0.01-0.01-0.001",
                            _SWAP_ERROR.key, digits=4),
                ),
                figures=(
                    Figure("Swaps against the reconstruction error", scatter(_SWAP_ERROR, _SWAPS)),
                ),
            ),
        ),
    ),
    Entry(
        "lezama/table2",
        "Attribute flips and reconstruction on faces",
        "At the same reconstruction error the student with Jacobian supervision flips attributes "
        "as well as its teacher; the one with cycle losses alone does not.",
        (
            Case(
                "celeba",
                (
                    Row("teacher", "Teacher", "attribute-ae", _TEACHER,
                        published=_flips(73.1, 1.82e-3)),
                    _student("jacobian", "Student with Jacobian supervision",
                             _flips(72.2, 1.08e-3), supervision="jacobian"),
                    _student("cycle", "Student with cycle losses",
                             _flips(42.7, 1.04e-3), supervision="cycle"),
                    Row("random", "Random weights", "attribute-ae", {**_TEACHER, **_UNTRAINED,
                        "cycle_steps": 0}, published=_flips(20.2, 1.01e-1), steps=1),
                ),
                (_FLIPS, _AT_40, _CHANGED, _KEPT, _FLIP_ERROR),
                claims=(
                    exceeds("The student with Jacobian supervision flips more than with cycle "
                            "losses, %", "jacobian", "cycle", _FLIPS.key, scale=100, digits=1),
                    exceeds("… and as its teacher, within 5 points", "jacobian", "teacher",
                            _FLIPS.key, margin=0.05, scale=100, digits=1),
                    falls_below("… at a smaller error than its teacher", "jacobian", "teacher",
                                _FLIP_ERROR.key, digits=5),
                ),
                figures=(
                    Figure("Flips against the reconstruction error (Fig. 4)",
                           scatter(_FLIP_ERROR, _FLIPS)),
                    Figure("Attributes flipped by the supervised student (Fig. 5)",
                           attributes, ("jacobian",)),
                ),
            ),
        ),
        differences=("64 px, d = 64 (teacher) and 256 (students)",),
    ),
    Entry(
        "lezama/figure4",
        "Attribute flips against the reconstruction error",
        "The supervised student is at the top left.",
        (
            Case(
                "celeba",
                (
                    Row("teacher", "Teacher", "attribute-ae", _TEACHER),
                    _student("jacobian", "Jacobian supervision", {}, supervision="jacobian"),
                    _student("cycle", "cycle losses", {}, supervision="cycle"),
                ),
                (_FLIPS, _FLIP_ERROR),
                figures=(Figure("Flips against the error", scatter(_FLIP_ERROR, _FLIPS)),),
            ),
        ),
    ),
    Entry(
        "lezama/figure5",
        "Attributes set by one model",
        "One model sets 32 attributes.",
        (
            Case(
                "celeba",
                (
                    Row("teacher", "Teacher", "attribute-ae", _TEACHER),
                    _student("jacobian", "Jacobian supervision", {}, supervision="jacobian"),
                ),
                figures=(Figure("Attributes flipped one by one", attributes, ("jacobian",)),),
            ),
        ),
    ),
    Entry(
        "lezama/table5",
        "Ablation of the student's losses on faces",
        "The Jacobian's loss carries the flips; cycle losses alone do not.",
        (
            Case(
                "celeba",
                (
                    Row("teacher", "Teacher without cycle losses", "attribute-ae",
                        {**_TEACHER, "cycle_steps": 0}),
                    _student("50-1", "λ_diff 50, λ_y 1", _flips(70.3, 1.76e-3)),
                    _student("10-1", "λ_diff 10, λ_y 1", _flips(64.8, 1.67e-3),
                             difference_weight=10.0),
                    _student("1-10", "λ_diff 1, λ_y 10", _flips(49.1, 1.85e-3),
                             difference_weight=1.0, y_weight=10.0),
                    _student("1-1", "λ_diff 1, λ_y 1", _flips(46.8, 1.69e-3),
                             difference_weight=1.0),
                    _student("cycle", "cycle losses", _flips(43.2, 1.78e-3), supervision="cycle"),
                    _student("both", "λ_diff 50, λ_y 1, and cycle losses", _flips(70.7, 1.84e-3),
                             supervision="jacobian-cycle"),
                ),
                (_FLIPS, _AT_40, _CHANGED, _KEPT, _FLIP_ERROR),
                claims=(
                    exceeds("The Jacobian's loss flips more than cycle losses, %", "50-1", "cycle",
                            _FLIPS.key, scale=100, digits=1),
                    exceeds("A large λ_diff flips more than a small one, %", "50-1", "1-1",
                            _FLIPS.key, scale=100, digits=1),
                ),
                settings={"cycle_steps": 0, "students": 1, "student_steps": 63_582},
                small={"student_steps": 400},
                smoke={"student_steps": 5},
            ),
        ),
        differences=("64 px, d = 64 (teacher) and 128 (students)",),
    ),
    Entry(
        "lezama/table6",
        "Ablation of the cross-covariance on faces",
        "The cross-covariance changes flips little, and costs some reconstruction.",
        (
            Case(
                "celeba",
                tuple(
                    Row(f"xcov-{weight:g}", f"λ_xcov {weight:g}", "attribute-ae",
                        {**_TEACHER, "cycle_steps": 0, "cross_covariance_weight": weight},
                        published=_flips(flips, error), paper_steps=63_582)
                    for weight, flips, error in (
                        (1e-3, 51.4, 2.39e-3), (1e-2, 53.3, 2.50e-3), (1e-1, 49.9, 2.71e-3)
                    )
                ),
                (_FLIPS, _AT_40, _CHANGED, _KEPT, _FLIP_ERROR),
            ),
        ),
        differences=("64 px, d = 64",),
    ),
)  # fmt: skip

UNAVAILABLE = (
    Unavailable("lezama/table2", "Fader Networks",
                "a third party's model; its training diverged with these attributes"),
    Unavailable("lezama/figure6", "Comparison with Fader Networks' own models",
                "a third party's weights"),
)  # fmt: skip
