"""The benches that train runs, at their smallest."""

import functools
import json
import signal
import sys

import pytest

from pydisent import metrics
from pydisent.training import Interrupted, Plan, RunFolder, train
from pydisent.training.checkpoint import latest_checkpoint


@pytest.fixture
def ps_sc(bench, monkeypatch):
    for name, value in {"TRAVERSED_IMAGES": 1, "PAIRS": 32, "IMAGES": 300}.items():
        monkeypatch.setattr(f"pydisent.evaluation.metrics.perception.{name}", value)
    monkeypatch.setattr("pydisent.evaluation.scoring.MAX_IMAGES", 1000)
    return bench("ps_sc")


@pytest.mark.filterwarnings("ignore:FID of 300 real")
def test_ablation_trains_scores_and_goes_on(ps_sc, tmp_path, capsys):
    command = ["--preset", "smoke", "--steps", "5", "--softmax", "--workers", "1"]
    command += ["--out", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    first = _interrupted_after_one(ps_sc, command, tmp_path)
    assert "start the same command again to go on" in capsys.readouterr().err
    assert ps_sc.main(command) == 0
    assert first == {p: p.stat().st_mtime_ns for p in first}
    (path,) = (tmp_path / "results").glob("*/ps_sc.json")
    result = json.loads(path.read_text())
    assert str(tmp_path) not in path.read_text()
    assert [run["variant"] for run in result["runs"]] == ["infogan", "ps", "sc", "both", "softmax"]
    by_variant = {run["variant"]: run for run in result["runs"]}
    for variant, run in by_variant.items():
        wanted = {"tpl", "ppl", "fid", "factor-vae"}
        masked = {"mask-overlap"} if variant in ("sc", "both", "softmax") else set()
        assert run["scores"].keys() == wanted | masked
        assert run["seconds"] > 0
        assert run["threads"] == 1
    off = {"spatial_constriction": False, "ps_weight": 0.0}
    assert by_variant["infogan"]["settings"] == off
    assert by_variant["sc"]["settings"] == {"ps_weight": 0.0}
    assert by_variant["both"]["settings"] == {}
    assert by_variant["softmax"]["settings"]["mask"] == "softmax"
    pictures = {p.name for p in path.parent.glob("*.png")}
    assert pictures == {"ps_sc.png", "ps_sc_scores.png"}
    assert "| + both, softmax masks |" in capsys.readouterr().out

    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*/checkpoints/*/*")}
    scored = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*/scores.json")}
    assert ps_sc.main(command) == 0
    assert times == {p: p.stat().st_mtime_ns for p in times}
    assert scored == {p: p.stat().st_mtime_ns for p in scored}
    assert json.loads(path.read_text())["runs"] == result["runs"]


def _interrupted_after_one(ps_sc, command, folder):
    """Stop the second run as a signal would, and return the files of the first and their times."""
    runs, calls = sys.modules["_runs"], []
    train = runs.train

    def stopped(plan, path, **options):
        calls.append(path)
        if len(calls) == 2:
            raise Interrupted(signal.SIGTERM, 3)
        return train(plan, path, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "train", stopped)
        assert ps_sc.main(command) == 128 + signal.SIGTERM
    assert not (folder / "results").exists()
    kept = [*(folder / "runs").glob("*/checkpoints/*/*"), *(folder / "runs").glob("*/scores.json")]
    assert kept
    return {p: p.stat().st_mtime_ns for p in kept}


def test_ablation_over_seeds_is_a_mean_with_its_spread(ps_sc):
    runs = [
        {"variant": v, "seed": s, "scores": {"tpl": 10.0 + s, "fid": 2.5}, "active": 4 + s,
         "seconds": 60.0, "threads": 2, "measured_by": "a net"}
        for v in ("both", "infogan")
        for s in (0, 2)
    ]  # fmt: skip
    shared = {"data": "d", "image_size": 32, "preset": "quick", "steps": 1000}
    lines = ps_sc.table({**shared, "runs": runs})
    rows = [line for line in lines if line.startswith(("| InfoGAN", "| + both"))]
    assert rows[0].startswith("| InfoGAN | 11.00 ± 1.41 | – | 2.500 ± 0.000 | – | – | 5.0 ± 1.4 |")
    assert len(rows) == 2
    assert "seeds 0, 2" in lines[0]
    assert "`a net`" in lines[0]


def test_runs_that_differ_are_not_put_together(ps_sc):
    runs = sys.modules["_runs"]
    one = {"data": "d", "image_size": 32, "preset": "quick", "steps": 5, "scores": {}}
    assert runs.together([one, one])["runs"] == [{"scores": {}}] * 2
    with pytest.raises(ValueError, match="the runs differ in steps"):
        runs.together([one, one | {"steps": 6}])


@pytest.fixture
def hasty_classifiers(monkeypatch):
    """Classifiers that have hardly learned, and few images to judge."""
    hasty = functools.partial(metrics.trained_classifier, updates=20)
    monkeypatch.setattr("pydisent.evaluation.metrics.edits.trained_classifier", hasty)
    sizes = {"CLASSIFIER_TRAIN": 300, "FLIP_VALIDATION": 6, "FLIP_TEST": 8}
    for name, value in sizes.items():
        monkeypatch.setattr(f"pydisent.evaluation.metrics.edits.{name}", value)
    monkeypatch.setenv("PYDISENT_CACHE", "off")


def test_table_1_of_jacobian_supervision(bench, hasty_classifiers, tmp_path, capsys):
    command = ["--data", "digits", "--preset", "smoke", "--workers", "1", "--steps", "15"]
    command += ["--out", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    command += ["--rows", "teacher", "supervised-14", "weights-1-0.1-0.001"]
    jacobian_ae = bench("jacobian_ae")
    epoch = jacobian_ae.arguments(["--data", "digits", "--preset", "smoke", "--epochs", "1"])
    assert {plan.steps for plan in jacobian_ae.plans(epoch).values()} == {round(1797 * 0.8 / 16)}
    assert jacobian_ae.main(command) == 0
    (path,) = (tmp_path / "results").glob("*/jacobian_ae.json")
    result = json.loads(path.read_text())
    assert str(tmp_path) not in path.read_text()
    rows = {run["row"]: run for run in result["runs"]}
    assert list(rows) == ["teacher", "supervised-14", "weights-1-0.1-0.001", "random-14"]
    for run in rows.values():
        assert 0 <= run["scores"]["class-swaps"] <= 1
        assert 0 < run["reconstruction_mse"] < 1
    assert rows["random-14"]["reconstruction_mse"] > rows["supervised-14"]["reconstruction_mse"]
    assert path.with_suffix(".png").stat().st_size > 5000
    table = capsys.readouterr().out
    assert "| Teacher | 0 |" in table
    assert "| Student with nuisance 14, weight_y 1 | 14 |" in table


def test_table_2_of_jacobian_supervision(bench, hasty_classifiers, tmp_path, capsys):
    command = ["--preset", "smoke", "--workers", "1", "--steps", "5"]
    command += ["--out", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    assert bench("attribute_ae").main(command) == 0
    (path,) = (tmp_path / "results").glob("*/attribute_ae.json")
    result = json.loads(path.read_text())
    assert str(tmp_path) not in path.read_text()
    rows = {run["row"]: run for run in result["runs"]}
    assert list(rows) == ["teacher", "jacobian", "cycle"]
    assert [run["z_size"] for run in rows.values()] == [8, 32, 32]
    for run in rows.values():
        assert 0 <= run["scores"]["attribute-flips"] <= 1
        assert len(run["by_attribute"]) == len(run["attributes"]) == 32
    assert path.with_suffix(".png").stat().st_size > 5000
    assert "| Student with cycle losses | 32 |" in capsys.readouterr().out

    def phases(row):
        log = (tmp_path / "runs" / f"{row}-seed-0" / "log.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in log]

    teacher = phases("teacher")
    assert teacher[-1]["phase"] == "teacher-cycle"
    for row in ("jacobian", "cycle"):  # they went on where the teacher had ended
        assert phases(row)[: len(teacher)] == teacher
        assert phases(row)[-1]["phase"] == "student-2"


def test_a_student_that_goes_on_from_its_teacher_is_what_it_would_be(bench, tmp_path):
    """A run that begins with a copy of its teacher ends like one that trained it."""
    attribute_ae, folders = bench("attribute_ae"), {}
    plans = {
        students: Plan.from_preset(
            "attribute-ae", "faces", "smoke", steps=4, settings={"students": students}
        )
        for students in (0, 1)
    }
    for name, students in (("teacher", 0), ("whole", 1)):
        folders[name] = train(plans[students], tmp_path / name, accelerator="cpu", progress=False)
    branched = RunFolder(tmp_path / "branched")
    attribute_ae.branch(folders["teacher"], plans[1], branched)
    train(plans[1], branched.path, resume=True, accelerator="cpu", progress=False)
    weights = [
        (latest_checkpoint(folder.checkpoints) / "model.safetensors").read_bytes()
        for folder in (branched, folders["whole"])
    ]
    assert weights[0] == weights[1]


def test_ib_gan_and_its_baselines(bench, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("pydisent.evaluation.scoring.MAX_IMAGES", 1000)
    ib_gan = bench("ib_gan")
    monkeypatch.setattr(ib_gan, "IMAGES", 500)
    command = ["--preset", "smoke", "--workers", "1", "--steps", "10", "--betas", "0"]
    command += ["--out", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    assert ib_gan.main(command) == 0
    (path,) = (tmp_path / "results").glob("*/ib_gan_sprites.json")
    result = json.loads(path.read_text())
    assert str(tmp_path) not in path.read_text()
    runs = {run["variant"]: run for run in result["runs"]}
    assert list(runs) == ["gan", "infogan", "ib-gan", "beta-0"]
    for name, run in runs.items():
        assert 0 <= run["factor_vae_jeon"] <= 1
        assert (run["mi_upper"] is None) == (name in ("gan", "infogan"))
    assert runs["beta-0"]["beta"] == 0
    assert len(runs["ib-gan"]["kl"]) == 4
    assert list(result["over_training"]) == ["5", "10"]
    pictures = {p.name.removeprefix("ib_gan_sprites") for p in path.parent.glob("*.png")}
    assert pictures == {".png", "_information.png", "_betas.png"}
    table = capsys.readouterr().out
    for name in ("| GAN |", "| InfoGAN |", "| IB-GAN, β = 0.141 |", "| IB-GAN, β = 0 |"):
        assert name in table


def test_precisions_are_compared_over_seeds(bench, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("pydisent.evaluation.scoring.MAX_IMAGES", 1000)
    precision = bench("precision")
    monkeypatch.setattr(precision, "METRICS", ("mig", "reconstruction"))
    monkeypatch.setattr(precision, "has_native_bf16", lambda device: True)
    table = precision.table
    monkeypatch.setattr(precision, "table", lambda result: [])
    command = ["--preset", "smoke", "--workers", "1", "--steps", "5", "--seeds", "0"]
    command += ["--out", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    assert precision.main(command) == 0
    (path,) = (tmp_path / "results").glob("*/precision.json")
    result = json.loads(path.read_text())
    assert [run["precision"] for run in result["runs"]] == ["fp32", "bf16"]
    result["runs"] += [{**run, "seed": 1, "scores": {**run["scores"]}} for run in result["runs"]]
    for run in result["runs"]:
        run["scores"] |= {"factor-vae": 0.5, "sap": 0.25 * run["seed"]}
    lines = table(result)
    assert lines[-3].startswith("| beta-vae | fp32 | 0.500 ± 0.000 |")
    assert "| 0.125 ± 0.177 |" in lines[-2]


def test_throughput_is_measured_behind_a_gate(bench, monkeypatch, tmp_path):
    throughput = bench("throughput")
    monkeypatch.setattr(throughput, "WARM_UP", 1)
    monkeypatch.setattr(throughput, "has_native_bf16", lambda device: True)
    written = {}
    monkeypatch.setattr(
        throughput, "write_result", lambda *args: written.update({args[0]: args[1]}) or "there"
    )
    command = ["--seconds", "0.05", "--threads", "1", "--preset", "smoke", "--gate-steps", "5"]
    assert throughput.main(["--systems", "beta-vae", *command, "--trace", str(tmp_path)]) == 0
    timed = {"p20": 1.0, "p50": 1.0, "p80": 1.0, "calls": 1}
    monkeypatch.setattr(
        throughput, "timed_in_turns", lambda which, *_: {key: {**timed} for key in which}
    )
    row = written["throughput"]["systems"]["beta-vae"]
    assert row["gate"]["error"] <= 1e-9  # in double precision: one and the same training
    assert row["seconds"].keys() == {"plain", "pydisent", "pydisent bf16"}
    assert "descent" in row["profile"]["milliseconds_by_stage"]
    assert sum(row["profile"]["share_by_operation"].values()) < 1
    assert (tmp_path / "beta-vae.json").stat().st_size > 1000
    shown = written["throughput"] | {"environment": throughput.environment()}
    (line,) = [t for t in throughput.table(shown) if t.startswith("| beta-vae")]
    assert "8 of sprites, 16 px" in line
    real = throughput.plain_loop

    def wrong(system):
        step = real(system)
        return lambda *batch: {name: loss * 1.0001 for name, loss in step(*batch).items()}

    monkeypatch.setattr(throughput, "plain_loop", wrong)
    assert throughput.main(["--systems", "beta-vae", *command]) == 1
    assert "pydisent" not in written["throughput"]["systems"]["beta-vae"]["seconds"]
