"""Systems, data sets and metrics from outside: registered, found, and refused."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pydisent import _plugins, data, evaluation, systems
from pydisent._plugins import Registry
from pydisent.data._registry import SOURCES
from pydisent.evaluation.registry import METRICS
from pydisent.evaluation.scoring import metric_label
from pydisent.systems._registry import SYSTEMS

EXAMPLE = Path(__file__).parents[1] / "examples" / "plug_in.py"
NAMES, REGISTRIES = ("free-bits-vae", "bars", "linear-r2"), (SYSTEMS, SOURCES, METRICS)
GROUPS = {"systems": systems.names, "data": data.names, "metrics": evaluation.metric_names}


@pytest.fixture(autouse=True)
def afresh(monkeypatch):
    """Nothing has been looked for, and what a test registers goes."""
    monkeypatch.delenv("PYDISENT_PLUGINS", raising=False)
    monkeypatch.setattr(_plugins, "_imported", set())
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_asked", False)
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setattr(registry, "_owners", dict(registry._owners))
    yield
    for name in ("plug_in", "toy", "bad"):
        sys.modules.pop(name, None)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install a package of one module, by its text and its entry points."""

    def install(text, **points):
        (tmp_path / "toy.py").write_text(text)
        about = tmp_path / "toy_package-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-package\nVersion: 1.0\n")
        groups = [f"[pydisent.{group}]\n{line}" for group, line in points.items()]
        (about / "entry_points.txt").write_text("\n".join(groups))
        monkeypatch.syspath_prepend(tmp_path)

    return install


def test_the_example_is_known_to_every_command(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tyro")
    from pydisent.cli import main

    assert len(EXAMPLE.read_text().splitlines()) <= 60
    monkeypatch.setenv("PYDISENT_PLUGINS", str(EXAMPLE))
    run = tmp_path / "run"
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    for name in NAMES:
        assert name in listed
    command = ["train", "free-bits-vae", "--preset", "smoke", "--accelerator", "cpu"]
    assert main([*command, "--set", "free_nats=0.2", "--out", str(run)]) == 0
    plan = json.loads((run / "config.json").read_text())
    assert (plan["data"], plan["config"]["free_nats"]) == ("bars", 0.2)
    assert main(["evaluate", str(run), "--metrics", "linear-r2", "mig"]) == 0
    scores = json.loads((run / "scores.json").read_text())
    assert scores["mig"]["details"]["factors"] == ["row", "column"]
    assert 0 <= scores["linear-r2"]["score"] <= 1
    assert main(["compare", str(run), "--out", str(tmp_path / "table")]) == 0
    assert "linear-r2" in (tmp_path / "table" / "comparison.md").read_text()
    assert metric_label("linear-r2") == "Linear R²"  # in reports
    assert main([*command, "--resume", "--set", "free_nats=0.3", "--out", str(run)]) == 2


def test_the_examples_parts_do_what_they_say(monkeypatch):
    monkeypatch.setenv("PYDISENT_PLUGINS", str(EXAMPLE))
    bars = data.load("bars")
    (image,) = bars.images([16 * 3 + 5])
    assert image[0].nonzero().tolist() == sorted(
        [[3, c] for c in range(16)] + [[r, 5] for r in range(16) if r != 3]
    )
    factors = np.random.default_rng(0).integers(0, 9, (500, 2))
    codes = np.stack([factors @ [2.0, 1.0], np.random.default_rng(1).normal(size=500)], 1)

    class Subject:
        samples, axes = (codes, factors), {}

    expected = [
        np.corrcoef(codes[:, 0], factors[:, j])[0, 1] ** 2 for j in (0, 1)
    ]  # noise adds next to nothing
    found = METRICS["linear-r2"].measure(Subject).details["by_factor"]
    assert found == pytest.approx(expected, abs=0.02)


def test_a_module_by_its_name(package, monkeypatch):
    package("from pydisent import data\ndata.register('toys')(lambda *, image_size=None: None)\n")
    assert "toys" not in data.names()
    monkeypatch.setenv("PYDISENT_PLUGINS", " toy ,")
    assert "toys" in data.names()


def test_entry_points(package):
    package(
        "from pydisent import data, evaluation\n"
        "@data.register('toys', path=True, splits=('train', 'test'))\n"
        "class Toys(data.ArrayDataset):\n"
        "    def __init__(self, path, *, image_size=None, split=None):\n"
        "        import numpy\n"
        "        array = numpy.full((4, 1, 8, 8), 7 if split == 'test' else 5, 'u1')\n"
        "        super().__init__('toys', array, image_size=image_size)\n"
        "        self.split = split or 'train'\n"
        "@evaluation.metric('toy', needs=evaluation.IMAGES)\n"
        "def toy(subject): return 1\n",
        data="toys = toy:Toys",
        metrics="toy = toy",
    )
    assert data.splits("toys") == ("train", "test")
    assert torch.equal(data.load("toys", ".").images([0]) * 255, torch.full((1, 1, 8, 8), 5.0))
    assert data.load_test("toys", ".", image_size=4).images([0])[0, 0, 0, 0] * 255 == 7
    assert "toy" in evaluation.metric_names()
    with pytest.raises(ValueError, match="crop must be None for 'toys'; only celeba is cropped"):
        data.load("toys", ".", crop=128)


def test_built_in_names_look_for_no_plug_ins(monkeypatch):
    def never(**_):
        raise AssertionError

    monkeypatch.setattr(_plugins, "entry_points", never)
    data.load("sprites")
    systems.config_class("vae")
    assert METRICS["mig"].name == "mig"
    with pytest.raises(AssertionError):
        data.names()


@pytest.mark.parametrize("group", GROUPS)
def test_a_broken_plug_in_is_named_and_left_out(package, group):
    package("1 / 0", **{group: "broken = toy\nabsent = no_such_module"})
    with pytest.warns(UserWarning, match="plug-in") as warned:
        names = GROUPS[group]()
    said = sorted(str(w.message) for w in warned)
    assert said == [
        f"pydisent: the plug-in absent = no_such_module (pydisent.{group}) of toy-package is left "
        "out: ModuleNotFoundError: No module named 'no_such_module'",
        f"pydisent: the plug-in broken = toy (pydisent.{group}) of toy-package is left out: "
        "ZeroDivisionError: division by zero",
    ]
    assert "broken" not in names
    assert names == GROUPS[group]()  # says so once


def test_a_plug_in_that_registers_nothing_of_its_name(package):
    package("", systems="mine = toy")
    with pytest.warns(UserWarning, match="mine = toy .* registers no system 'mine'"):
        systems.names()


def test_a_broken_variable(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("")
    (tmp_path / "bad.py").write_text("raise KeyError('x')")
    items = [tmp_path / "json.py", tmp_path / "bad.py", tmp_path / "none.py", "no.module"]
    monkeypatch.setenv("PYDISENT_PLUGINS", ",".join(map(str, items)))
    with pytest.warns(UserWarning, match="PYDISENT_PLUGINS") as warned:
        data.names()
    said = [str(w.message) for w in warned]
    for item, words in zip(
        items,
        (
            "ImportError: there is another module json",
            "KeyError: 'x'",
            "FileNotFoundError",
            "ModuleNotFoundError: No module named 'no'",
        ),
        strict=True,
    ):
        start = f"pydisent: the plug-in {item} (PYDISENT_PLUGINS) is left out: {words}"
        assert any(line.startswith(start) for line in said), (start, said)
    assert "bad" not in sys.modules


def test_names_are_taken_once():
    def opener(*, image_size=None):
        raise NotImplementedError

    opener.__module__ = "tests"
    register = data.register("sprites")
    with pytest.raises(ValueError, match=r"in tests must be other than those of pydisent\.data, g"):
        register(opener)
    data.register("mine")(opener)
    data.register("mine")(opener)  # a cell that runs again
    opener.__module__ = "other"
    with pytest.raises(ValueError, match=r"name in other must be other than those of tests, got"):
        data.register("mine")(opener)
    for name in ("", "a b", "../up", 3):
        register = data.register(name)
        with pytest.raises(ValueError, match="must be letters, digits, dashes and dots"):
            register(opener)
    with pytest.raises(ValueError, match=r"options must be of partial, factors, bins, got"):
        data.register("mine", options=("partial", "of"))


def test_only_systems_are_systems():
    class Half(systems.System):
        name = "half"

    for wrong in (Half, int, 3):
        with pytest.raises(ValueError, match="system must be a subclass of System with name, a"):
            systems.register(wrong)


def test_a_registry_is_a_mapping():
    registry = Registry("thing", "pydisent.things")
    registry.add("b", 1, "one")
    registry.add("a", 2, "one")
    assert (list(registry), len(registry), registry["a"]) == (["b", "a"], 2, 2)
    with pytest.raises(ValueError, match="thing must be one of 'b', 'a', got 'c'"):
        registry.find("c")
    del registry["a"]
    assert "a" not in registry


def test_a_sweeps_jobs_know_the_example(tmp_path, monkeypatch):
    pytest.importorskip("tyro")
    from pydisent.cli import main
    from pydisent.sweeps import SweepPlan, run_sweep
    from pydisent.sweeps.engine import Outcome

    class Here:
        """Runs the commands of jobs in this process; others inherit its variables."""

        def run(self, jobs, note):
            for job in jobs:
                assert [main(command[3:]) for command in job.commands] == [0] * len(job.commands)
                note(Outcome(job.name, "done"))

    monkeypatch.setenv("PYDISENT_PLUGINS", str(EXAMPLE))
    threads = torch.get_num_threads()
    plan = SweepPlan(("free-bits-vae",), "bars", preset="smoke", grid={"free_nats": ["0", "1"]})
    options = {"engine": Here(), "metrics": ("linear-r2",), "accelerator": "cpu", "threads": 1}
    states = run_sweep(plan, tmp_path / "sweep", say=lambda _: None, **options)
    torch.set_num_threads(threads)
    assert list(states.values()) == ["done", "done"]
    for name in states:
        scores = json.loads((tmp_path / "sweep" / name / "scores.json").read_text())
        assert scores.keys() == {"linear-r2"}
