"""What holds for the package as a whole."""

import subprocess
import sys

import pydisent

HEAVY = "lightning_fabric sklearn matplotlib tyro rich tensorboard safetensors PIL jinja2"


def test_import_needs_torch_and_numpy_alone():
    code = (
        "import sys\n"
        f"for name in {HEAVY.split()!r}: sys.modules[name] = None\n"
        "import pydisent, torch\n"
        "assert 'torch._dynamo' not in sys.modules  # the compiler takes a second\n"
        "fn = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.SiLU(), torch.nn.Linear(8, 6))\n"
        "penalty = pydisent.alignment_penalty(fn, torch.randn(3, 4), k=2, iterations=3)\n"
        "penalty.backward()\n"
        "assert fn[0].weight.grad.abs().sum() > 0\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_everything_public_is_there_and_documented():
    for name in pydisent.__all__:
        assert (getattr(pydisent, name).__doc__ or "").strip(), name
