"""Metrics of tables, batch by batch, are those of the whole table."""

import pickle
from pathlib import Path

import pytest
import torch

from pydisent import metrics

torchmetrics = pytest.importorskip("torchmetrics")
from pydisent.metrics.torchmetrics import DCI, MCC, MIG, SAP, InfoMEC, Modularity  # noqa: E402

KINDS = [
    (MIG, metrics.mig, {"bins": 7}),
    (SAP, metrics.sap, {"variant": "continuous"}),
    (DCI, metrics.dci, {"seed": 3}),
    (Modularity, metrics.modularity, {}),
    (MCC, metrics.mcc, {"correlation": "spearman"}),
    (InfoMEC, metrics.infomec, {"seed": 1}),
]


def table(rows=90, seed=0):
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randint(0, 3, (rows, 2), generator=generator)
    noise = torch.randn(rows, 3, generator=generator)
    return noise + torch.nn.functional.pad(factors.float(), (0, 1)), factors


def test_there_is_one_for_each_function():
    assert {kind.__name__.lower() for kind, _, _ in KINDS} == {
        function.__name__ for _, function, _ in KINDS
    }


@pytest.mark.parametrize(("kind", "function", "options"), KINDS)
def test_batches_give_the_figures_of_the_table(kind, function, options):
    codes, factors = table()
    expected = function(codes, factors, **options)
    metric = kind(**options)
    for rows in torch.arange(90).split(32):
        metric.update(codes[rows].requires_grad_(), factors[rows])
    score = metric.compute()
    assert score.dtype == torch.float64
    assert score.item() == expected.score
    assert metric.result == expected

    again = pickle.loads(pickle.dumps(metric))
    assert again.compute().item() == expected.score

    metric.reset()
    assert metric.result is None
    metric.update(codes[:50], factors[:50] > 0)
    assert metric.compute().item() == function(codes[:50], factors[:50] > 0, **options).score


def test_a_collection_and_a_forward_pass():
    codes, factors = table()
    both = torchmetrics.MetricCollection([MIG(), MCC()])
    step = both(codes[:45], factors[:45])
    assert step["MIG"].item() == metrics.mig(codes[:45], factors[:45]).score
    both.update(codes[45:], factors[45:])
    found = both.compute()
    assert found["MIG"].item() == metrics.mig(codes, factors).score
    assert found["MCC"].item() == metrics.mcc(codes, factors).score


def test_samples_move_with_the_metric():
    codes, factors = table()
    metric = MIG()
    metric.update(codes, factors)
    moved = metric.to("meta")
    assert all(one.device.type == "meta" for one in (*moved.codes, *moved.factors))
    metric = MCC()
    metric.update(codes.bfloat16(), factors)
    assert metric.compute().item() == metrics.mcc(codes.bfloat16(), factors).score


def test_nothing_to_compute():
    with (
        pytest.warns(UserWarning, match="before the ``update`` method"),
        pytest.raises(ValueError, match="codes must be given by update before compute"),
    ):
        MIG().compute()


@pytest.mark.parametrize(
    ("codes", "factors", "error", "words"),
    [
        (torch.ones(4), torch.ones(4, 2, dtype=int), ValueError, r"codes must be \(N, d\)"),
        (torch.full((4, 2), torch.nan), torch.ones(4, 2, dtype=int), ValueError, "be finite"),
        (torch.ones(4, 2), torch.ones(4, 2), TypeError, "factors must be integers"),
        (torch.ones(4, 2), torch.ones(3, 2, dtype=int), ValueError, r"\(B, f\) for B = 4 codes"),
        (torch.ones(4, 2), torch.ones(4, dtype=int), ValueError, r"\(B, f\) for B = 4 codes"),
        (torch.ones(4, 3), torch.ones(4, 2, dtype=int), ValueError, "codes must have 2 columns"),
        (torch.ones(4, 2), torch.ones(4, 1, dtype=int), ValueError, "factors must have 2 columns"),
        ([[1.0]], torch.ones(1, 1, dtype=int), TypeError, "codes must be a torch.Tensor, got list"),
    ],
)
def test_bad_batches_are_refused_and_leave_no_trace(codes, factors, error, words):
    metric = MIG()
    metric.update(torch.ones(4, 2), torch.ones(4, 2, dtype=int))
    with pytest.raises(error, match=words):
        metric.update(codes, factors)
    assert [len(metric.codes), len(metric.factors)] == [1, 1]


def test_errors_are_those_of_the_function():
    metric = MIG()
    metric.update(*table(10))
    with pytest.raises(ValueError, match="at least as many rows as bins, 20, got 10"):
        metric.compute()


def process(rank, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    codes, factors = table()
    mine = [slice(0, 20), slice(20, 33)] if rank == 0 else [slice(33, 90)]
    shared, one_sided = MIG(), MCC()
    for rows in mine:
        shared.update(codes[rows], factors[rows])
    if rank == 1:
        one_sided.update(codes, factors)
    own = len(shared.codes)
    found = [shared.compute().item(), one_sided.compute().item()]
    assert len(shared.codes) == own  # gathered for the score alone
    unlike = MCC()
    unlike.update(codes[:, : 2 + rank], factors)
    try:
        unlike.compute()
    except ValueError as error:
        found.append("same columns and types" in str(error))
    Path(folder, f"{rank}.pickle").write_bytes(pickle.dumps(found))
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch has no processes")
def test_two_processes_score_the_samples_of_both(tmp_path):
    torch.multiprocessing.spawn(process, (str(tmp_path),), nprocs=2)
    codes, factors = table()
    expected = [metrics.mig(codes, factors).score, metrics.mcc(codes, factors).score, True]
    for rank in (0, 1):
        assert pickle.loads((tmp_path / f"{rank}.pickle").read_bytes()) == expected


def test_memory_of_a_batch_may_be_written_to_again():
    codes, factors = table()
    metric, code, factor = MIG(), torch.empty(30, 3), torch.empty(30, 2, dtype=torch.int64)
    for rows in torch.arange(90).split(30):
        metric.update(code.copy_(codes[rows]), factor.copy_(factors[rows]))
    assert metric.compute().item() == metrics.mig(codes, factors).score
