import sys
import warnings
from pathlib import Path

import pytest

# The helper modules beside this file are imported by name; importlib mode adds nothing to the path.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def budgets(bench):
    return bench("budgets")


@pytest.fixture
def hold(budgets):
    """Hold some of a file's compiled kernels to their budgets, and warn of what is better."""

    def hold(file, arch, found):
        committed = budgets.load()
        assert not budgets.excess(committed, file, arch, found, whole=False)
        for line in budgets.better(committed, file, arch, found):
            warnings.warn(f"{line}; make budgets", stacklevel=2)

    if budgets.cuobjdump() is None:
        pytest.skip("neither Triton nor the machine has cuobjdump")
    return hold
