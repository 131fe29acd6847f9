import json

import pytest
from _written_runs import grid, write_run

from pydisent.evaluation import compare


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
    assert remark == "image sizes differ (32, 64): reconstruction errors are not comparable"


def test_the_nets_that_looked_at_images_are_said(tmp_path):
    runs = [write_run(tmp_path / str(seed), {"tpl": 1.0, "fid": 2.0}, seed=seed) for seed in (0, 1)]
    for run, net in zip(runs, ("fixed-features-1", "vgg16-lpips")):
        details = {"tpl": {"distance": net}, "fid": {"distance": "fixed-features-1"}}
        entries = {name: {"score": 1.0, "details": d} for name, d in details.items()}
        (run / "scores.json").write_text(json.dumps(entries))
    assert compare(runs).remarks() == [
        "tpl is by fixed-features-1 and vgg16-lpips: not comparable",
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


def test_a_sweeps_folder_stands_for_its_runs(tmp_path):
    grid(tmp_path / "sweep")
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    (tmp_path / "sweep" / "comparison").mkdir()
    assert len(compare([tmp_path / "sweep"]).groups) == 6
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "sweep.json").write_text("{}")
    with pytest.raises(ValueError, match="runs must be at least one run folder"):
        compare([tmp_path / "empty"])


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
