"""Systems saved in the hub's layout are those that are opened, and damage is named."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import pydisent
from pydisent import systems
from pydisent.training import Plan, RunFolder, from_pretrained, open_run, push_to_hub, train

FILES = {"model.safetensors", "config.json", "README.md"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    plan = Plan.from_preset("vae", "digits", "smoke", steps=3, seed=5, command=("a", "b"))
    train(plan, path, accelerator="cpu", progress=False)
    RunFolder(path).add_scores({"mig": {"score": 0.125, "details": {"gap": [1]}}})
    return open_run(path)


@pytest.fixture
def saved(run, tmp_path):
    return run.save_pretrained(tmp_path / "model", license="cc-by-4.0")


def assert_same(system, other):
    assert type(system) is type(other)
    assert system.config == other.config
    assert system.image_shape == other.image_shape
    for (name, one), (other_name, two) in zip(
        system.state_dict().items(), other.state_dict().items(), strict=True
    ):
        assert name == other_name
        assert torch.equal(one, two), name
    codes = torch.randn(3, len(system.code_names))
    assert torch.equal(system.decode(codes), other.decode(codes))


def test_a_run_comes_back(run, saved):
    assert {path.name for path in saved.iterdir()} == FILES
    system = from_pretrained(saved)
    assert not system.training
    assert_same(system, run.system)
    assert pydisent.from_pretrained(str(saved)).config == run.system.config
    held = json.loads((saved / "config.json").read_text())
    assert held["plan"]["seed"] == 5
    assert held["step"] == run.step == 3
    assert held["scores"] == {"mig": 0.125}
    assert not {"command", "data_path", "factors"} & held["plan"].keys()
    assert held["image_shape"] == list(run.system.image_shape)


def test_the_card_says_what_is_known(run, saved):
    card = (saved / "README.md").read_text()
    head, body = re.fullmatch(r"---\n(.*?)\n---\n\n(.*)", card, re.DOTALL).groups()
    assert "library_name: pydisent\nlicense: cc-by-4.0\n" in head
    assert body.startswith("# vae on digits\n")
    for line in (
        'system = pydisent.from_pretrained("model")',
        "| seed | 5 |",
        "| updates of these weights | 3 |",
        r"| latent\_size | 4 |",
        "| mig | 0.125 |",
        f"| torch | {torch.__version__} |",
        "The weights are under the licence cc-by-4.0.",
    ):
        assert line in body, line
    program = re.search(r"```python\n(.*?)```", body, re.DOTALL)[1]
    names = {}
    exec(program.replace('"model"', repr(str(saved))), names)
    assert names["codes"].shape == (8, 4)


@pytest.mark.parametrize("name", ["jacobian-ae", "attribute-ae", "spectral-gan", "ib-gan"])
def test_systems_without_a_run(tmp_path, name):
    torch.manual_seed(0)
    preset = systems.preset(name, "smoke", "sprites")
    system = systems.build(name, preset.config, (1, 32, 32))
    for phase, _ in system.phases(1):
        system.start_phase(phase)
        system.phase_step = 2
    system.attribute_names = ("a", "b")
    folder = system.save_pretrained(tmp_path / "deep" / "folder")
    again = from_pretrained(folder)
    assert (again.phase, again.phase_step) == (system.phase, 2)
    assert again.attribute_names == ("a", "b")
    assert_same(again, system.eval())
    card = (folder / "README.md").read_text()
    assert "without a record of its training" in card
    assert "has stated no licence" in card
    assert "license:" not in card
    program = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    exec(program.replace('"folder"', repr(str(folder))), names := {})
    assert names["codes"].shape == (8, len(again.code_names))


def test_weights_of_any_layout_are_copied(tmp_path):
    """Channels-last, half precision and shared storage, none of which safetensors takes as is."""
    preset = systems.preset("vae", "smoke", "digits")
    system = systems.build("vae", preset.config, (1, 32, 32)).to(memory_format=torch.channels_last)
    folder = system.save_pretrained(tmp_path)
    for name, tensor in load_file(folder / "model.safetensors").items():
        assert torch.equal(tensor, system.state_dict()[name])


def test_saving_again_replaces(run, saved):
    changed = from_pretrained(saved)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter += 1
    changed.save_pretrained(saved)
    assert_same(from_pretrained(saved), changed)
    (saved / "file").write_text("")
    with pytest.raises(ValueError, match="folder must be a folder or absent, got the file"):
        run.save_pretrained(saved / "file")
    with pytest.raises(ValueError, match="license must be the name of a licence"):
        run.save_pretrained(saved, license="mit\ntags: x")


@pytest.mark.parametrize("name", sorted(FILES))
def test_files_of_others_are_not_replaced(run, tmp_path, name):
    (tmp_path / name).write_text('{"library": "timm"}')
    with pytest.raises(ValueError, match=f"of a saved system, got .* with {re.escape(name)}"):
        run.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    before = (run.path / "config.json").read_bytes()
    with pytest.raises(ValueError, match=r"of a saved system, got .* with config\.json"):
        run.save_pretrained(run.path)
    assert (run.path / "config.json").read_bytes() == before


def test_an_interrupted_write_is_told_and_can_be_repeated(run, tmp_path, monkeypatch):
    replace, folder = os.replace, tmp_path / "model"

    def killed(source, target):
        if target.suffix == ".safetensors":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        run.save_pretrained(folder)
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(ValueError, match=r"model\.safetensors is not a file"):
        from_pretrained(folder)
    assert_same(from_pretrained(run.save_pretrained(folder)), run.system)


def test_a_full_disk_keeps_the_system_saved_before(run, tmp_path):
    resource = pytest.importorskip("resource")
    folder = run.save_pretrained(tmp_path / "model")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    changed = systems.build("vae", run.plan.config, run.system.image_shape)  # other weights
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["model.safetensors"]) // 2, usual[1]))
    try:
        with pytest.raises(OSError, match="model"):
            changed.save_pretrained(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def edit(path, **changes):
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in values.items() if v != "gone"}))


CONFIG = [
    ({"library": "timm"}, "library must be 'pydisent', got 'timm'"),
    ({"library": "gone"}, "library must be 'pydisent', got None"),
    ({"format": 2}, "format must be 1, got 2"),
    ({"system": "os.system"}, "system must be one of"),
    ({"system": 3}, "system must be str"),
    ({"config": {"latent_size": -3}}, "latent_size must be"),
    ({"config": {"stranger": 1}}, "setting must be one of"),
    ({"config": {"base": [1]}}, "config: base must be"),
    ({"config": "gone"}, "lacks config"),
    ({"image_shape": [1, 32]}, "image_shape must have 3 entries"),
    ({"image_shape": [1, 32, 16]}, "image_shape must be that of square images"),
    ({"image_shape": [1, 1 << 40, 1 << 40]}, "an entry of image_shape must be an integer"),
    ({"image_shape": [1, 64, 64]}, "model.safetensors does not fit vae"),
    ({"phase": "student"}, "phase must be one of 'train', got 'student'"),
    ({"phase_step": -1}, "phase_step must be an integer >= 0"),
    ({"attribute_names": [1]}, "an entry of attribute_names must be str"),
    ({"sha256": "0" * 64}, "model.safetensors is damaged: its checksum is not that in config.json"),
    ({"stranger": 1}, "must have the fields"),
]


@pytest.mark.parametrize(("changes", "words"), CONFIG)
def test_a_changed_configuration_is_refused(saved, changes, words):
    edit(saved / "config.json", **changes)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        from_pretrained(saved)
    assert str(saved) in str(caught.value)


@pytest.mark.parametrize("text", ["", "null", "[]", "{", "\ud800", "[" * 100_000])
def test_a_configuration_that_is_none_is_refused(saved, text):
    (saved / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=re.escape(str(saved / "config.json"))):
        from_pretrained(saved)


def test_damaged_and_missing_weights(saved):
    weights = saved / "model.safetensors"
    whole = weights.read_bytes()
    for data in (b"", whole[:-1], whole[:40], bytes([*whole[:-9], whole[-9] ^ 1, *whole[-8:]])):
        weights.write_bytes(data)
        with pytest.raises(ValueError, match=re.escape(f"{weights} is damaged")):
            from_pretrained(saved)
    weights.unlink()
    with pytest.raises(ValueError, match=re.escape(f"{weights} is not a file")):
        from_pretrained(saved)
    (saved / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(f"no config.json in {saved}")):
        from_pretrained(saved)


def test_what_is_no_saved_system(run, tmp_path):
    with pytest.raises(ValueError, match=r"a run folder is opened by pydisent\.training\.open_run"):
        from_pretrained(run.path)
    for place in (tmp_path / "nowhere", "nowhere", "/no/where", "../a"):
        with pytest.raises(FileNotFoundError, match="source must be a folder or 'user/name'"):
            from_pretrained(place)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match="source must be a folder"):
        from_pretrained(tmp_path / "file")
    with pytest.raises(ValueError, match="revision must be None for a folder, got 'main'"):
        from_pretrained(tmp_path, revision="main")


class Hub:
    """A stand-in for the hub: folders by repository and revision."""

    def __init__(self, folder):
        self.folder, self.private = folder, {}

    def create_repo(self, repo_id, *, private=None, exist_ok=False):
        assert exist_ok
        self.private[repo_id] = private
        return f"https://hub/{repo_id}"

    def upload_folder(self, *, repo_id, folder_path, revision=None, commit_message=None):
        assert commit_message
        assert repo_id in self.private
        shutil.copytree(folder_path, self.folder / repo_id / (revision or "main"))

    def snapshot_download(self, repo_id, *, revision=None, allow_patterns=None):
        taken = self.folder / "cache"
        shutil.copytree(
            self.folder / repo_id / (revision or "main"),
            taken,
            ignore=lambda _, names: set(names) - set(allow_patterns),
        )
        return str(taken)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub(tmp_path / "hub")
    module = types.ModuleType("huggingface_hub")
    module.HfApi, module.snapshot_download = lambda: hub, hub.snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return hub


def test_to_the_hub_and_back(run, hub, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run.push_to_hub("user/digits", license="mit") == "https://hub/user/digits"
    stored = hub.folder / "user/digits/main"
    assert {path.name for path in stored.iterdir()} == FILES
    card = (stored / "README.md").read_text()
    assert 'from_pretrained("user/digits")' in card
    assert "license: mit" in card
    (stored / "evil.py").write_text("raise SystemExit")
    assert_same(pydisent.from_pretrained("user/digits"), run.system)
    assert {path.name for path in (hub.folder / "cache").iterdir()} == FILES
    assert hub.private == {"user/digits": None}


def test_a_system_a_revision_and_an_api_of_ones_own(run, hub):
    other = Hub(hub.folder.with_name("other"))
    push_to_hub(run.system, "user/x.y_z", private=True, revision="v1", api=other)
    assert other.private == {"user/x.y_z": True}
    assert not hub.private
    hub.folder = other.folder
    assert_same(from_pretrained("user/x.y_z", revision="v1"), run.system)


@pytest.mark.parametrize("name", ["digits", "a/b/c", "../x", "/x", "a b/c", "", None])
def test_bad_names_are_refused_before_anything_is_made(run, hub, name):
    with pytest.raises(ValueError, match="repo_id must be 'user/name' of letters"):
        run.push_to_hub(name)
    assert not hub.private


def test_the_hubs_own_functions_take_what_they_are_given():
    hub = pytest.importorskip("huggingface_hub")
    for stand_in, function in (
        (Hub.create_repo, hub.HfApi.create_repo),
        (Hub.upload_folder, hub.HfApi.upload_folder),
    ):
        wanted = inspect.signature(function).parameters
        assert inspect.signature(stand_in).parameters.keys() <= wanted.keys()
    inspect.signature(hub.snapshot_download).bind("a/b", revision=None, allow_patterns=["x"])


def test_a_saved_system_runs_nothing(saved):
    """Opened in a process of its own, which imports no module from the folder or by its name."""
    for name in ("pickle5.py", "vae.py", "safetensors.py", "__init__.py", "modeling.py"):
        (saved / name).write_text("raise SystemExit('run')\n")
    code = (
        "import sys, pydisent\n"
        "import pickle, torch\n"
        "pickle.load = pickle.loads = pickle.Unpickler = torch.load = None\n"
        f"pydisent.from_pretrained({str(saved)!r})\n"
        f"assert not [m for m in sys.modules.values() if {str(saved)!r} in str(m)]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(saved).parent
    )
    assert done.returncode == 0, done.stderr
