"""The bytes and operations that the benches count, by hand."""

import pytest
import torch

from pydisent.ops.registry import REGISTRY


def test_floors_of_the_step_by_hand(bench):
    """4,096 rows through the paper's generator are 0.86 TFLOP."""
    stages = bench("_stages")
    from pydisent.nn import DCGANGenerator

    layers = stages.layers_of(DCGANGenerator(128, 3, 64, 64), torch.randn(1, 128))
    pixels = [16, 64, 256, 1024]
    convolutions = [(512, 256), (256, 128), (128, 64), (64, 3)]
    products = 128 * 8192 + sum(16 * a * b * n for (a, b), n in zip(convolutions, pixels))
    assert sum(flops for flops, _, _ in layers) == 2 * products
    assert 2 * products * 4096 == pytest.approx(0.86e12, rel=0.01)
    numbers = 128 + 8192 + sum(a * n + 4 * b * n for (a, b), n in zip(convolutions, pixels))
    numbers += 2 * (8192 + 256 * 64 + 128 * 256 + 64 * 1024)
    assert sum(read + written for _, read, written in layers) == numbers
    top = {"copy_gb_s": 1e-3, "fp32_tflop_s": 1e6, "bf16_tflop_s": 1e6}  # a megabyte a second
    assert stages.floor_of(layers, 10, top, "bf16") == pytest.approx(2 * numbers * 10 / 1e6)
    assert bench("_work").floor(4, 6, {"copy_gb_s": 1e-9, "fp32_tflop_s": 1e-12}, "fp32") == (
        6, "operations")  # fmt: skip


def test_every_op_has_a_problem_and_its_work(bench):
    work = bench("_work")
    for name in work.OPS:
        spec = REGISTRY[name].spec
        args = work.problem(name, "tiny", torch.float32, "cpu")
        forward = work.work(name, args)
        assert min(forward) > 0
        if not spec.written:
            both = work.work(name, args, backward=True)
            assert both > forward
            assert both[1] > forward[1]
        for size in ("tiny", "small", "medium", "large"):
            assert len(getattr(spec.sizes, size)) == len(spec.sizes.axes.split())


def test_work_of_a_pass_counted_by_hand(bench):
    """B 4, d 3: each number in float32 is read, or written, once."""
    work = bench("_work").work
    mu, logvar, noise = (torch.zeros(4, 3) for _ in range(3))
    numbers = 4 * mu.numel()
    assert work("gaussian_kl", (mu, logvar))[0] == 3 * numbers
    assert work("gaussian_kl", (mu, logvar), True)[0] == (3 + 5) * numbers
    # Two gradients and three inputs are read, and three gradients written.
    assert work("reparameterized_sample", (mu, logvar, noise), True)[0] == (5 + 8) * numbers
