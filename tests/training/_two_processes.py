"""What each of two processes does for test_parallel.py; started as torchrun starts them.

Usage: _two_processes.py FOLDER. The results go to FOLDER/RANK.json: {"cases": {case: errors} of
each second case, "checks": {check: traceback or None}}, up to the first check that fails.
"""

import copy
import json
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path

import _shared_batches
import pytest
import torch
import torch.distributed as dist
from torch import nn

import pydisent
from pydisent import parallel, systems
from pydisent.nn import normalize_whole_batches
from pydisent.training import Interrupted, NonFiniteError, Plan, train
from pydisent.training import checkpoint as checkpoints

PLAN = {"system": "factor-vae", "preset": "smoke", "steps": 60}
STOP = 13


def _random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def check_rows_are_gathered_in_order():
    whole = _random(6, 3)
    own = parallel.own_rows(whole)
    assert own.shape == (3, 3)
    assert torch.equal(parallel.gather(own), whole)
    two = parallel.own_rows(torch.cat([whole, -whole]), batches=2)
    assert torch.equal(two, torch.cat([own, -own]))
    assert torch.equal(parallel.gather(parallel.own_rows(whole[:, 0])), whole[:, 0])
    with pytest.raises(ValueError, match=r"whole must be a multiple of 2 batches .* long, got 6"):
        parallel.own_rows(whole, batches=2)


def check_gathered_rows_have_derivatives_of_second_order():
    def scores(x):
        return x.cos() * x.std(0) + (x**3).mean(0)

    def slope(x, logits):
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        return gradient.square().mean()

    whole = _random(6, 3).requires_grad_()
    (wanted,) = torch.autograd.grad(slope(whole, scores(whole)), whole)
    own = parallel.own_rows(whole).detach().requires_grad_()
    loss = slope(own, parallel.own_rows(scores(parallel.gather(own))))
    (found,) = torch.autograd.grad(loss, own)
    # What is differentiated is the sum of the processes' means.
    torch.testing.assert_close(found / 2, parallel.own_rows(wanted))


def check_totals():
    own = torch.full((2,), float(parallel.rank() + 1)).requires_grad_()
    total = parallel.total(own)
    assert total.tolist() == [3.0, 3.0]
    assert parallel.average(own).tolist() == [1.5, 1.5]
    (gradient,) = torch.autograd.grad(total.square().sum() * (parallel.rank() + 1), own)
    assert gradient.tolist() == [18.0, 18.0]  # 2 * 3, once from the first and twice from the other
    assert parallel.highest(parallel.rank() * 15) == 15
    assert parallel.averages([1.0, parallel.rank()]) == [1.0, 0.5]


def check_noise_is_the_whole_batchs():
    whole = torch.empty(8, 3, 5, 7)
    last = whole.to(memory_format=torch.channels_last)
    for like, batches in ((whole, 1), (whole, 2), (last, 1), (last, 2), (last[:, :1], 2)):
        torch.manual_seed(2)
        wanted = torch.randn_like(like)
        torch.manual_seed(2)
        found = parallel.randn_like(parallel.own_rows(like, batches), batches)
        assert torch.equal(found, parallel.own_rows(wanted, batches))
    torch.manual_seed(2)
    wanted = torch.randperm(6)
    torch.manual_seed(2)
    assert torch.equal(parallel.gather(parallel.draw(torch.randperm, 3)), wanted)


def check_batch_norms_take_the_whole_batch():
    for norm, shape in (
        (nn.BatchNorm1d(3), (6, 3)),
        (nn.BatchNorm1d(3, momentum=None), (6, 3, 4)),
        (nn.BatchNorm2d(3, affine=False), (6, 3, 2, 2)),
        (nn.BatchNorm2d(3, track_running_stats=False), (6, 3, 2, 2)),
        (nn.BatchNorm3d(3, eps=0.1), (2, 3, 2, 2, 2)),
    ):
        shared = nn.Sequential(copy.deepcopy(norm))
        parameters = list(shared.parameters())
        normalize_whole_batches(shared)
        assert all(a is b for a, b in zip(parameters, shared.parameters(), strict=True))
        whole = _random(*shape).requires_grad_()
        own = parallel.own_rows(whole).detach().requires_grad_()
        for _ in range(2):
            wanted, found = norm(whole), shared(own)
            torch.testing.assert_close(found, parallel.own_rows(wanted))
            wanted.cos().mean().backward()
            found.cos().mean().backward()
        torch.testing.assert_close(own.grad / 2, parallel.own_rows(whole.grad))
        parallel.average_gradients(parameters)
        for a, b in zip(shared[0].parameters(), norm.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad)
        torch.testing.assert_close(shared[0].state_dict(), norm.state_dict())
        torch.testing.assert_close(shared.eval()(own), parallel.own_rows(norm.eval()(whole)))


def check_batch_norms_keep_their_dtype():
    norm = nn.Sequential(nn.BatchNorm2d(3).float())
    normalize_whole_batches(norm)
    x = _random(4, 3, 2, 2).bfloat16()
    native, exact = nn.BatchNorm2d(3).float()(x), nn.BatchNorm2d(3).double()(x.double())
    found = norm(parallel.own_rows(x))
    assert found.dtype == torch.bfloat16
    error = (found - parallel.own_rows(exact)).abs().max()
    assert error <= 2 * (native - exact).abs().max() + 1e-6
    normalize_whole_batches(norm)  # nothing is left to do

    class Own(nn.BatchNorm1d):
        pass

    with pytest.raises(TypeError, match=r"batch norms must be of BatchNorm1d, .*, got Own"):
        normalize_whole_batches(nn.Sequential(Own(3)))


def check_gradients_are_averaged_over_processes():
    conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    half, unused = nn.Parameter(torch.zeros(2).half()), nn.Parameter(torch.zeros(2))
    wanted = _random(4, 3, 3, 3)
    conv.weight.grad = (wanted * (1 + parallel.rank())).to(memory_format=torch.channels_last)
    half.grad = torch.full((2,), 2.0 * parallel.rank()).half()
    parallel.average_gradients([conv.weight, half, unused])
    torch.testing.assert_close(conv.weight.grad, 1.5 * wanted)
    assert half.grad.tolist() == [1.0, 1.0]
    assert unused.grad is None
    counts = torch.tensor([parallel.rank()])
    parallel.copy_from_first([half.grad, counts])
    assert counts.item() == 0


def check_the_alignment_penalty_leaves_out_what_one_process_would():
    z = torch.tensor([0.01, 0.1, 0.2, 1.0, 2.0, 3.0])[:, None] * _random(6, 5)
    probe = _random(6, 5, 2).sign()

    def slope(z, probe, method):
        weight = nn.Parameter(_random(5, 7))
        pydisent.alignment_penalty(
            lambda z: torch.tanh(z @ weight) * z.square().sum(1, keepdim=True),
            z, k=2, iterations=3, probe=probe, method=method, tolerance=0.1,
        ).backward()  # fmt: skip
        parallel.average_gradients([weight])
        return weight.grad

    for method in ("gram", "matrix_free"):
        found = slope(parallel.own_rows(z), parallel.own_rows(probe), method)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parallel, "_now", parallel._Processes())
            wanted = slope(z, probe, method)
        torch.testing.assert_close(found, wanted)


class _OfItsOwn(Exception):
    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")


def check_an_error_of_one_is_raised_by_all():
    def fail(rank, error):
        with parallel.together():
            if rank in (None, parallel.rank()):
                raise error

    with pytest.raises(FileExistsError, match="is taken"):
        fail(1, FileExistsError("it is taken"))
    with pytest.raises(Exception, match="one and other"):
        fail(0, _OfItsOwn("one", "other"))
    with pytest.raises(ValueError, match=f"from {parallel.rank()}"):
        fail(None, ValueError(f"from {parallel.rank()}"))


def _plan():
    return Plan.from_preset(**PLAN)


def _train(path, **options):
    return train(_plan(), path, accelerator="cpu", threads=1, progress=False, **options)


def _step_that(act):
    """Let `act(step)` be called before every update."""
    original, steps = systems.System.step, iter(range(1, 10**6))

    def step(self, *batch):
        act(next(steps))
        return original(self, *batch)

    patch = pytest.MonkeyPatch()
    patch.setattr(systems.System, "step", step)
    return patch


def check_training(folder):
    _train(folder / "whole")


def check_a_signal_to_one_process_stops_and_saves_all(folder):
    def signalled(step):
        if step == STOP and dist.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    patch = _step_that(signalled)
    with pytest.raises(Interrupted, match=f"SIGTERM at step {STOP}"):
        _train(folder / "stopped")
    patch.undo()
    if dist.get_rank() == 0:
        shutil.copytree(folder / "stopped", folder / "left")
    _train(folder / "stopped", resume=True)


def check_a_loss_that_is_not_finite_on_one_process_ends_all(folder):
    def poison(self, *_):
        bad = dist.get_rank() == 1 and self.phase_step == 7
        return {"loss": torch.tensor(float("nan") if bad else 1.0)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(systems.VAE, "update", poison)
        patch.setattr(systems.FactorVAE, "update", poison)
        with pytest.raises(NonFiniteError, match=r"loss 'loss' is nan at step 8.*step-00000005"):
            _train(folder / "poisoned")


def check_an_error_while_saving_ends_all(folder):
    def full(*_):
        raise OSError("no space left")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "save_checkpoint", full)
        with pytest.raises(OSError, match="no space left"):
            _train(folder / "full")


def check_devices_must_be_those_that_were_started(folder):
    with pytest.raises(ValueError, match="devices must be torchrun's 2 processes, got 3"):
        _train(folder / "three", devices=3)


SHARING = [
    check_rows_are_gathered_in_order,
    check_gathered_rows_have_derivatives_of_second_order,
    check_totals,
    check_noise_is_the_whole_batchs,
    check_batch_norms_take_the_whole_batch,
    check_batch_norms_keep_their_dtype,
    check_gradients_are_averaged_over_processes,
    check_the_alignment_penalty_leaves_out_what_one_process_would,
    check_an_error_of_one_is_raised_by_all,
]
RUNS = [
    check_training,
    check_a_signal_to_one_process_stops_and_saves_all,
    check_a_loss_that_is_not_finite_on_one_process_ends_all,
    check_an_error_while_saving_ends_all,
    check_devices_must_be_those_that_were_started,
]


def _do_all(folder, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for check in RUNS:
        results["checks"][check.__name__] = "did not end"
        check(folder)
        results["checks"][check.__name__] = None
    torch.set_default_dtype(torch.float64)
    for check in SHARING:
        results["checks"][check.__name__] = "did not end"
        with parallel.data_parallel():
            check()
        results["checks"][check.__name__] = None
    cases = _shared_batches.CASES
    with parallel.data_parallel():
        found = {case: _shared_batches.trained(*cases[case]) for case in cases}
    for case in list(cases)[dist.get_rank() :: 2]:
        wanted = _shared_batches.trained(*cases[case])
        results["cases"][case] = _shared_batches.errors(found[case], wanted)


def main(folder):
    results = {"cases": {}, "checks": {}, "error": None}
    try:
        _do_all(folder, results)
    except Exception:
        results["error"] = traceback.format_exc()
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
