"""Every command computes on the device that it is asked for, and mixes it with no other."""

import functools
import json
import shutil

import pytest
import torch
from _command_line import error_line, train_smoke
from _other_device import OTHER, other_device, without_it

from pydisent import systems, training
from pydisent.cli import main
from pydisent.evaluation import alignment, devices, ranking, selection
from pydisent.evaluation.devices import device_of
from pydisent.evaluation.subject import Subject
from pydisent.metrics import accumulated_distance, trained_classifier
from pydisent.reports import eigenpaths, pictures
from pydisent.reports.attributes import flipped_images
from pydisent.reports.planes import factor_plane


@pytest.fixture
def few(monkeypatch):
    """Measure on as few images as will do."""
    for name, count in (
        ("evaluation.metrics.perception.TRAVERSED_IMAGES", 1),
        ("evaluation.metrics.perception.PAIRS", 8),
        ("evaluation.metrics.perception.IMAGES", 16),
        ("evaluation.perception.SEGMENTS", 2),
        ("evaluation.metrics.edits.FLIP_TEST", 4),
        ("evaluation.metrics.edits.FLIP_VALIDATION", 2),
        ("evaluation.metrics.reconstruction.RECONSTRUCTED", 20),
        ("evaluation.scoring.MAX_IMAGES", 200),
        ("evaluation.masks.SAMPLES", 4),
        ("evaluation.subject._RECONSTRUCTED", 20),
    ):
        monkeypatch.setattr(f"pydisent.{name}", count)
    monkeypatch.setattr(ranking, "with_udr", functools.partial(ranking.with_udr, images=20))


@pytest.fixture
def on_other(few, monkeypatch):
    """Run a command with a stand-in for a GPU; return the shapes of the codes that it decoded."""
    monkeypatch.setattr(devices, "device_of", lambda accelerator: {"cuda": OTHER}[accelerator])
    used = []

    def run(*argv):
        used.clear()
        with other_device():
            assert main([*map(str, argv), "--accelerator", "cuda"]) == 0
        return used

    opened = training.open_run

    def opened_there(path, device):
        with without_it():  # safetensors knows real devices alone
            run = opened(path)
        run.system.to(device)
        return run

    for module in (training, ranking, selection):
        monkeypatch.setattr(module, "open_run", opened_there)
    # The Jacobian engine traces by modes of its own: results of its shapes, on the code's device.
    for module in (alignment, pictures):
        monkeypatch.setattr(module, "eigenvectors", lambda f, z: (z.abs(), torch.diag_embed(z)))
    monkeypatch.setattr(
        eigenpaths,
        "trace_eigenpath",
        lambda f, z, ordinals, steps, **_: torch.stack(
            [torch.stack([z + i for i in range(steps + 1)], 1) for _ in ordinals]
        ),
    )
    for name in ("spectral-gan", "ps-sc", "vae", "jacobian-ae", "attribute-ae"):
        config = systems.preset(name, "smoke", "faces").config
        system = type(systems.build(name, config, (3, 32, 32)))
        whole = system.decode

        def decode(self, code, whole=whole):
            # Nobody decodes codes that are elsewhere: the weights would meet them.
            used.append(code.shape)
            return whole(self, code)

        monkeypatch.setattr(system, "decode", decode)
    return run


def test_the_stand_in_fails_where_devices_mix():
    with other_device():
        here, there = torch.ones(3, 4), torch.ones(3, 4, device=OTHER)
        assert (there + 1)[0].device == OTHER
        assert here.to(there).device == OTHER
        assert there.cpu().device.type == here.device.type == "cpu"
        assert torch.nn.Linear(4, 2).to(OTHER)(there).device == OTHER
        for mix in (
            lambda: here + there,
            lambda: torch.cat([here, there]),
            lambda: here[torch.zeros(2, dtype=torch.long, device=OTHER)],
        ):
            with pytest.raises(AssertionError, match="both devices"):
                mix()
        with pytest.raises(TypeError, match="can't convert cuda"):
            there.numpy()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, options in (
        ("gan", ("spectral-gan", "--data", "digits", "--set", "base=2")),
        ("ps-sc", ("ps-sc", "--data", "digits")),
        ("vaes/a", ("vae",)),
        ("vaes/b", ("vae", "--seed", "1")),
        ("swaps", ("jacobian-ae", "--data", "digits")),
        ("flips", ("attribute-ae", "--data", "faces")),
    ):
        system, *rest = options
        assert train_smoke("--out", str(folder / name), "--steps", "2", *rest, system=system) == 0
    return folder


@pytest.mark.in_turn
@pytest.mark.filterwarnings("ignore:FID of")
@pytest.mark.parametrize(
    ("name", "metrics"),
    [
        ("gan", ("f-diagonal", "reconstruction", "tpl", "ppl", "fid")),
        ("ps-sc", ("mask-overlap", "tpl")),
        ("vaes/a", ("mig", "reconstruction")),
        ("swaps", ("class-swaps",)),
        ("flips", ("attributes", "attribute-flips", "reconstruction")),
    ],
)
def test_evaluate(runs, on_other, monkeypatch, name, metrics):
    monkeypatch.setenv("PYDISENT_CACHE", "off")
    monkeypatch.setattr("pydisent.evaluation.metrics.edits.CLASSIFIER_TRAIN", 200)
    quick = functools.partial(trained_classifier, updates=2)
    monkeypatch.setattr("pydisent.evaluation.metrics.edits.trained_classifier", quick)
    assert on_other("evaluate", runs / name, "--metrics", *metrics) or name == "vaes/a"
    assert json.loads((runs / name / "scores.json").read_text()).keys() == set(metrics)


def test_pictures(runs, on_other, monkeypatch, tmp_path):
    short = functools.partial(accumulated_distance, size=2)
    monkeypatch.setattr("pydisent.reports.rotation.accumulated_distance", short)
    monkeypatch.setattr("pydisent.reports.traversals._SHOWN", 2)
    path, out = runs / "gan", ("--out", tmp_path / "out")
    for command in (
        ("transfer", path, *out, "--from", "data", "--codes", "z1"),
        ("traverse", path, *out, "--from", "data"),
        ("rotate", path, *out, "--codes", "z1,z2"),
        ("trace", path, *out, "--steps", 3, "--ordinals", 1, "--bases", 1, "--epsilon", "0.5"),
        ("report", path, *out),
    ):
        assert on_other(*command), command
    # A page would have a gap in place of a picture that failed.
    assert "Missing here" not in (tmp_path / "out" / "index.html").read_text()


def test_what_reports_compute(runs, on_other):
    """Beside what other commands do: a page of its own would take seconds to draw."""
    with other_device():
        run = training.open_run(runs / "gan", OTHER)
        subject = Subject(run, max_images=20)
        images, again = subject.reconstructions
        assert images.device == again.device == torch.device("cpu")
        assert subject.alignment["heatmap"].device == torch.device("cpu")
        run = training.open_run(runs / "flips", OTHER)
        assert flipped_images(run, range(2), [0, 1], alpha=2.0).device == torch.device("cpu")
        code = run.system.sample_code(1)[0]
        plane = factor_plane(run.system, code, columns=(0, 1), cells=2)
        assert plane.device == torch.device("cpu")


def test_runs_are_compared_and_selected(runs, on_other, monkeypatch, tmp_path):
    monkeypatch.setattr("pydisent.reports.tradeoff.draw_tradeoff", lambda comparison: None)
    on_other("compare", *sorted((runs / "vaes").iterdir()), "--out", tmp_path, "--udr")
    assert "udr" in (tmp_path / "comparison.md").read_text()
    shutil.copytree(runs / "vaes", tmp_path / "vaes")
    assert on_other("select", tmp_path / "vaes", "--again")


def test_names_of_accelerators(digits_run, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    found = [device_of(name).type for name in ("auto", "cpu", "mps", "gpu")]
    assert found == ["cpu", "cpu", "mps", "mps"]
    assert main(["traverse", str(digits_run), "--accelerator", "cuda"]) == 2
    assert "accelerator must be available, got 'cuda'" in error_line(capsys)
    assert main(["report", str(digits_run), "--accelerator", "tpu"]) == 2
    assert "accelerator must be one of 'auto', 'cpu', 'cuda', 'mps'" in error_line(capsys)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [device_of(name).type for name in ("auto", "gpu")] == ["cuda", "cuda"]
