import csv
import io
import json
import statistics

import pytest

from pydisent.reports import compare, write_comparison
from pydisent.reports.tradeoff import _curves, draw_tradeoff


def write_run(path, scores=None, system="beta-vae", seed=0, data="sprites", **config):
    """A run folder as far as a comparison reads it; keys of the plan go before the system's."""
    plan = {"data_path": None, "preset": "quick", "image_size": 64, "steps": 2500}
    plan |= {"partial": False}
    plan |= {name: config.pop(name) for name in list(config) if name in plan}
    path.mkdir(parents=True)
    values = {"system": system, "data": data, "seed": seed, "config": config, "format": 1}
    (path / "config.json").write_text(json.dumps(plan | values))
    if scores is not None:
        entries = {name: {"score": value, "details": {}} for name, value in scores.items()}
        (path / "scores.json").write_text(json.dumps(entries))
    return path


def grid(tmp_path):
    """Two systems over one setting each, three seeds; the larger value is written first."""
    runs = []
    for system, setting in (("beta-vae", "beta"), ("dip-vae-1", "lambda_od")):
        for value in (16.0, 4.0, 1.0):
            for seed in (2, 0, 1):
                scores = {"sap": 0.01 * value + 0.1 * seed, "reconstruction": 0.001 * value}
                path = tmp_path / f"{system}-{value:g}-{seed}"
                runs.append(write_run(path, scores, system, seed, **{setting: value, "other": 3}))
    return runs


def test_seeds_are_averaged_and_settings_are_not(tmp_path):
    comparison = compare(grid(tmp_path))
    assert comparison.metrics == ("reconstruction", "sap")
    labels = [group.label for group in comparison.groups]
    assert labels == [
        *(f"beta-vae beta={v}" for v in (1, 4, 16)),
        *(f"dip-vae-1 lambda_od={v}" for v in (1, 4, 16)),
    ]
    for group, value in zip(comparison.groups, (1, 4, 16, 1, 4, 16)):
        assert group.seeds == (0, 1, 2)
        sap = group.estimate("sap")
        assert sap.mean == pytest.approx(0.01 * value + 0.1)
        assert sap.std == pytest.approx(0.1)  # of 0, 0.1 and 0.2 with n - 1
        assert sap.n == 3
        assert group.estimate("reconstruction").std == pytest.approx(0, abs=1e-12)
    assert not comparison.remarks()


def test_preset_and_logging_do_not_tell_runs_apart_but_steps_and_size_do(tmp_path):
    same = [write_run(tmp_path / str(s), {"sap": s}, seed=s, preset=f"p{s}") for s in range(2)]
    assert len(compare(same).groups) == 1
    other = [
        write_run(tmp_path / "longer", {"sap": 1}, steps=9000),
        write_run(tmp_path / "larger", {"sap": 1}, image_size=None),
    ]
    labels = [group.label for group in compare([*same, *other]).groups]
    part = write_run(tmp_path / "part", {"sap": 1}, partial=True)
    assert [g.label for g in compare([*same, part]).groups] == [
        "beta-vae partial=False",
        "beta-vae partial=True",
    ]
    assert labels == [
        "beta-vae image_size=64 steps=2500",
        "beta-vae image_size=64 steps=9000",
        "beta-vae image_size=None steps=2500",
    ]


def test_one_seed_has_no_spread(tmp_path):
    comparison = compare([write_run(tmp_path / "a", {"sap": 0.25, "reconstruction": 0.00123})])
    assert comparison.rows() == [("beta-vae", "0", "0.00123 (1)", "0.250 (1)")]
    assert comparison.groups[0].estimate("sap").std is None


def test_missing_scores_are_said_with_the_command_that_makes_them(tmp_path):
    full = write_run(tmp_path / "full", {"sap": 0.5, "mig": 0.2, "f-diagonal": 0.9}, k=3)
    part = write_run(tmp_path / "part", {"mig": 0.3}, seed=1, k=3)
    none = write_run(tmp_path / "none", None, seed=2, k=3)
    vae = write_run(tmp_path / "vae", {"sap": 0.1, "mig": float("nan")}, "vae")
    comparison = compare([full, part, none, vae])
    assert comparison.remarks() == [
        f"{part} lacks sap, f-diagonal: pydisent evaluate {part} --metrics sap f-diagonal",
        f"{none} lacks sap, mig, f-diagonal: pydisent evaluate {none} --metrics sap mig f-diagonal",
        f"{vae} lacks mig: pydisent evaluate {vae} --metrics mig",
    ]
    assert comparison.rows()[0] == (
        "beta-vae", "0 1 2", "0.500 (1)", "0.250 ± 0.071 (2)", "0.900 (1)"
    )  # fmt: skip
    assert compare([none]).remarks() == [f"{none} lacks scores: pydisent evaluate {none}"]


def test_reconstructions_of_different_sizes_do_not_compare(tmp_path):
    runs = [
        write_run(tmp_path / str(size), {"reconstruction": 0.1}, image_size=size)
        for size in (32, 64)
    ]
    (remark,) = compare(runs).remarks()
    assert remark == "image sizes differ (32, 64): reconstruction errors do not compare"


def test_the_nets_that_looked_at_images_are_said(tmp_path):
    runs = [write_run(tmp_path / str(seed), {"tpl": 1.0, "fid": 2.0}, seed=seed) for seed in (0, 1)]
    for run, net in zip(runs, ("fixed-features-1", "vgg16-lpips")):
        details = {"tpl": {"distance": net}, "fid": {"distance": "fixed-features-1"}}
        entries = {name: {"score": 1.0, "details": d} for name, d in details.items()}
        (run / "scores.json").write_text(json.dumps(entries))
    assert compare(runs).remarks() == [
        "tpl is by fixed-features-1 and vgg16-lpips: its figures do not compare",
        "fid is by fixed-features-1",
    ]


def test_different_data_are_refused(tmp_path):
    first = write_run(tmp_path / "a", {})
    other = write_run(tmp_path / "b", {}, data="images", data_path="/x", seed=1)
    with pytest.raises(ValueError, match=r"same data, got data sprites for .*a and images for .*b"):
        compare([first, other])


def test_a_run_counts_once(tmp_path):
    runs = [write_run(tmp_path / name, {"sap": 0.1}, seed=4) for name in "ab"]
    with pytest.raises(ValueError, match=r"a and .*b, which are the same, with seed 4"):
        compare(runs)
    with pytest.raises(ValueError, match="which are the same"):
        compare([runs[0], runs[0]])


def test_what_is_no_run_or_damaged_is_named(tmp_path):
    with pytest.raises(ValueError, match="runs must be at least one run folder"):
        compare([])
    with pytest.raises(FileNotFoundError, match="there is no run folder"):
        compare([tmp_path / "nowhere"])
    run = write_run(tmp_path / "a", {"sap": 0.1})
    scores = run / "scores.json"
    for text, words in (
        ('{"sap": {"score": 0.1', r"scores\.json is not valid JSON"),
        ("[0.1]", r"scores\.json must be a JSON object, got list"),
        ('{"sap": {"value": 1}}', r"scores\.json: the score of sap must be a number"),
        ('{"sap": {"score": true}}', r"scores\.json: the score of sap must be a number"),
    ):
        scores.write_text(text)
        with pytest.raises(ValueError, match=words):
            compare([run])
    (run / "config.json").write_text('{"system": "vae"}')
    with pytest.raises(ValueError, match=r"config\.json lacks data, seed, config"):
        compare([run])


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("config", 5, "config must be dict, got 5"),
        ("seed", "x", "seed must be int, got 'x'"),
        ("seed", True, "seed must be int, got True"),
        ("system", ["vae"], r"system must be str, got \['vae'\]"),
        ("data", None, "data must be str, got None"),
        ("steps", 1.5, r"steps must be int, got 1\.5"),
        ("image_size", "64", "image_size must be int or None, got '64'"),
    ],
)
def test_fields_of_another_type_are_named(tmp_path, field, value, words):
    runs = [write_run(tmp_path / str(seed), {"sap": 0.1}, seed=seed) for seed in range(2)]
    file = runs[1] / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
    with pytest.raises(ValueError, match=rf"1/config\.json: {words}"):
        compare(runs)


def test_paths_may_be_text(tmp_path):
    runs = grid(tmp_path / "sweep")
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    assert compare([str(path) for path in runs]) == compare(runs)
    comparison = compare([str(tmp_path / "sweep")])
    assert len(comparison.groups) == 6
    assert (tmp_path / "out" / "comparison.md") in write_comparison(
        comparison, str(tmp_path / "out")
    )


def test_a_sweeps_folder_stands_for_its_runs(tmp_path):
    grid(tmp_path / "sweep")
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    (tmp_path / "sweep" / "comparison").mkdir()
    assert len(compare([tmp_path / "sweep"]).groups) == 6
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "sweep.json").write_text("{}")
    with pytest.raises(ValueError, match="runs must be at least one run folder"):
        compare([tmp_path / "empty"])


def test_files_say_the_same(tmp_path):
    runs = grid(tmp_path / "runs")
    comparison = compare(runs)
    written = write_comparison(comparison, tmp_path / "out")
    assert [file.name for file in written] == [
        "comparison.json", "comparison.csv", "comparison.md", "tradeoff.png"
    ]  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(p.name for p in written)
    values = json.loads(written[0].read_text())
    first = values["groups"][0]
    assert first["varied"] == {"beta": 1.0}
    assert [run["seed"] for run in first["runs"]] == [0, 1, 2]
    assert first["scores"]["sap"]["mean"] == statistics.fmean(
        run["scores"]["sap"] for run in first["runs"]
    )
    rows = list(csv.DictReader(io.StringIO(written[1].read_text())))
    assert len(rows) == 6 * 2
    assert rows[0].keys() == {"system", "beta", "lambda_od", "metric", "mean", "std", "n"}
    for row in rows:
        beta, od = row["beta"], row["lambda_od"]
        (group,) = [
            g for g in values["groups"]
            if g["varied"] == ({"beta": float(beta)} if beta else {"lambda_od": float(od)})
        ]  # fmt: skip
        assert float(row["mean"]) == group["scores"][row["metric"]]["mean"]
    assert "| beta-vae beta=1 | 0 1 2 | 0.00100 ± 0.00000 (3) | 0.110 ± 0.100 (3) |" in (
        written[2].read_text()
    )


def curves(runs):
    return [
        (curve.label, [tuple(g.varied.values()) for g in curve.groups])
        for curve in _curves(compare(runs))
    ]


def test_curves_follow_one_setting_in_rising_order(tmp_path):
    assert curves(grid(tmp_path)) == [
        ("beta-vae (over beta)", [(1,), (4,), (16,)]),
        ("dip-vae-1 (over lambda_od)", [(1,), (4,), (16,)]),
    ]


def test_a_setting_that_goes_with_the_main_one_makes_no_curves_of_its_own(tmp_path):
    runs = [
        write_run(tmp_path / f"{od}", {}, "dip-vae-1", lambda_od=od, lambda_d=10 * od)
        for od in (1, 5, 2)
    ]
    assert curves(runs) == [("dip-vae-1 (over lambda_od)", [(1, 10), (2, 20), (5, 50)])]


def test_a_second_free_setting_makes_a_curve_for_each_value(tmp_path):
    runs = [
        write_run(tmp_path / f"{beta}-{d}", {}, beta=beta, latent_size=d)
        for beta in (1, 4, 16)
        for d in (10, 20)
    ]
    assert [label for label, _ in curves(runs)] == [
        "beta-vae (over beta, latent_size=10)",
        "beta-vae (over beta, latent_size=20)",
    ]


def test_the_picture_has_a_panel_for_each_score(tmp_path):
    from PIL import Image

    comparison = compare(grid(tmp_path))
    one = Image.open(io.BytesIO(draw_tradeoff(comparison)))
    assert one.width > 700
    assert one.height > 500
    assert len(set(one.convert("RGB").resize((200, 200)).get_flattened_data())) > 20
    assert draw_tradeoff(comparison) == draw_tradeoff(comparison)


def test_without_reconstructions_there_is_no_picture(tmp_path):
    runs = [write_run(tmp_path / str(s), {"sap": 0.1 * s}, seed=s) for s in range(2)]
    comparison = compare(runs)
    assert draw_tradeoff(comparison) is None
    names = [path.name for path in write_comparison(comparison, tmp_path / "out")]
    assert "tradeoff.png" not in names
    assert draw_tradeoff(compare([write_run(tmp_path / "r", {"reconstruction": 0.1})])) is None


def test_unfinished_runs_are_said(tmp_path):
    from pydisent.training import Plan, train

    plan = Plan.from_preset(
        "spectral-gan", "digits", "smoke", steps=5, settings={"encoder_steps": 2}
    )
    folder = train(plan, tmp_path / "run", accelerator="cpu", progress=False)
    assert compare([folder.path]).remarks() == [
        f"{folder.path} lacks scores: pydisent evaluate {folder.path}"
    ]
    config = json.loads(folder.config.read_text())
    folder.config.write_text(json.dumps(config | {"steps": 50}))
    assert compare([folder.path]).remarks()[0] == (
        f"{folder.path} is unfinished, 7 of 52 updates: "
        f"pydisent train spectral-gan --out {folder.path} --resume"
    )
