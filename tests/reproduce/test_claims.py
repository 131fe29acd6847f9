"""Claims and their verdicts, on figures whose verdicts are known."""

from itertools import combinations

import pytest

from pydisent import reproduce
from pydisent.reproduce.claims import curve_above, exceeds, falls_below, rank_test, ranks_as


def runs(**rows):
    return [
        {"row": row, "system": row, "seed": seed, "scores": {"score": value}}
        for row, values in rows.items()
        for seed, value in enumerate(values)
    ]


def test_p_is_the_share_of_divisions_with_as_large_a_rank_sum():
    first, second = [3, 5, 5, 9], [1, 5, 2]
    ranks = {1: 1, 2: 2, 3: 3, 5: 5, 9: 7}  # three fives share 4, 5 and 6
    pool = [ranks[value] for value in first + second]
    sums = [sum(pool[i] for i in chosen) for chosen in combinations(range(7), 4)]
    expected = sum(each >= sum(pool[:4]) for each in sums) / len(sums)
    assert rank_test(first, second) == pytest.approx(expected)


def test_three_seeds_apart_decide_and_two_do_not():
    claim = exceeds("more", "new", "old", "score", scale=100, digits=1)
    verdict = claim.judge(runs(new=[0.5, 0.6, 0.7], old=[0.1, 0.2, 0.3]))
    assert verdict.p == pytest.approx(1 / 20)
    assert verdict.ours == "60.0 ± 10.0 against 20.0 ± 10.0"
    assert verdict.text == "holds (p = 0.05)"
    assert "too few seeds" in claim.judge(runs(new=[0.5, 0.6], old=[0.1, 0.2])).text
    assert claim.judge(runs(new=[0.5])) is None


def test_the_opposite_and_the_undecided():
    claim = exceeds("more", "new", "old", "score")
    assert claim.judge(runs(new=[1, 2, 3], old=[4, 5, 6])).text == "the opposite holds (p = 0.05)"
    assert claim.judge(runs(new=[1, 5, 3], old=[4, 2, 6])).text.startswith("open (p = ")
    same = claim.judge(runs(new=[1, 1, 1], old=[1, 1, 1]))
    assert same.p == same.opposite == 1


def test_a_margin_asks_for_no_less():
    figures = runs(new=[0.50, 0.51, 0.52], old=[0.53, 0.54, 0.55])
    assert exceeds("as good", "new", "old", "score", margin=0.1).judge(figures).p <= 0.05
    assert exceeds("as good", "new", "old", "score", margin=0.001).judge(figures).p == 1


def test_lower_is_claimed_and_printed_in_the_order_of_the_claim():
    figures = runs(new=[0.1, 0.2, 0.3], old=[0.5, 0.6, 0.7])
    verdict = falls_below("less", "new", "old", "score", digits=1).judge(figures)
    assert (verdict.ours, verdict.text) == ("0.2 ± 0.1 against 0.6 ± 0.1", "holds (p = 0.05)")
    reverse = falls_below("less", "old", "new", "score", margin=0.7, digits=1).judge(figures)
    assert reverse.ours == "0.6 ± 0.1 against 0.2 ± 0.1, at most 0.7 more"
    assert reverse.p == pytest.approx(1 / 20)
    too_narrow = falls_below("less", "old", "new", "score", margin=0.1).judge(figures)
    assert too_narrow.text == "the opposite holds (p = 0.05)"


def curve(system, seed, points):
    return [
        {"row": system, "system": system, "seed": seed, "scores": {"error": x, "score": y}}
        for x, y in points
    ]


def test_curves_are_compared_where_both_are():
    # y = x against y = x + 1, over errors 1 to 3: heights 2 and 3.
    figures = [
        run
        for seed in range(3)
        for run in (
            *curve("low", seed, [(3, 3), (0, 0), (1, 1)]),
            *curve("high", seed, [(1, 2), (2, 3), (9, 10)]),
        )
    ]
    verdict = curve_above("above", "high", "low", "score", "error").judge(figures)
    assert verdict.ours == "3.00 ± 0.00 against 2.00 ± 0.00"
    assert verdict.p == pytest.approx(1 / 20)
    apart = curve("low", 0, [(0, 0), (1, 1)]) + curve("high", 0, [(2, 2), (3, 3)])
    assert curve_above("above", "high", "low", "score", "error").judge(apart) is None


def test_ranks():
    figures = [
        {"row": "a", "seed": n, "scores": {"length": -n, "score": n**2, "active": n}}
        for n in range(8)
    ]
    verdict = ranks_as("as", "length", "score", sign=-1, where=("active", 2)).judge(figures)
    assert verdict.ours == "ρ = 1.00 over 5 models"
    assert verdict.text.startswith("holds")
    against = ranks_as("as", "length", "score").judge(figures)
    assert against.text.startswith("the opposite holds")
    assert ranks_as("as", "length", "score", where=("active", 5)).judge(figures) is None


@pytest.mark.parametrize("entry", reproduce.entries(), ids=lambda entry: entry.name)
def test_claims_name_rows_and_columns_that_are_there(entry):
    for case in entry.cases:
        figures = [
            {
                "row": row.name,
                "system": row.system,
                "seed": seed,
                "scores": {c.key: 5.0 + number * 7 % 11 + 0.1 * seed for c in case.columns},
            }
            for seed in range(3)
            for number, row in enumerate(case.rows)
        ]
        for claim in case.claims:
            assert claim.judge(figures) is not None, claim.text
