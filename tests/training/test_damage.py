"""Every file of a run, damaged in every way, before every command that reads it."""

import hashlib
import json
import shutil
import warnings

import pytest

from pydisent import reports
from pydisent.cli import _evaluation, _main, main
from pydisent.evaluation import selection
from pydisent.evaluation.perception import Perception
from pydisent.sweeps import SweepPlan, run_sweep
from pydisent.sweeps.engine import LocalEngine, Outcome
from pydisent.training import RunFolder, checkpoint, open_run, train

pytestmark = pytest.mark.in_turn

NAME = "vae-seed-0"
SWEEP = {"systems": "vae", "data": "digits", "preset": "smoke", "steps": 7}
NEWEST = "checkpoints/step-00000007"
TENSORS = (f"{NEWEST}/model.safetensors", f"{NEWEST}/optimizers.safetensors")
OF_CHECKPOINT = (f"{NEWEST}/state.json", *TENSORS)
OPENED = ("config.json", "environment.json", "scores.json", "log.jsonl", *OF_CHECKPOINT)
COMPARED = ("config.json", "scores.json", f"{NEWEST}/state.json")
READ_BY = {
    "train": ("config.json", "environment.json", "log.jsonl", "checkpoints/latest", *OF_CHECKPOINT),
    "evaluate": (*OPENED, "checkpoints/latest"),
    "report": OPENED,
    "traverse": ("config.json", "scores.json", *OF_CHECKPOINT),
    "compare": COMPARED,
    "select": COMPARED,
    "sweep": ("../sweep.json", "scores.json"),
}


def _numbers(value, text):
    """JSON text with all numbers replaced by a text."""
    if isinstance(value, dict):
        items = (f"{json.dumps(k)}: {_numbers(v, text)}" for k, v in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_numbers(v, text) for v in value) + "]"
    return text if type(value) in (int, float) else json.dumps(value)


def _values(data, value):
    return json.dumps(dict.fromkeys(json.loads(data), value))


WHOLE = {
    "empty": lambda _: b"",
    "null": lambda _: b"null\n",
    "list": lambda _: b"[]\n",
    "object": lambda _: b"{}\n",
    "text": lambda _: b'"text"\n',
    "deep": lambda _: b"[" * 100_000 + b"\n",
    "deep object": lambda _: b'{"a":' * 100_000 + b"\n",
    "long integer": lambda _: b"9" * 6000 + b"\n",
    "no UTF-8": lambda _: b"\xff\xfe\x00\n",
    "half": lambda data: data[: len(data) // 2],
    "a bit": lambda data: bytes([*data[:-9], data[-9] ^ 0x80, *data[-8:]]),
}
FIELDS = {
    "format 2": lambda data: json.dumps(json.loads(data) | {"format": 2}) + "\n",
    "a field more": lambda data: json.dumps(json.loads(data) | {"stranger": 1}) + "\n",
    "nulls": lambda data: _values(data, None) + "\n",
    "lists": lambda data: _values(data, [[]]) + "\n",
    "numbers 1e400": lambda data: _numbers(json.loads(data), "1e400") + "\n",
    "numbers NaN": lambda data: _numbers(json.loads(data), "NaN") + "\n",
    "numbers negative": lambda data: _numbers(json.loads(data), "-7") + "\n",
    "numbers of 4000 digits": lambda data: _numbers(json.loads(data), "7" * 4000) + "\n",
    "numbers as text": lambda data: _numbers(json.loads(data), '"7"') + "\n",
}
# Where a file may be so, and the command does what it would: there is no doubt what is meant.
FINE = {
    "scores.json": {"missing", "object", "numbers 1e400", "numbers NaN", "numbers negative"},
    "log.jsonl": {"missing", "empty", "half", "deep object", "a field more", "format 2"},
    "environment.json": {"object", "a field more", "format 2"},
    "checkpoints/latest": {"missing", "folder", *WHOLE},
}
# To these commands there is nothing, or a run from before the file was there.
NOT_THERE = {("select", "config.json", "missing"), ("train", "environment.json", "missing")}


def _cases():
    for command, files in READ_BY.items():
        for file in files:
            fields = FIELDS if file.endswith((".json", ".jsonl")) else {}
            for damage in ("missing", "folder", *WHOLE, *fields):
                if (command, file, damage) in NOT_THERE:
                    continue
                yield pytest.param(command, file, damage, id=f"{command}-{file}-{damage}")


def _hashes(root):
    files = [path for path in root.rglob("*") if path.is_file() and path.name[0] != "."]
    return {p.relative_to(root): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A sweep's folder of one run, finished and scored, with two checkpoints."""
    root = tmp_path_factory.mktemp("whole") / "sweep"

    class Trainer:
        def run(self, jobs, note):
            folder = train(plan.runs()[NAME], root / NAME, accelerator="cpu", progress=False)
            _score(folder)
            note(Outcome(NAME, "done", 1.0))

    plan = SweepPlan(("vae",), data="digits", preset="smoke", steps=7)
    run_sweep(plan, root, engine=Trainer(), say=lambda _: None)
    assert checkpoint.steps_kept(RunFolder(root / NAME).checkpoints) == [5, 7]
    return root


@pytest.fixture
def nothing_drawn(monkeypatch):
    """What commands do with what they have read takes seconds, and is tested elsewhere."""
    for name in ("write_report", "write_traversals", "write_comparison"):
        monkeypatch.setattr(reports, name, lambda *_, **__: [])
    monkeypatch.setattr(_evaluation, "_evaluate", lambda *_, **__: None)
    monkeypatch.setattr(_evaluation, "show_scores", lambda _: None)
    monkeypatch.setattr(selection, "_score", lambda path, *_: _score(RunFolder(path)))
    monkeypatch.setattr(LocalEngine, "run", lambda *_: None)


def _score(folder):
    details = {**Perception().tpl_settings(), "active": 1, "per_dimension": [1.0, 1.0]}
    folder.add_scores({"tpl": {"score": 2.0, "details": details}})


def _damage(file, damage):
    data = file.read_bytes()
    file.unlink()
    if damage == "folder":
        file.mkdir()
    elif damage != "missing":
        made = (WHOLE | FIELDS)[damage](data)
        file.write_bytes(made if isinstance(made, bytes) else made.encode())


def _run(command, root, monkeypatch):
    """The command, but for reading its words, which takes longer than all that it does here."""
    run = root / NAME
    arguments = {
        "train": {"system": "vae", "out": run, "resume": True, "accelerator": "cpu"},
        "report": {"runs": (run,)},
        "compare": {"runs": (run,)},
        "select": {"folder": root},
        "sweep": {**SWEEP, "out": root, "accelerator": "cpu"},
    }
    chosen = arguments.get(command, {"run": run})
    monkeypatch.setattr(
        _main, "subcommand_cli_from_dict", lambda known, **_: known[command](**chosen)
    )
    return main([])


@pytest.mark.parametrize(("command", "file", "damage"), [*_cases()])
def test_damage_is_named_or_harmless(
    whole, tmp_path, capsys, monkeypatch, nothing_drawn, command, file, damage
):
    root = shutil.copytree(whole, tmp_path / "sweep")
    damaged = (root / NAME / file).resolve()
    _damage(damaged, damage)
    before = _hashes(root)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        code = _run(command, root, monkeypatch)
    errors, after = capsys.readouterr().err.splitlines(), _hashes(root)
    said = [str(w.message) for w in warned if damaged.name in str(w.message)]
    if code == 0:
        assert damage in FINE.get(file, ()) or (file in OF_CHECKPOINT and said)
        lost = set(before.values()) - set(after.values())
        assert {name.name for name in before if before[name] in lost} <= REWRITTEN[command]
    else:
        assert code == 2
        assert len(errors) == 1, errors
        assert errors[0].startswith("pydisent: ")
        assert damaged.name in errors[0] or said
        assert len(errors[0]) < 1000
        assert after == before


REWRITTEN = {
    "train": {"environment.json", "log.jsonl", "latest"},
    "sweep": {"sweep.json"},
    "select": {"scores.json"},
} | {command: set() for command in ("evaluate", "report", "traverse", "compare")}


_VALUES = (None, True, -1, 2**63, 1.5, float("nan"), float("inf"), "", "x", [], [[]], {}, {"x": []})


def _leaves(value, path=()):
    """The paths to all that a JSON value holds, one of a list standing for its others."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:1])
    for key, inner in items:
        if isinstance(inner, (dict, list)):
            yield from _leaves(inner, (*path, key))
        else:
            yield (*path, key)


def _with(value, path, new):
    changed = json.loads(json.dumps(value))
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return changed


def _resume(folder):
    """What of a checkpoint is read when a run goes on."""
    latest = checkpoint.latest_checkpoint(folder.checkpoints)
    system = open_run(folder.path).system
    state = checkpoint.load_training(latest, system)
    with checkpoint.named(latest / "state.json"):
        checkpoint.set_rng_state(state["rng"][0])


@pytest.mark.parametrize(
    ("file", "read"),
    [
        ("config.json", RunFolder.read_plan),
        ("environment.json", RunFolder.read_environment),
        ("scores.json", RunFolder.read_scores),
        ("log.jsonl", RunFolder.read_log),
        (f"{NEWEST}/state.json", _resume),
    ],
)
def test_any_field_of_another_type_is_an_error_of_the_file(whole, tmp_path, file, read):
    """A checkpoint from before checksums has its fields alone to be told by."""
    folder = RunFolder(shutil.copytree(whole / NAME, tmp_path / "run"))
    shutil.rmtree(folder.checkpoints / "step-00000005")
    kept = json.loads((folder.path / file).read_text())
    kept.pop("sha256", None)
    (folder.path / file).write_text(json.dumps(kept) + "\n")
    read(folder)
    refused = []
    every = 4 if read is _resume else 1  # a checkpoint takes a while: a few values of each field
    for number, path in enumerate(_leaves(kept)):
        if path[0] == "backends" and path[1:]:
            continue  # shown as it is
        for value in _VALUES[number % every :: every]:
            (folder.path / file).write_text(json.dumps(_with(kept, path, value)) + "\n")
            try:
                read(folder)
            except (ValueError, OSError) as error:
                refused.append(str(error))
    files = (file.rpartition("/")[2], "model.safetensors", "optimizers.safetensors")
    assert not [words for words in refused if not any(name in words for name in files)]
    assert len(refused) > len(kept)
