"""The penalty while a CUDA graph is captured: nothing may be read back from the device."""

import pytest
import torch
from _capturing import pretend
from torch import nn
from torch.profiler import ProfilerActivity, profile

from pydisent import alignment_penalty
from pydisent.nn import DCGANGenerator

#: Operations that wait for the device and read from it, or that CUDA graphs cannot hold.
READS = {"aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::nonzero",
         "aten::_linalg_eigh", "aten::linalg_qr", "aten::equal", "aten::masked_select",
         "aten::unique_dim", "aten::_unique2", "aten::lift_fresh"}  # fmt: skip
OPTIONS = {"k": 2, "iterations": 3}


@pytest.fixture
def capturing(monkeypatch):
    return lambda: pretend(monkeypatch)


def _generator(device="cpu"):
    torch.manual_seed(0)
    return DCGANGenerator(5, 1, 4, 16).to(device)


def _gradients(generator, z, probe, **options):
    if "rank" not in options:
        options = {"tolerance": 0, **options}
    penalty = alignment_penalty(generator, z, probe=probe, **OPTIONS, **options)
    parameters = list(generator.parameters())
    return [penalty.detach(), *torch.autograd.grad(penalty, parameters, materialize_grads=True)]


def test_nothing_is_read_from_the_device(capturing):
    generator, z, probe = _generator(), torch.randn(3, 5), torch.randn(3, 5, 2).sign()

    def run(**options):
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            found = _gradients(generator, z, probe, **options)
        return found, READS & {event.key for event in seen.key_averages()}

    want, _ = run(method="gram")
    _, read = run(tolerance=1e-3, method="gram")
    assert read >= {"aten::item", "aten::_linalg_eigh"}
    capturing()
    got, read = run()
    assert not read
    assert all(map(torch.equal, got, want))
    for method in ("gram", "matrix_free"):
        _, read = run(rank=3, method=method)
        assert not read


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tolerance": 0.5}, r"tolerance must be 0, or rank be given, while .* graph .* got 0\.5"),
        ({"method": "matrix_free"}, "rank must be given while a CUDA graph is captured, .* None"),
    ],
)
def test_what_would_read_is_refused(capturing, options, words):
    generator, z, probe = _generator(), torch.randn(3, 5), torch.randn(3, 5, 2)
    capturing()
    with pytest.raises(ValueError, match=words):
        _gradients(generator, z, probe, **options)


def test_random_numbers_are_refused(capturing):
    generator = nn.Sequential(nn.Linear(5, 6), nn.Dropout(), nn.Linear(6, 7))
    z, probe = torch.randn(3, 5), torch.randn(3, 5, 2)
    _gradients(generator, z, probe)
    capturing()
    with pytest.raises(RuntimeError, match="draw no random numbers while a CUDA graph is captured"):
        _gradients(generator, z, probe)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    "options", [{}, {"rank": 3, "method": "gram"}, {"rank": 3, "method": "matrix_free"}]
)
def test_a_replayed_graph_computes_the_penalty_of_new_codes(options):
    generator = _generator("cuda")
    z = torch.randn(3, 5, device="cuda")
    probe = torch.randn(3, 5, 2, device="cuda").sign()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            _gradients(generator, z, probe, **options)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = _gradients(generator, z, probe, **options)
    for _ in range(2):
        z.normal_()
        graph.replay()
        torch.testing.assert_close(found, _gradients(generator, z, probe, **options))
