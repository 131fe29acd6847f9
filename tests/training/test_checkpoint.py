import json
import random

import numpy as np
import pytest
import torch

from pydisent import _atomic, systems
from pydisent.training import checkpoint

SHAPE = (1, 16, 16)


def _system(updates=0, **settings):
    config = systems.override(systems.preset("spectral-gan", "smoke", "sprites").config, settings)
    torch.manual_seed(0)
    system = systems.build("spectral-gan", config, SHAPE)
    system.start_phase("train")
    for _ in range(updates):
        system.step(torch.rand(8, *SHAPE))
    return system


def _save(folder, system, step, **options):
    return checkpoint.save_checkpoint(
        folder, system, step, 1.5, [checkpoint.rng_state()], **options
    )


def _same(a, b):
    """Whether two nested structures hold bit for bit the same."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b))
    return a == b


@pytest.mark.parametrize("phase", ["train", "encoder"])
def test_weights_and_optimizers_come_back_bit_for_bit(tmp_path, phase):
    system = _system(2)
    if phase == "encoder":
        system.start_phase(phase)
        system.step(torch.rand(8, *SHAPE))
    saved = _save(tmp_path, system, 3)
    other = _system()
    state = checkpoint.load_training(saved, other)
    assert (state["step"], state["seconds"]) == (3, 1.5)
    assert (other.phase, other.phase_step) == (phase, system.phase_step)
    assert _same(other.state_dict(), system.state_dict())
    for name, optimizer in system.optimizers.items():
        assert _same(other.optimizers[name].state_dict(), optimizer.state_dict())


def test_generators_come_back():
    def draw():
        return random.random(), np.random.rand(), torch.rand(3).tolist()  # noqa: NPY002

    random.gauss(0, 1)
    state = json.loads(json.dumps(checkpoint.rng_state()))
    expected = draw()
    assert draw() != expected
    checkpoint.set_rng_state(state)
    assert draw() == expected


def test_only_the_newest_are_kept(tmp_path):
    system = _system()
    for step in (1, 20, 300):
        _save(tmp_path, system, step, keep=2)
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-00000020", "step-00000300"]
    assert checkpoint.latest_checkpoint(tmp_path).name == "step-00000300"
    files = {p.name for p in checkpoint.latest_checkpoint(tmp_path).iterdir()}
    assert files == {"model.safetensors", "optimizers.safetensors", "state.json"}


class _PowerCut(BaseException):
    pass


def _cut(monkeypatch, calls):
    """Let that many file operations pass, then stop as a power cut would."""
    left = [calls]

    def limited(function):
        def call(*arguments, **named):
            if left[0] == 0:
                raise _PowerCut
            left[0] -= 1
            return function(*arguments, **named)

        return call

    for owner, name in (
        (checkpoint.os, "rename"), (_atomic.os, "replace"), (checkpoint, "sync"), (_atomic, "sync"),
        (checkpoint.shutil, "rmtree"), (checkpoint, "save"), (checkpoint.Path, "mkdir"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, limited(getattr(owner, name)))


def test_a_stop_anywhere_leaves_a_whole_checkpoint(tmp_path, monkeypatch):
    old, new = _system(1), _system(2)
    outcomes = []
    for calls in range(40):
        folder = tmp_path / str(calls)
        _save(folder, old, 1, keep=1)
        with monkeypatch.context() as patch:
            _cut(patch, calls)
            try:
                _save(folder, new, 2, keep=1)
                finished = True
            except _PowerCut:
                finished = False
        checkpoint.discard_unfinished(folder)
        loaded = _system()
        step = checkpoint.load_training(checkpoint.latest_checkpoint(folder), loaded)["step"]
        assert _same(loaded.state_dict(), {1: old, 2: new}[step].state_dict())
        assert checkpoint.latest_checkpoint(folder).name == f"step-{step:08d}"
        _save(folder, new, 3, keep=1)
        assert [p.name for p in folder.glob("step-*")] == ["step-00000003"]
        outcomes.append(step)
        if finished:
            break
    assert finished
    assert outcomes[0] == 1
    assert outcomes == sorted(outcomes)
    assert len(outcomes) > 8


def test_no_checkpoint_is_none_and_a_damaged_one_an_error(tmp_path):
    assert checkpoint.latest_checkpoint(tmp_path / "nowhere") is None
    saved = _save(tmp_path, _system(), 1)
    with pytest.raises(ValueError, match="does not fit spectral-gan"):
        checkpoint.load_weights(saved, _system(base=8))
    (saved / "state.json").write_text("{")
    with pytest.raises(ValueError, match=r"state\.json is not valid JSON"):
        checkpoint.load_weights(saved, _system())
    (saved / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks model\.safetensors"):
        checkpoint.latest_checkpoint(tmp_path)


def test_moments_come_back_in_the_layout_of_their_weights(tmp_path):
    """Fused steps walk weights and moments in the order of memory, not of indices."""
    config = systems.preset("vae", "smoke", "sprites").config
    trained, loaded = (systems.build("vae", config, SHAPE) for _ in range(2))
    images = torch.rand(8, *SHAPE)
    for _ in range(2):
        trained.step(images)
    checkpoint.load_training(_save(tmp_path, trained, 2), loaded)
    moments = loaded.optimizers["vae"].state
    kernels = [p for p in loaded.parameters() if p.ndim == 4 and p.shape[1] > 1]
    assert kernels
    for kernel in kernels:
        assert kernel.is_contiguous(memory_format=torch.channels_last)
        assert moments[kernel]["exp_avg"].stride() == kernel.stride()
    for system in (trained, loaded):
        torch.manual_seed(1)
        system.step(images)
    assert _same(loaded.state_dict(), trained.state_dict())


def _three(folder):
    for updates in (1, 2, 3):
        _save(folder, _system(updates), updates, keep=3)
    return _contents(folder)


def _contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("pointer", [None, "", "step-00000001", "step-00000009", "../step"])
def test_the_newest_whole_checkpoint_counts_whatever_latest_says(tmp_path, pointer):
    before = _three(tmp_path)
    (tmp_path / "latest").unlink()
    if pointer is not None:
        (tmp_path / "latest").write_text(pointer)
    checkpoint.discard_unfinished(tmp_path)
    assert checkpoint.latest_checkpoint(tmp_path).name == "step-00000003"
    after = _contents(tmp_path)
    assert all(after[name] == data for name, data in before.items() if name != "latest")


@pytest.mark.parametrize("file", ["model.safetensors", "optimizers.safetensors", "state.json"])
def test_a_flipped_bit_anywhere_is_noticed(tmp_path, file):
    saved = _save(tmp_path, _system(1), 1)
    data = (saved / file).read_bytes()
    places = random.Random(0).sample(range(8 * len(data)), 40)
    for place in (0, *places, 8 * len(data) - 1):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        (saved / file).write_bytes(changed)
        with pytest.raises(ValueError, match=file.replace(".", r"\.")):
            checkpoint.latest_checkpoint(tmp_path)
        with pytest.raises(ValueError, match=file.replace(".", r"\.")):
            checkpoint.load_training(saved, _system())


def test_a_damaged_newest_is_set_aside_with_a_warning_and_saved_again(tmp_path):
    before = _three(tmp_path)
    model = tmp_path / "step-00000003" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:100])
    with pytest.warns(UserWarning, match=r"step-00000003/model\.safetensors is damaged.*skipped"):
        assert checkpoint.latest_checkpoint(tmp_path).name == "step-00000002"
    for _ in range(2):  # the same may happen again
        with pytest.warns(UserWarning, match=r"moved to .*damaged-step-00000003"):
            checkpoint.discard_unfinished(tmp_path)
        assert checkpoint.steps_kept(tmp_path) == [1, 2]
        _save(tmp_path, _system(3), 3, keep=3)
        assert (
            _contents(tmp_path).items()
            >= {name: data for name, data in before.items() if "state" not in name}.items()
        )  # the states of the generators are others
        model.write_bytes(b"")


def test_if_none_is_whole_all_are_named_and_kept(tmp_path):
    _three(tmp_path)
    for path in tmp_path.glob("step-*/optimizers.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    before = _contents(tmp_path)
    for look in (checkpoint.latest_checkpoint, checkpoint.discard_unfinished):
        with pytest.raises(ValueError, match=r"no checkpoint in .* is intact: .*03/.*02/.*01/"):
            look(tmp_path)
    assert _contents(tmp_path) == before


def test_checkpoints_from_before_checksums_still_load(tmp_path):
    saved = _save(tmp_path, _system(2), 2)
    state = json.loads((saved / "state.json").read_text())
    del state["sha256"], state["attribute_names"]
    (saved / "state.json").write_text(json.dumps(state))
    loaded = _system()
    checkpoint.load_training(checkpoint.latest_checkpoint(tmp_path), loaded)
    assert _same(loaded.state_dict(), _system(2).state_dict())


def test_a_learning_rate_in_a_tensor_comes_back_as_one(tmp_path):
    def with_rate(rate):
        system = _system()
        system.optimizers["encoder"] = torch.optim.Adam(
            system.encoder.parameters(), torch.tensor(rate)
        )
        return system

    saved = _save(tmp_path, with_rate(0.3), 0)
    other = with_rate(0.1)
    checkpoint.load_training(saved, other)
    (group,) = other.optimizers["encoder"].param_groups
    assert torch.equal(group["lr"], torch.tensor(0.3))
