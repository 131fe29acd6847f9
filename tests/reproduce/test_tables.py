import pytest
from scipy.stats import spearmanr

from pydisent import reproduce, systems
from pydisent.reproduce.correlations import rank_correlations
from pydisent.reproduce.entry import Case, Column, Row
from pydisent.reproduce.results import (
    markdown,
    published_text,
    score_table,
    settings_notes,
    spread,
)


def run(row, seed, seconds=60.0, **scores):
    return {"row": row, "seed": seed, "scores": scores, "seconds": seconds}


def test_a_table_has_the_published_figures_beside_ours():
    case = Case(
        "dsprites",
        (
            Row("a", "first", "vae", published={"mig": (0.5, 0.125)}),
            Row("b", "second", "vae", published={"mig": 0.25}),
            Row("c", "never trained", "vae"),
        ),
        (Column("mig", "MIG", scale=100, digits=1), Column("sap", "SAP", "lower")),
    )
    found = [run("a", 0, mig=0.1, sap=3.0), run("a", 1, mig=0.2, sap=5.0), run("b", 0, mig=0.75)]
    head, rows = score_table(case, found)
    assert head == ["model", "MIG ↑", "published", "SAP ↓", "minutes"]
    assert rows == [
        ["first", "15.0 ± 7.1", "0.5 ± 0.1", "4.00 ± 1.41", "1.0 ± 0.0"],
        ["second", "75.0", "0.2", "–", "1.0"],
    ]
    assert markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |\n"


def test_minutes_are_left_out_where_no_run_was_timed():
    case = Case("dsprites", (Row("a", "first", "vae"),), (Column("mig", "MIG"),))
    assert score_table(case, [run("a", 0, seconds=0.0, mig=0.1)]) == (
        ["model", "MIG ↑"],
        [["first", "0.10"]],
    )


def test_settings_that_all_rows_of_a_system_share_are_said():
    steps = {name: systems.preset(name, "quick", "sprites").steps for name in ("gan", "vae")}
    runs = [
        {"system": "vae", "settings": {"beta": 4.0, "base": 8}, "steps": steps["vae"]},
        {"system": "vae", "settings": {"beta": 8.0, "base": 8}, "steps": steps["vae"]},
        {"system": "gan", "settings": {"learning_rate": 5e-5}, "steps": 7},
        {"system": "infogan", "settings": {"learning_rate": 5e-5}, "steps": 7},
    ]
    assert settings_notes({"runs": runs, "preset": "quick", "data": "sprites"}) == [
        "vae: base = 8",
        "gan, infogan: learning_rate = 5e-05, steps = 7",
    ]


def test_figures_in_print():
    assert spread([], 2) == "–"
    assert spread([1.0, 3.0], 1) == "2.0 ± 1.4"  # √2, of two
    assert published_text(None, 2) == "–"
    assert published_text((92.34, 0.4), 2) == "92.34 ± 0.40"


def test_tpl_is_ranked_against_supervised_scores():
    """With a minus sign, as less is better; and only runs with enough active dimensions."""
    tpl, active, dci = (9.0, 7.0, 5.0, 3.0, 1.0), (9, 8, 7, 6, 2), (0.1, 0.3, 0.2, 0.9, 0.5)
    runs = [
        run("r", seed, **{"tpl": t, "tpl/active": a, "dci": d, "factor-vae": 2 * d})
        for seed, (t, a, d) in enumerate(zip(tpl, active, dci))
    ]
    table = rank_correlations(runs)
    assert table["TPL (act > 0)"]["dci"] == pytest.approx(-spearmanr(tpl, dci).statistic)
    assert table["TPL (act > 4)"]["dci"] == pytest.approx(-spearmanr(tpl[:4], dci[:4]).statistic)
    assert table["FVM"]["dci"] == pytest.approx(1)
    assert "mig" not in table["FVM"]
    assert rank_correlations(runs[:2])["TPL (act > 0)"] == {}


@pytest.mark.parametrize(
    ("entry", "data", "row", "key", "published"),
    [
        # Read off the papers' tables once more.
        ("ramesh/table1", "dsprites", "aligned", "z-diff-ramesh", (92.34, 0.4)),
        ("kumar/table1", "dsprites", "dip-2-500", "reconstruction", 0.0079),
        ("kumar/table1", "celeba", "dip-1", "reconstruction", 0.0904),
        ("lezama/table1", "mnist", "supervised-18", "class-swaps/author_code", 52.1),
        ("lezama/table2", "celeba", "cycle", "attribute-flips", 42.7),
        ("lezama/table6", "celeba", "xcov-0.01", "attribute-flips", 53.3),
        ("zhu/table3", "ffhq", "sc", "tpl", 20.4),
        ("zhu/table4", "celeba", "softmax", "ppl", 49.3),
        ("zhu/table5", "3dshapes", "ours", "factor-vae/zhu", (92.04, 6.49)),
        ("jeon/table1", "color-dsprites", "ib-gan", "log/score/factor-vae/jeon", (0.79, 0.05)),
        ("jeon/table2", "chairs", "ib-gan", "fid", 25.5),
    ],
)
def test_published_figures(entry, data, row, key, published):
    (found,) = reproduce.find(entry)
    (case,) = (case for case in found.cases if case.data == data)
    (known,) = (each for each in case.rows if each.name == row)
    assert known.published[key] == published


def test_columns_of_published_figures_are_measured():
    for entry in reproduce.entries():
        for case in entry.cases:
            keys = {column.key for column in case.columns}
            assert len({row.name for row in case.rows}) == len(case.rows)
            for row in case.rows:
                assert row.published.keys() <= keys, (entry.name, row.name)
                assert row.begins_as in (None, *(other.name for other in case.rows))
            drawn = {row for figure in case.figures for row in figure.rows}
            assert drawn <= {row.name for row in case.rows}
            assert set(case.small_rows) <= {row.name for row in case.rows}
