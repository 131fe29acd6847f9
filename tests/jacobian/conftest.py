import sys
from pathlib import Path

import pytest
import torch

# The helper modules beside this file are imported by name; importlib mode adds nothing to the path.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _quiet_machine():
    """One thread for tiny tensors, and no test's random draws decide another's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_num_threads(threads)
