"""The examples run as they stand, in the size of a test."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
#: What each is called with, and what it says.
CALLS = {
    "gan_with_penalty": (["--steps", "3"], "share of the leading eigenvectors"),
    "vae_with_dip": (["--steps", "3"], "MIG"),
    "lightning_module": (["--steps", "2"], "total_correlation"),
    "compiled_bf16": (["--steps", "2", "--no-compile"], "penalty"),
    "eigenpaths": (["--steps", "8", "--out", "paths.png"], "leading eigenvalues"),
    "score_your_encoder": (["--images", "1200"], "the same, rotated"),
    "torchmetrics_evaluation": (["--batches", "2"], "modularity"),
    "ddp": (["--steps", "2"], "2 processes have the same weights"),
}
NEEDS = {
    "lightning_module": "pytorch_lightning",
    "torchmetrics_evaluation": "torchmetrics",
    "eigenpaths": "PIL",
}


def test_every_example_is_run_here_or_as_a_plug_in():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*CALLS, "plug_in"}


def test_every_example_is_on_the_site():
    page = (EXAMPLES.parent / "docs" / "gallery" / "examples.md").read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f"../../examples/{path.name}" in page, path.name


@pytest.mark.in_turn
@pytest.mark.parametrize("name", CALLS)
def test_an_example_runs(name, tmp_path):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    options, said = CALLS[name]
    many = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launcher = many if name == "ddp" else []
    result = subprocess.run(
        [sys.executable, *launcher, str(EXAMPLES / f"{name}.py"), *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert said in result.stdout
    if name == "eigenpaths":
        assert (tmp_path / "paths.png").stat().st_size > 1000
