import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

# Fake runs, and the helper module beside this file, are imported by name.
sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
sys.path.insert(0, str(Path(__file__).parent))
from _fake_runs import fake_run


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(tmp_path):
    """A run whose images are affine in the code: J is the same everywhere."""
    return fake_run(tmp_path / "a-run")


@pytest.fixture
def picture():
    """Pixels (16, 20, 3) and the bytes of a PNG of them."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return pixels, data.getvalue()
