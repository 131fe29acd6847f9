"""A sample of every third operator that PyTorch differentiates, through the engine.

``python bench/operators.py`` judges more samples of all of them, of every kind. Here, one in
float64, and of a sixth of the operators each one with complex numbers inside and in place. A
refusal has a reason in ``operators_refused.toml``.
"""

import pytest

pytest.importorskip("expecttest", reason="PyTorch's operator database needs expecttest")

import _operators as cases

try:
    OPERATORS = cases.operators()
except ImportError as error:
    pytest.skip(f"this torch has no database of operators: {error}", allow_module_level=True)

LISTED = cases.refused_operators()
JUDGED = [
    name for name, op in OPERATORS.items() if not all(cases.left_out(op, k) for k in cases.KINDS)
]
CHOSEN = [name for place, name in enumerate(JUDGED) if place % 3 == 0 or name in LISTED]


def kinds_of(name):
    """In float64 and by turns of another kind; of every kind what is refused, or is not real."""
    if name in LISTED or cases.left_out(OPERATORS[name], "float64"):
        return cases.KINDS
    turn = 1 + CHOSEN.index(name) % 6
    return "float64", *cases.KINDS[turn : turn + 1]


@pytest.mark.parametrize("name", CHOSEN)
def test_operator(name):
    listed = name in LISTED
    found = {}
    for kind in kinds_of(name):
        for place, verdict in cases.verdicts(name, kind, cases.SAMPLES if listed else 1):
            if listed and verdict.outcome == cases.REFUSED_BY_US:
                return
            found[f"{kind}, sample {place}"] = verdict
    assert not listed, f"none of its samples is refused: take it off the list; {found}"
    fine = {cases.RIGHT, cases.NONE, cases.ROUGH}
    assert not {where: v for where, v in found.items() if v.outcome not in fine}


def test_the_refused_are_few_and_known():
    assert len(LISTED) <= 10
    assert all(LISTED.values()), "a reason each"
    assert set(LISTED) <= set(JUDGED)


@pytest.mark.parametrize("kind", cases.KINDS)
def test_a_wrong_derivative_is_seen(kind, monkeypatch):
    """The judge itself: one per cent off in the Jacobian, or in the gradient alone."""
    assert verdict(kind).outcome == cases.RIGHT
    jacobian = cases.pydisent.Linearization.jacobian
    with monkeypatch.context() as patch:
        patch.setattr(cases.pydisent.Linearization, "jacobian", lambda self: 1.01 * jacobian(self))
        assert "the Jacobian is off by 1.0e-02" in verdict(kind).detail
    penalty = cases.pydisent.alignment_penalty

    def bent(*args, **kwargs):
        value = penalty(*args, **kwargs)
        return value.detach() + 1.01 * (value - value.detach())

    monkeypatch.setattr(cases.pydisent, "alignment_penalty", bent)
    assert "the penalty's gradient is off" in verdict(kind).detail


def verdict(kind):
    ((_, found),) = cases.verdicts("exp", kind, 1)
    return found


def test_what_jumps_is_not_judged():
    """Half precision rounds: two steps of a difference never agree."""
    (place, sample), *_ = cases.samples(OPERATORS["half"], "float64", 1)
    case = cases.Case(OPERATORS["half"], "float64", place, sample)
    case.draw(0, 0.1)
    case._exact = case._operation
    assert cases.disagreement(case.measure(0.1)) > 1
