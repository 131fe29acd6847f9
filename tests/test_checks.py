import math
import re

import numpy as np
import pytest
import torch

from pydisent._checks import (
    check,
    check_batch,
    check_counts,
    check_integer,
    check_number,
    check_one_of,
    check_power_of_two,
)


def test_accepted_values():
    check(True, "x", "anything", 0)
    check_one_of("x", "a", ("a", "b"))
    check_counts(x=1, y=np.int64(3))
    check_integer("x", 0, at_least=0, at_most=0)
    check_power_of_two("x", 16, at_least=8, at_most=16)
    check_number("x", 0, at_least=0)
    check_number("x", np.float32(0.5), above=0, below=1)
    check_number("x", math.inf, at_least=0, finite=False)
    check_batch("x", torch.zeros(0, 2, 3), 2, 3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: check(False, "k", "at most m = 10", 12),
            ValueError,
            "k must be at most m = 10, got 12",
        ),
        (
            lambda: check_one_of("x", "c", ("a", "b")),
            ValueError,
            "x must be one of 'a', 'b', got 'c'",
        ),
        (
            lambda: check_one_of("x", "bta-vae", ("vae", "beta-vae")),
            ValueError,
            "x must be one of 'vae', 'beta-vae', got 'bta-vae', did you mean 'beta-vae'?",
        ),
        (lambda: check_counts(x=0), ValueError, "x must be an integer >= 1, got 0"),
        (lambda: check_counts(x=True), TypeError, "x must be an integer >= 1, got True"),
        (lambda: check_counts(x=2.0), TypeError, "x must be an integer >= 1, got 2.0"),
        (
            lambda: check_counts(x=torch.ones(())),
            TypeError,
            "x must be an integer >= 1, got Tensor",
        ),
        (
            lambda: check_integer("x", 9, at_least=1, at_most=8),
            ValueError,
            "x must be an integer in [1, 8], got 9",
        ),
        (
            lambda: check_power_of_two("x", 12, at_least=8),
            ValueError,
            "x must be a power of two >= 8, got 12",
        ),
        (
            lambda: check_power_of_two("x", "8", at_least=8),
            TypeError,
            "x must be a power of two >= 8, got '8'",
        ),
        (
            lambda: check_number("x", 0.0, above=0),
            ValueError,
            "x must be a finite number > 0, got 0.0",
        ),
        (
            lambda: check_number("x", math.inf, at_least=0),
            ValueError,
            "x must be a finite number >= 0, got inf",
        ),
        (
            lambda: check_number("x", math.nan, at_least=0, finite=False),
            ValueError,
            "x must be a number >= 0, got nan",
        ),
        (
            lambda: check_number("x", 1, at_least=0, below=1),
            ValueError,
            "x must be a number in [0, 1), got 1",
        ),
        (
            lambda: check_number("x", None, at_least=0, at_most=1),
            TypeError,
            "x must be a number in [0, 1], got None",
        ),
        (
            lambda: check_batch("x", torch.zeros(2, 3), 4),
            ValueError,
            "x must have shape (B, 4), got (2, 3)",
        ),
    ],
)
def test_one_wording(call, error, words):
    with pytest.raises(error, match=f"^{re.escape(words)}$"):
        call()
