import shutil

import pytest
import torch
from _command_line import error_line
from PIL import Image

from pydisent.cli import main
from pydisent.training import open_run


def written(capsys):
    return [line.removeprefix("wrote ") for line in capsys.readouterr().out.split("\n") if line]


def test_traverse_draws_masks_where_there_are_any(digits_run, masked_run, tmp_path, capsys):
    for path, masks in ((digits_run, False), (masked_run, True)):
        out = tmp_path / path.name
        assert main(["traverse", str(path), "--out", str(out)]) == 0
        names = {"traversals.png", "traversals-bases.png", "traversals.gif"}
        assert {p.name for p in out.iterdir()} == names | ({"masks.png"} if masks else set())
        assert len(written(capsys)) == 3 + masks
    assert main(["traverse", str(masked_run), "--sort", "code", "--out", str(tmp_path / "c")]) == 0
    by_code = (tmp_path / "c" / "traversals.gif").read_bytes()
    assert by_code != (tmp_path / "ps-sc" / "traversals.gif").read_bytes()
    assert main(["traverse", str(masked_run), "--sort", "size"]) == 2


def test_transfer(masked_run, tmp_path, capsys):
    command = ["transfer", str(masked_run), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    lengths = open_run(masked_run).scores["tpl"]["details"]["per_dimension"]
    longest = sorted(range(len(lengths)), key=lambda i: -lengths[i])[:3]
    expected = [str(tmp_path / "out" / f"transfer-z{i + 1}.png") for i in longest]
    assert written(capsys) == expected
    assert main([*command, "--from", "data", "--codes", "z1,z2", "--codes", "z3"]) == 0
    assert [p.rsplit("/")[-1] for p in written(capsys)] == [
        "transfer-z1-z2.png",
        "transfer-z3.png",
    ]
    assert main([*command, "--codes", "z99"]) == 2
    assert "got 'z99'" in error_line(capsys)


def test_trace(digits_run, tmp_path, capsys, monkeypatch):
    asked, spectra_of = {}, []

    def trace(decode, base, **options):
        asked.update(options, bases=len(base))
        steps = torch.arange(options["steps"] + 1.0)[:, None].expand(-1, base.shape[1])
        return torch.stack([base[:, None] + steps for _ in options["ordinals"]])

    def summary(run, seed):
        spectra_of.append(seed)
        return {"eigenvalues": torch.rand(3, 4), "k": 2}

    def local_svd(run, **options):
        asked[options["distance"]] = options["directions"], options["bases"]
        return Image.new("RGB", (4, 4))

    monkeypatch.setattr("pydisent.reports.eigenpaths.trace_eigenpath", trace)
    monkeypatch.setattr("pydisent.reports.pictures.alignment_summary", summary)
    monkeypatch.setattr("pydisent.reports.pictures.local_svd", local_svd)
    command = ["trace", str(digits_run), "--out", str(tmp_path)]
    options = "--ordinals 1 3 --steps 7 --alpha 0.005 --rho 0.99 --bases 2 --shown 3 --seed 4"
    assert main([*command, *options.split(), "--epsilon", "0.4", "0.65"]) == 0
    assert [path.rsplit("/")[-1] for path in written(capsys)] == [
        "eigenpaths.png", "eigenpaths-bases.png", "eigenpaths.gif", "trajectories.png",
        "steps-0.4.png", "steps-0.65.png", "spectra.png",
    ]  # fmt: skip
    assert asked == {
        "ordinals": (1, 3), "steps": 7, "step_size": 0.005, "decay": 0.99, "bases": 2,
        0.4: (13, 2), 0.65: (13, 2),
    }  # fmt: skip
    assert spectra_of == [4]


def test_report_takes_a_sweeps_folder(digits_run, tmp_path, monkeypatch, capsys):
    sweep = tmp_path / "sweep"
    for name in ("a", "b"):
        shutil.copytree(digits_run, sweep / name)
    (sweep / "sweep.json").write_text("{}")
    asked = []

    def write_report(runs, out, command, *, split):
        asked.append(([run.path for run in runs], out, split))
        return []

    monkeypatch.setattr("pydisent.reports.write_report", write_report)
    assert main(["report", str(sweep), "--split", "train"]) == 0
    assert main(["report", str(sweep / "a"), str(sweep / "b")]) == 0
    both = [sweep / "a", sweep / "b"]
    assert asked == [(both, sweep / "report", "train"), (both, None, "auto")]


def test_rotate(masked_run, tmp_path, capsys, monkeypatch):
    asked = []

    def distance(decode, code, dimensions, angles, *, distance):
        asked.append(dimensions)
        return [1.0] * len(angles)

    monkeypatch.setattr("pydisent.reports.rotation.accumulated_distance", distance)
    command = ["rotate", str(masked_run), "--out", str(tmp_path)]
    assert main([*command, "--codes", "z2,z1"]) == 0
    assert asked == [(1, 0)]
    assert (tmp_path / "rotation-z2-z1.png").is_file()
    assert main([*command, "--codes", "z2"]) == 2
    assert "must be two different ones" in error_line(capsys)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("trace --alpha 0", "alpha must be a finite number > 0, got 0.0"),
        ("trace --alpha inf", "alpha must be a finite number > 0, got inf"),
        ("trace --rho 1", "rho must be a number in [0, 1), got 1.0"),
        ("trace --epsilon 0.1 nan", "epsilon must be a finite number > 0, got nan"),
        ("trace --seed -1", "seed must be an integer >= 0, got -1"),
        (f"transfer --seed {2**64}", f"seed must be below 2**63, got {2**64}"),
        (f"rotate --seed {2**64}", f"seed must be below 2**63, got {2**64}"),
    ],
)
def test_a_bad_value_names_the_option_and_nothing_is_drawn(
    command, words, digits_run, tmp_path, capsys
):
    name, *options = command.split()
    assert main([name, str(digits_run), *options, "--out", str(tmp_path / "out")]) == 2
    assert words in error_line(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "what_takes_long"),
    [
        ("report", "pydisent.reports.page.sections"),
        ("explain", "pydisent.reports.explanation.explain"),
        ("compare", "pydisent.cli._evaluation.print_comparison"),
    ],
)
def test_out_that_is_a_file_is_refused_at_once(
    command, what_takes_long, digits_run, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(what_takes_long, None)
    (tmp_path / "file").write_text("")
    assert main([command, str(digits_run), "--out", str(tmp_path / "file")]) == 2
    assert "out must be a folder or absent" in error_line(capsys)
