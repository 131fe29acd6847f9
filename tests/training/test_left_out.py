"""Systems saved without what only training uses, and in half precision."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file

from pydisent import systems
from pydisent.cli import main
from pydisent.systems import LeftOutError
from pydisent.training import Plan, RunFolder, from_pretrained, open_run, train
from pydisent.training.checkpoint import rng_state, save_checkpoint

SYSTEMS = (
    "spectral-gan", "gan", "ib-gan", "ps-sc", "factor-vae", "jacobian-ae", "attribute-ae", "vae"
)  # fmt: skip


@pytest.fixture(params=SYSTEMS)
def built(request):
    """A system in its last phase, with weights unlike fresh ones."""
    torch.manual_seed(1)
    preset = systems.preset(request.param, "smoke", systems.default_data(request.param))
    system = systems.build(request.param, preset.config, (3, 16, 16))
    for phase, _ in system.phases(1):
        system.start_phase(phase)
    return system.eval()


def test_a_system_works_without_what_only_training_uses(built, tmp_path):
    whole = from_pretrained(built.save_pretrained(tmp_path / "whole"))
    assert whole.left_out == ()
    folder = built.save_pretrained(tmp_path / "model", inference_only=True)
    system = from_pretrained(folder)
    assert set(system.left_out) == set(built.training_parts)
    codes = built.sample_code(3, torch.Generator().manual_seed(0))
    assert torch.equal(system.sample_code(3, torch.Generator().manual_seed(0)), codes)
    images = built.decode(codes)
    assert torch.equal(system.decode(codes), images)
    assert torch.equal(system.encode(images), built.encode(images))
    masks = built.code_masks(codes)
    assert (system.code_masks(codes) is None) == (masks is None)
    if masks is not None:
        assert torch.equal(system.code_masks(codes), masks)
    again = from_pretrained(system.save_pretrained(tmp_path / "again"))
    assert again.left_out == system.left_out
    assert torch.equal(again.decode(codes), images)
    size, smaller = ((tmp_path / name / "model.safetensors").stat().st_size
                     for name in ("whole", "model"))  # fmt: skip
    assert (smaller < size) == bool(built.training_parts)


def test_a_system_without_parts_refuses_to_be_trained_on(built, tmp_path):
    system = from_pretrained(built.save_pretrained(tmp_path, inference_only=True))
    card = (tmp_path / "README.md").read_text()
    assert ("but cannot be trained on" in card) == bool(built.training_parts)
    batch = torch.rand(system.images_per_step, *system.image_shape)
    if not built.training_parts:
        system.train().step(batch)
        return
    words = re.escape(" and ".join(system.left_out))
    for use in (
        lambda: system.step(batch),
        lambda: system.optimizers,
        lambda: systems.System.start_phase(system, system.phase),
        lambda: system.get_submodule(system.left_out[0])(batch),
    ):
        with pytest.raises(LeftOutError, match=f"{system.name} cannot be trained on") as raised:
            use()
        assert re.search(f"without its ({words}|{system.left_out[0]}),", str(raised.value))


def described(folder):
    return json.loads((folder / "config.json").read_text())


def test_only_parts_of_training_can_be_left_out(tmp_path):
    config = systems.preset("factor-vae", "smoke", "digits").config
    system = systems.build("factor-vae", config, (1, 16, 16))
    with pytest.raises(ValueError, match="parts must be one of 'discriminator', got 'decoder'"):
        system.leave_out(["discriminator", "decoder"])
    assert system.left_out == ()
    system.save_pretrained(tmp_path)
    values = described(tmp_path)
    for wrong, words in ((["decoder"], "parts must be"), ([1], "entry of left_out must be str")):
        (tmp_path / "config.json").write_text(json.dumps(values | {"left_out": wrong}))
        with pytest.raises(ValueError, match=rf"config\.json: .*{words}"):
            from_pretrained(tmp_path)


def test_descriptions_of_before_parts_could_be_left_out_are_read(tmp_path):
    config = systems.preset("vae", "smoke", "digits").config
    system = systems.build("vae", config, (1, 16, 16))
    system.save_pretrained(tmp_path)
    values = described(tmp_path)
    for name in ("left_out", "dtype", "seconds"):
        values.pop(name)
    (tmp_path / "config.json").write_text(json.dumps(values))
    weights = from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(weights[key], own) for key, own in system.state_dict().items())


def test_the_command_line_says_why_it_does_not_train_on(tmp_path, capsys):
    plan = Plan.from_preset("factor-vae", "digits", "smoke", steps=3)
    folder = RunFolder(tmp_path / "run")
    train(plan, folder.path, accelerator="cpu", progress=False)
    system = open_run(folder.path).system
    system.leave_out(system.training_parts)
    shutil.rmtree(folder.checkpoints)
    save_checkpoint(folder.checkpoints, system, 3, 0.0, [rng_state()], plan=folder.plan_sum())
    assert open_run(folder.path).system.left_out == ("discriminator",)
    assert main(["train", "--plan", str(folder.config), "--out", str(folder.path), "--resume",
                 "--accelerator", "cpu"]) == 2  # fmt: skip
    assert "factor-vae cannot be trained on" in capsys.readouterr().err


def test_half_precision_rounds_parameters_alone(tmp_path):
    torch.manual_seed(0)
    config = systems.preset("gan", "smoke", "sprites").config
    system = systems.build("gan", config, (1, 16, 16))
    system.step(torch.rand(8, 1, 16, 16))
    folder = system.eval().save_pretrained(tmp_path / "half", dtype=torch.float16)
    stored, again = load_file(folder / "model.safetensors"), from_pretrained(folder)
    parameters = dict(system.named_parameters())
    for name, tensor in again.state_dict().items():
        own = system.state_dict()[name]
        assert tensor.dtype == own.dtype
        assert stored[name].dtype == (torch.float16 if name in parameters else own.dtype)
        assert torch.equal(tensor, own.half().float() if name in parameters else own)
    assert "Parameters are stored in float16" in (folder / "README.md").read_text()
    with torch.no_grad():
        system.generator.get_parameter("dense.0.weight")[0] = 1e5
    with pytest.raises(ValueError, match=r"holds generator\.dense\.0\.weight, up to 1e\+05, got"):
        system.save_pretrained(tmp_path / "over", dtype=torch.float16)
    with pytest.raises(ValueError, match="dtype must be None or one of"):
        system.save_pretrained(tmp_path / "over", dtype=torch.int8)
    assert not (tmp_path / "over").exists()
