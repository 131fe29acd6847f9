import sys
from pathlib import Path

import pytest
import torch

from pydisent.jacobian.alignment import routes
from pydisent.jacobian.cost import Machine

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


@pytest.fixture(autouse=True)
def _slow_calls(monkeypatch):
    """``method="auto"`` unrolls where it may: as where calls cost all, whatever this machine is."""
    machine = Machine(step=1.0, reversed_step=1.0, product=0.0, number=0.0)
    monkeypatch.setattr(routes, "machine", lambda device: machine)
