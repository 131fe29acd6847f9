import csv
import io
import json
import statistics

from _written_runs import grid, write_run

from pydisent.reports import compare, write_comparison
from pydisent.reports.comparison import latex_table, runs_csv
from pydisent.reports.tradeoff import _curves, draw_tradeoff


def test_paths_may_be_text(tmp_path):
    runs = grid(tmp_path / "sweep")
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    assert compare([str(path) for path in runs]) == compare(runs)
    comparison = compare([str(tmp_path / "sweep")])
    assert len(comparison.groups) == 6
    assert (tmp_path / "out" / "comparison.md") in write_comparison(
        comparison, str(tmp_path / "out")
    )


def test_files_say_the_same(tmp_path):
    runs = grid(tmp_path / "runs")
    comparison = compare(runs)
    written = write_comparison(comparison, tmp_path / "out")
    assert [file.name for file in written] == [
        "comparison.json", "comparison.csv", "comparison-runs.csv", "comparison.md",
        "comparison.tex", "tradeoff.png",
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
        written[3].read_text()
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


def test_a_row_a_run_and_metric(tmp_path):
    runs = grid(tmp_path)
    entry = {"score": 0.5, "details": {"variant": "thresholds", "split": "test"}}
    (runs[0] / "scores.json").write_text(json.dumps({"sap": entry}))
    rows = list(csv.DictReader(io.StringIO(runs_csv(compare(runs)))))
    assert len(rows) == 17 * 2 + 1
    (own,) = (row for row in rows if row["variant"])
    assert own == {
        "run": str(runs[0]), "system": "beta-vae", "beta": "16.0", "lambda_od": "", "seed": "2",
        "metric": "sap", "score": "0.5", "variant": "thresholds", "split": "test",
    }  # fmt: skip
    for row in rows:
        value = float(row["beta"] or row["lambda_od"])
        if row["metric"] == "sap" and not row["variant"]:
            assert float(row["score"]) == 0.01 * value + 0.1 * int(row["seed"])


def test_the_table_in_latex(tmp_path):
    runs = [write_run(tmp_path / str(s), {"f_1&2": 0.5}, seed=s, k=s % 2) for s in (0, 2, 1)]
    lines = latex_table(compare(runs)).splitlines()
    assert lines[0] == "% data: sprites"
    table = lines[lines.index(r"\begin{tabular}{llr}") :]
    assert table == [
        r"\begin{tabular}{llr}",
        r"\toprule",
        r"system & seeds & f\_1\&2 \\",
        r"\midrule",
        r"beta-vae k=0 & 0 2 & 0.500 $\pm$ 0.000 (2) \\",
        r"beta-vae k=1 & 1 & 0.500 (1) \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
