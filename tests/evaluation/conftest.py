import sys
from pathlib import Path

import pytest
import torch

# The helper modules beside this file are imported by name; importlib mode adds no path.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
