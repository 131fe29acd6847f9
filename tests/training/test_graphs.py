import copy
import warnings

import pytest
import torch
from _tape import pretend

from pydisent import systems
from pydisent.training import Plan, train
from pydisent.training.graphs import WARM_UP, GraphedSteps

KEYED = ("vae", "beta-vae", "annealed-vae", "dip-vae-2", "factor-vae", "beta-tcvae",
         "gan", "infogan", "ib-gan")  # fmt: skip


def _system(name, **settings):
    config = systems.override(systems.preset(name, "smoke", "sprites").config, settings)
    torch.manual_seed(0)
    system = systems.build(name, config, (1, 16, 16))
    system.dataset_size = 1000
    system.start_phase(system.phases(1)[0][0])
    return system


def test_which_systems_have_steps_that_can_be_captured():
    keyed = {
        name
        for name in systems.names()
        if name not in ("attribute-ae", "jacobian-ae") and _system(name).graph_key() is not None
    }
    assert keyed >= set(KEYED)
    assert not keyed & {"spectral-gan", "ps-sc"}
    assert _system("spectral-gan", rank=2).graph_key()


@pytest.mark.parametrize(
    ("settings", "captured"),
    [
        ({"tolerance": 0.0, "method": "gram"}, [True] * 4),
        ({"tolerance": 0.0}, [False] * 4),
        ({"rank": 2, "method": "matrix_free"}, [True] * 4),
        ({"interval": 2}, [False, True] * 2),
        ({"rank": 2, "ema_decay": 0.25}, [False] * 2 + [True] * 2),
    ],
)
def test_which_updates_with_the_penalty_can_be_captured(settings, captured):
    system, found = _system("spectral-gan", **settings), []
    for _ in captured:
        found.append(system.graph_key() is not None)
        system.phase_step += 1
    assert found == captured
    system.start_phase("encoder")
    assert system.graph_key()


def test_that_no_update_with_the_penalty_is_captured_is_said_once(monkeypatch):
    monkeypatch.setattr("pydisent._notice._given", set())
    system = _system("spectral-gan")
    with pytest.warns(UserWarning, match="only if `rank` is set"):
        assert system.graph_key() is None
    with warnings.catch_warnings(action="error"):
        assert system.graph_key() is None


@pytest.mark.parametrize("method", ["auto", "matrix_free"])
def test_replayed_updates_with_the_penalty_are_ordinary_ones(method, monkeypatch):
    """To the bit, in each kind of update and in the encoder's phase, on new codes and images."""
    settings = {
        "rank": 2, "method": method, "interval": 2, "sub_batch": 4, "r1_weight": 1.0,
        "r1_interval": 2, "ema_decay": 0.1,
    }  # fmt: skip
    plain = _system("spectral-gan", **settings)
    graphed = copy.deepcopy(plain)
    pretend(monkeypatch, graphed)
    images = torch.rand(10, plain.images_per_step, 1, 16, 16)
    steps = {"plain": plain.step, "graphed": GraphedSteps(graphed)}
    logs = {}
    for (way, step), system in zip(steps.items(), (plain, graphed)):
        torch.manual_seed(1)
        logs[way] = [step(batch) for batch in images]
        system.start_phase("encoder")
        logs[way] += [step(batch) for batch in images[: WARM_UP + 2]]
    assert len(steps["graphed"]._captured) == 3
    assert logs["plain"] == logs["graphed"]
    assert all(map(torch.equal, plain.state_dict().values(), graphed.state_dict().values()))


@pytest.mark.parametrize(
    "settings",
    [
        {"regularizer": "path-length", "regularizer_interval": 2},
        {"regularizer": "jacobian-clamping", "regularizer_directions": 2},
        {"regularizer": "log-determinant", "regularizer_rank": 4},
    ],
)
def test_replayed_updates_with_a_regularizer_are_ordinary_ones(settings, monkeypatch):
    plain = _system("spectral-gan", **settings)
    graphed = copy.deepcopy(plain)
    pretend(monkeypatch, graphed)
    images = torch.rand(10, plain.images_per_step, 1, 16, 16)
    steps = {"plain": plain.step, "graphed": GraphedSteps(graphed)}
    logs = {}
    for way, step in steps.items():
        torch.manual_seed(1)
        logs[way] = [step(batch) for batch in images]
    assert len(steps["graphed"]._captured) == settings.get("regularizer_interval", 1)
    assert logs["plain"] == logs["graphed"]
    assert all(map(torch.equal, plain.state_dict().values(), graphed.state_dict().values()))


def test_noise_that_ends_is_another_kind_of_step():
    system = _system("ib-gan", noise_start=1.0, noise_end=0.0, noise_steps=2)
    images = torch.rand(8, 1, 16, 16)
    keys = []
    for _ in range(4):
        keys.append(system.graph_key())
        system.step(images)
    assert keys == [("train", True, False)] * 2 + [("train", False, False)] * 2


def test_only_a_gpu_has_graphs(tmp_path):
    with pytest.raises(ValueError, match="system must be on a CUDA device, got cpu"):
        GraphedSteps(_system("vae"))
    plan = Plan.from_preset("vae", preset="smoke")
    with pytest.raises(ValueError, match=r"cuda_graphs must be off .*, got 1 x cpu"):
        train(plan, tmp_path / "run", accelerator="cpu", cuda_graphs=True, progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", [*KEYED, "spectral-gan"])
def test_graphs_train_as_ordinary_steps_do(name):
    settings = {"rank": 2, "method": "gram"} if name == "spectral-gan" else {}
    plain = _system(name, **settings).cuda()
    graphed = copy.deepcopy(plain)
    steps = {"plain": plain.step, "graphed": GraphedSteps(graphed)}
    images = torch.rand(12, plain.images_per_step, 1, 16, 16, device="cuda")
    logs = {}
    for way, step in steps.items():
        torch.manual_seed(1)
        logs[way] = [step(batch) for batch in images]
    assert steps["graphed"]._captured
    for number, (ours, theirs) in enumerate(zip(logs["graphed"], logs["plain"])):
        assert ours.keys() == theirs.keys()
        if number <= WARM_UP:  # later ones drift apart by rounding, as GANs do
            for key, value in theirs.items():
                torch.testing.assert_close(ours[key], value, rtol=1e-3, atol=1e-3)
    assert graphed.phase_step == plain.phase_step == 12
    moved = [
        not torch.equal(a, b)
        for (key, a), b in zip(
            graphed.named_parameters(), _system(name, **settings).cuda().parameters()
        )
        if a.requires_grad and not (name == "spectral-gan" and key.startswith("encoder"))
    ]
    assert all(moved)
