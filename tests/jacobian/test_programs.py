"""Random programs (``_programs.py``): right, or refused in words, and nothing else.

``PYDISENT_EXAMPLES=2000 pytest tests/jacobian/test_programs.py`` looks at more programs, and at
others each time (``--hypothesis-seed`` fixes which).
"""

import os

import pytest
from _judge import NONE, REFUSED, RIGHT, ROUGH, WRONG, verdict
from _program_steps import CATALOGUE
from _programs import KINDS, assembled, programs
from hypothesis import HealthCheck, event, given, reject, settings

pytestmark = pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
EXAMPLES = int(os.environ.get("PYDISENT_EXAMPLES", 20))
THEMES = {
    "everything": KINDS,
    "writes": ("views", "writes", "stale"),
    "random": ("random", "writes", "functions"),
    "complex": ("complex", "views", "keywords"),
    "functions": ("functions", "control", "keywords", "writes"),
}


# Steps that the engine refuses, in words; all others have to be right alone.
REFUSED_ALONE = frozenset(  # torch itself cannot differentiate them twice
    "checkpoint_reentrant checkpoint_reentrant_beside dropout_in_reentrant".split()
)


@pytest.mark.in_turn
@pytest.mark.parametrize("kind", KINDS)
def test_each_step_alone(kind):
    for seed in range(10):
        program = assembled([(kind, 0, 0)], seed)
        assert program.kinds == (kind,), "torch itself refuses the step"
        outcome = verdict(program.build(), program.definition, broken=program.broken)
        if outcome != ROUGH:
            break
    expected = REFUSED if kind in REFUSED_ALONE else RIGHT
    assert outcome.startswith(expected), f"{outcome}\n{program!r}"


@pytest.mark.in_turn
@pytest.mark.parametrize("theme", THEMES)
def test_random_programs(theme):
    kinds = [k for k in KINDS if k in THEMES[theme] or CATALOGUE[k].theme in THEMES[theme]]

    @settings(
        max_examples=EXAMPLES,
        derandomize="PYDISENT_EXAMPLES" not in os.environ,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(program=programs(kinds))
    def judge(program):
        outcome = verdict(program.build(), program.definition, broken=program.broken)
        event(outcome.partition(":")[0])
        if outcome in (ROUGH, NONE):
            reject()
        assert not outcome.startswith(WRONG), f"{outcome}\n{program!r}"

    judge()
