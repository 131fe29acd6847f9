import contextlib
import io
import json
import sys

import pytest
import torch

from pydisent import systems
from pydisent._extras import install_command
from pydisent.cli import main
from pydisent.cli._main import _gathered
from pydisent.cli._side_by_side import RunsFailedError
from pydisent.sweeps.engine import Outcome
from pydisent.training import Plan, RunFolder, open_run, train


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "digits"
    assert _train("--data", "digits", "--out", str(path), "--seed", "3", "--set", "base=2") == 0
    return path


def _train(*options, system="spectral-gan"):
    return main(["train", system, "--preset", "smoke", "--accelerator", "cpu", *options])


def _one_line(capsys):
    errors = capsys.readouterr().err.strip()
    assert errors.startswith("pydisent: ")
    assert "\n" not in errors
    return errors


def test_train_writes_a_run(digits_run):
    run = open_run(digits_run)
    assert run.step == 30
    assert (run.config["data"], run.config["seed"]) == ("digits", 3)
    assert run.config["config"]["base"] == 2
    assert run.config["command"][0] == "pydisent"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "base=0"], "base "),
        (["--set", "bass=4"], "did you mean 'base'"),
        (["--set", "base"], "must be KEY=VALUE"),
        (["--preset", "huge"], "'huge'"),
        (["--data", "cats"], "cats"),
        (["--data", "mnist", "--data-path", "/nowhere"], "/nowhere"),
        (["--steps", "0"], "steps must be >= 1, got 0"),
        (["--threads", "0"], "threads must be >= 1, got 0"),
        (["--devices", "0"], "devices must be >= 1, got 0"),
        (
            ["--devices", "3"],
            "must be divisible by devices = 3, got 8",
        ),
    ],
)
def test_bad_input_is_one_line_and_code_2(tmp_path, capsys, options, message):
    assert _train(*options, "--out", str(tmp_path / "run")) == 2
    assert message in _one_line(capsys)
    assert not (tmp_path / "run").exists()


def test_a_plan_in_a_file_trains_the_same_run(digits_run, tmp_path, capsys):
    out = ["--plan", str(digits_run / "config.json"), "--out", str(tmp_path / "run")]
    assert main(["train", *out, "--accelerator", "cpu"]) == 0
    same, other = open_run(digits_run), open_run(tmp_path / "run")
    for name, value in same.system.state_dict().items():
        assert torch.equal(other.system.state_dict()[name], value)
    assert main(["train", *out, "--accelerator", "cpu", "--resume"]) == 0
    capsys.readouterr()
    for options, words in (
        (["--seed", "4"], "must be given, got both"),
        (["--plan", str(tmp_path / "none.json")], "there is no none.json"),
    ):
        assert main(["train", *out, *options]) == 2
        assert words in _one_line(capsys)
    assert main(["train"]) == 2
    assert "must be given, got neither" in _one_line(capsys)


def test_unknown_system_and_option(tmp_path, capsys):
    assert _train("--out", str(tmp_path / "run"), system="spectral-gna") == 2
    line = _one_line(capsys)
    assert all(name in line for name in (*systems.names(), "spectral-gna"))
    assert _train("--colour", "red") == 2
    assert main(["dance"]) == 2


def test_runs_are_not_overwritten_or_changed_silently(digits_run, capsys):
    out = ["--out", str(digits_run)]
    assert _train("--data", "digits", *out) == 2
    assert "--resume" in _one_line(capsys)
    for options, message in (
        (["--seed", "4"], "seed 3, not 4"),
        (["--data", "sprites"], "data digits, not sprites"),
        (["--set", "base=8"], "base 2, not 8"),
    ):
        assert _train(*options, *out, "--resume") == 2
        assert message in _one_line(capsys)
    assert main(["train", "spectral-gan", "--accelerator", "cpu", *out, "--resume"]) == 0


def test_a_resumed_run_keeps_its_threads(tmp_path):
    """Another number of threads would round differently."""
    before = torch.get_num_threads()
    try:
        out = ["--out", str(tmp_path / "run")]
        assert _train("--threads", "1", *out) == 0
        torch.set_num_threads(2)
        assert _train(*out, "--resume") == 0
        assert torch.get_num_threads() == 1
        assert open_run(tmp_path / "run").environment["threads"] == 1
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def few_images(monkeypatch):
    """Let TPL, PPL and FID look at fewer images."""
    for name, count in (("TRAVERSED_IMAGES", 1), ("PAIRS", 50), ("IMAGES", 400)):
        monkeypatch.setattr(f"pydisent.evaluation.metrics.perception.{name}", count)


@pytest.mark.usefixtures("few_images")
def test_evaluate(digits_run, capsys):
    assert main(["evaluate", str(digits_run)]) == 0
    output = capsys.readouterr().out
    assert "digits has no ground-truth factors" in output
    assert "f-diagonal" in output
    scores = json.loads((digits_run / "scores.json").read_text())
    assert scores.keys() == {"f-diagonal", "reconstruction", "tpl", "ppl", "fid"}
    assert 0 < scores["f-diagonal"]["score"] < 1
    assert "by fixed-features-1: tpl, fid" in output
    assert "not with published TPL, PPL, FID or LPIPS" in output.replace("\n", " ")
    unread = [["--vgg16", "/nowhere"], ["--lpips", "/nowhere"], ["--inception", "/nowhere"]]
    for option in unread:
        assert main(["evaluate", str(digits_run), *option]) == 2
        assert "/nowhere" in _one_line(capsys)
    assert main(["evaluate", str(digits_run), "--metrics", "z-diff"]) == 2
    assert "got 'z-diff', which needs" in _one_line(capsys)
    assert main(["evaluate", str(digits_run), "--metrics", "z-score"]) == 2
    assert "one of 'f-diagonal', 'z-diff', 'factor-vae', 'sap', 'mig'" in _one_line(capsys)


def test_evaluate_draws_codes_against_factors(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pydisent.evaluation.scoring.MAX_IMAGES", 3000)
    assert _train("--out", str(tmp_path / "run"), "--set", "base=2") == 0
    assert main(["evaluate", str(tmp_path / "run"), "--metrics", "mig", "sap"]) == 0
    output = capsys.readouterr().out.replace("\n", "")
    assert str(tmp_path / "run" / "figures" / "matrices.png") in output
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores.keys() == {"mig", "sap"}
    assert scores["mig"]["details"]["factors"] == ["shape", "scale", "orientation", "x", "y"]
    assert scores["mig"]["details"]["samples"] == 10_000
    assert (tmp_path / "run" / "figures" / "matrices.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.usefixtures("few_images")
def test_evaluate_keeps_what_it_could_score(digits_run, capsys, monkeypatch):
    def fail(run):
        raise ValueError("run is odd")

    monkeypatch.setattr("pydisent.evaluation.metrics.alignment.alignment_summary", fail)
    (digits_run / "scores.json").unlink(missing_ok=True)
    assert main(["evaluate", str(digits_run)]) == 2
    captured = capsys.readouterr()
    assert "reconstruction" in captured.out.split("scores")[-1]
    error = "pydisent: 1 of 5 metrics failed: f-diagonal: run is odd"
    assert captured.err.strip() == error
    kept = json.loads((digits_run / "scores.json").read_text()).keys()
    assert kept == {"reconstruction", "tpl", "ppl", "fid"}


@pytest.mark.usefixtures("few_images")
def test_select_scores_and_ranks(digits_run, tmp_path, capsys):
    (digits_run / "scores.json").unlink(missing_ok=True)
    assert _train("--data", "digits", "--out", str(digits_run.parent / "more" / "b")) == 0
    capsys.readouterr()
    assert main(["select", str(digits_run.parent)]) == 0
    output = capsys.readouterr().out
    assert output.count("scoring") == 2
    assert "TPL by distance fixed-features-1, threshold 0.13, segments 48" in output
    found = json.loads((digits_run.parent / "selection.json").read_text())
    assert {one["run"] for one in found["ranked"]} == {"digits", "more/b"}
    scores = json.loads((digits_run / "scores.json").read_text())
    (own,) = (one for one in found["ranked"] if one["run"] == "digits")
    assert own["tpl"] == scores["tpl"]["score"]
    assert main(["select", str(digits_run.parent), "--active", "1000"]) == 0
    output = capsys.readouterr().out
    assert "scoring" not in output
    assert "fewer than 1000 active dimensions" in output
    assert main(["select", str(tmp_path / "nowhere")]) == 2
    assert "there is no folder" in _one_line(capsys)


def test_a_generator_without_its_encoder_says_so(tmp_path, capsys):
    plan = Plan.from_preset("spectral-gan", preset="smoke", settings={"encoder_steps": 0})
    folder = train(plan, tmp_path / "run", accelerator="cpu", progress=False)
    assert main(["evaluate", str(folder.path), "--metrics", "factor-vae"]) == 2
    assert "cannot encode" in _one_line(capsys)


def test_missing_runs_are_named(tmp_path, capsys):
    for command in ("evaluate", "traverse", "transfer", "rotate", "trace", "report"):
        assert main([command, str(tmp_path / "nowhere")]) == 2
        assert "there is no run folder" in _one_line(capsys)


@pytest.fixture(scope="module")
def masked_run(tmp_path_factory):
    """A run whose codes have masks, and the lengths of its traversals."""
    path = tmp_path_factory.mktemp("runs") / "ps-sc"
    options = ["--data", "digits", "--out", str(path), "--steps", "2"]
    assert _train(*options, system="ps-sc") == 0
    assert main(["evaluate", str(path), "--metrics", "tpl", "mask-overlap"]) == 0
    return path


def _written(capsys):
    return [line.removeprefix("wrote ") for line in capsys.readouterr().out.split("\n") if line]


def test_traverse_draws_masks_where_there_are_any(digits_run, masked_run, tmp_path, capsys):
    for path, masks in ((digits_run, False), (masked_run, True)):
        out = tmp_path / path.name
        assert main(["traverse", str(path), "--out", str(out)]) == 0
        names = {"traversals.png", "traversals-bases.png", "traversals.gif"}
        assert {p.name for p in out.iterdir()} == names | ({"masks.png"} if masks else set())
        assert len(_written(capsys)) == 3 + masks
    assert main(["traverse", str(masked_run), "--sort", "code", "--out", str(tmp_path / "c")]) == 0
    by_code = (tmp_path / "c" / "traversals.gif").read_bytes()
    assert by_code != (tmp_path / "ps-sc" / "traversals.gif").read_bytes()
    assert main(["traverse", str(masked_run), "--sort", "size"]) == 2


def test_a_score_of_masks(masked_run, digits_run, capsys):
    found = open_run(masked_run).scores["mask-overlap"]
    assert 0 <= found["score"] <= 1
    size = len(open_run(masked_run).system.code_names)
    assert [len(found["details"][name]) for name in ("by_pair", "centre", "peak")] == [size] * 3
    assert main(["evaluate", str(digits_run), "--metrics", "mask-overlap"]) == 2
    assert "which needs a system with masks of its codes" in _one_line(capsys)


def test_transfer(masked_run, tmp_path, capsys):
    command = ["transfer", str(masked_run), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    lengths = open_run(masked_run).scores["tpl"]["details"]["per_dimension"]
    longest = sorted(range(len(lengths)), key=lambda i: -lengths[i])[:3]
    expected = [str(tmp_path / "out" / f"transfer-z{i + 1}.png") for i in longest]
    assert _written(capsys) == expected
    assert main([*command, "--from", "data", "--codes", "z1,z2", "--codes", "z3"]) == 0
    assert [p.rsplit("/")[-1] for p in _written(capsys)] == [
        "transfer-z1-z2.png",
        "transfer-z3.png",
    ]
    assert main([*command, "--codes", "z99"]) == 2
    assert "got 'z99'" in _one_line(capsys)


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
    assert "must be two different ones" in _one_line(capsys)


@pytest.fixture
def engines(monkeypatch):
    """Engines that run command lines in this process; how many jobs each would run at once."""
    made = []

    class Here:
        def __init__(self, workers):
            made.append(workers)

        def run(self, jobs, note):
            for job in jobs:
                note(Outcome(job.name, "running"))
                for command in job.commands:
                    assert command[:3] == (sys.executable, "-m", "pydisent")
                    code = main(command[3:])
                note(
                    Outcome(job.name, "failed" if code else "done", 1.0, "broke" if code else None)
                )

    before = torch.get_num_threads()
    monkeypatch.setattr("pydisent.sweeps.engine.LocalEngine", Here)
    yield made
    torch.set_num_threads(before)


@pytest.mark.usefixtures("short_eigenpaths", "engines")
def test_demo_compares_both_and_does_nothing_twice(tmp_path, capsys, monkeypatch):
    # The metrics of codes encode three quarters of a million images.
    monkeypatch.setattr("pydisent.evaluation.scoring.applicable", lambda run: ("f-diagonal",))
    command = ["demo", "--preset", "smoke", "--out", str(tmp_path)]
    assert main(command) == 0
    output = capsys.readouterr().out
    assert "f-diagonal" in output
    assert str(tmp_path / "report" / "index.html") in output.replace("\n", "")
    page = (tmp_path / "report" / "index.html").read_text()
    assert "spectral-gan" in page
    written = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/checkpoints/*/*")}
    assert len({p.parents[2].name for p in written}) == 2
    assert output.index("data.png") < output.index("spectral-gan: running")
    for name in ("data.png", "spectral-gan/figures/traversals.png", "plain-gan/figures"):
        assert (tmp_path / name).exists()
        assert f"wrote {tmp_path / name}" in output.replace("\n", "")
    assert main(command) == 0
    assert "running" not in capsys.readouterr().out
    assert written == {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/checkpoints/*/*")}
    assert main([*command, "--seed", "1"]) == 2
    assert "seed 0, not 1" in _one_line(capsys)


@pytest.mark.usefixtures("short_eigenpaths")
@pytest.mark.parametrize(
    ("cores", "threads", "at_once"), [(1, 1, 1), (2, 1, 2), (8, 4, 2), (2, 2, 1)]
)
def test_demo_divides_the_cores(tmp_path, monkeypatch, capsys, engines, cores, threads, at_once):
    def nothing(plans, out, **options):
        raise RunsFailedError("spectral-gan: failed")

    monkeypatch.setattr("pydisent.cli._side_by_side.train_and_score", nothing)
    monkeypatch.setattr("pydisent.sweeps.engine.cores", lambda: cores)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    command = ["demo", "--preset", "smoke", "--out", str(tmp_path), "--threads", str(threads)]
    assert main(command) == 1
    assert _one_line(capsys) == "pydisent: spectral-gan: failed"
    assert engines == [at_once]


def test_list(capsys):
    assert main(["list"]) == 0
    output = capsys.readouterr().out
    for name in (*systems.names(), "sprites", "mnist", "z-diff"):
        assert name in output
    assert main(["list", "spectral-gan"]) == 0
    assert "instance_noise" in capsys.readouterr().out
    assert main(["list", "gun"]) == 2


def test_info(capsys):
    assert main(["info"]) == 0
    output = capsys.readouterr().out
    assert "torch" in output
    assert "reference" in output


def test_run_folder_default_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _train(system="spectral-gan") == 0
    assert RunFolder(tmp_path / "runs" / "spectral-gan-sprites-smoke-0").is_run()


def _sweep(*options):
    return main(["sweep", "spectral-gan", "--preset", "smoke", "--accelerator", "cpu", *options])


def test_sweep_trains_scores_and_compares(tmp_path, capsys, monkeypatch):
    """The second call has nothing left to do but to compare again."""

    class Here:
        """Runs the command lines of jobs in this process: others test real ones."""

        def __init__(self, workers):
            pass

        def run(self, jobs, note):
            for job in jobs:
                with contextlib.redirect_stdout(io.StringIO()) as said:
                    done = all(main(command[3:]) == 0 for command in job.commands)
                job.output.write_text(said.getvalue())
                note(Outcome(job.name, "done" if done else "failed", 1.0))

    monkeypatch.setattr("pydisent.sweeps.engine.LocalEngine", Here)
    out = tmp_path / "sweep"
    options = ["--data", "digits", "--grid", "base=2", "--seeds", "7", "--out", str(out)]
    options += ["--metrics", "f-diagonal"]
    assert _sweep(*options) == 0
    assert "[1/1] spectral-gan-base-2-seed-7: done after" in capsys.readouterr().out
    run = open_run(out / "spectral-gan-base-2-seed-7")
    assert (run.step, run.config["seed"], run.config["config"]["base"]) == (30, 7, 2)
    assert run.scores.keys() == {"f-diagonal"}
    assert (out / "comparison" / "comparison.md").is_file()
    log = (run.path / "output.log").read_text()
    assert _sweep(*options) == 0
    assert "1 runs, 1 of them done before" in capsys.readouterr().out
    assert (run.path / "output.log").read_text() == log
    assert main(["compare", str(out)]) == 0
    assert "spectral-gan" in capsys.readouterr().out


def test_sweep_with_failures_has_code_1(tmp_path, capsys, monkeypatch):
    class Failing:
        def __init__(self, workers):
            self.workers = workers

        def run(self, jobs, note):
            for job in jobs:
                note(Outcome(job.name, "failed", 1.0, f"one of {self.workers} broke"))

    monkeypatch.setattr("pydisent.sweeps.engine.LocalEngine", Failing)
    out = tmp_path / "sweep"
    assert _sweep("--out", str(out), "--seeds", "3,4", "--workers", "5") == 1
    assert (
        _one_line(capsys)
        == "pydisent: 2 of 2 runs failed: spectral-gan-seed-3, spectral-gan-seed-4"
    )
    state = json.loads((out / "sweep.json").read_text())["runs"]["spectral-gan-seed-3"]
    assert (state["state"], state["error"]) == ("failed", "one of 5 broke")
    assert not (out / "comparison").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "0,x"], "seeds must be integers such as 0,1,2, got '0,x'"),
        (["--grid", "base"], "--grid must be KEY=VALUE, got 'base'"),
        (["--grid", "base=2", "base=4"], "--grid must give each key once, got base twice"),
        (["--grid", "bass=2"], "must name a setting of spectral-gan"),
        (["--workers", "0"], "workers must be >= 1, got 0"),
        (["--threads", "0"], "threads must be >= 1, got 0"),
        (["--metrics", "z-score"], "got 'z-score'"),
        (["--ray-address", "auto"], "ray_address must be given only with ray, got 'auto'"),
    ],
)
def test_bad_sweeps_are_one_line_and_code_2(tmp_path, capsys, options, message):
    assert _sweep("--out", str(tmp_path / "sweep"), *options) == 2
    assert message in _one_line(capsys)
    assert not (tmp_path / "sweep").exists()


def test_a_sweep_on_ray_says_what_it_needs(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    assert _sweep("--out", str(tmp_path / "sweep"), "--engine", "ray") == 2
    words = f"pydisent: this needs the package ray: {install_command('sweep')}"
    assert _one_line(capsys) == words
    assert not (tmp_path / "sweep").exists()


def test_compare_needs_runs(tmp_path, capsys):
    assert main(["compare"]) == 2
    assert "runs must be at least one run folder" in _one_line(capsys)
    assert main(["compare", str(tmp_path / "nowhere")]) == 2
    assert "there is no run folder" in _one_line(capsys)


@pytest.mark.parametrize(
    ("words", "gathered"),
    [
        ("train vae --set a=1 --set b=2", "train vae --set a=1 b=2"),
        ("train vae --set a=1 b=2 --seed 3 --set=c=4", "train vae --set a=1 b=2 c=4 --seed 3"),
        ("sweep vae --grid a=1,2 --seeds 0,1 --grid b=3", "sweep vae --grid a=1,2 b=3 --seeds 0,1"),
        ("list vae", "list vae"),
    ],
)
def test_a_repeated_option_keeps_all_its_values(words, gathered):
    assert _gathered(words.split()) == gathered.split()
