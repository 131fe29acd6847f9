"""Tables of factors beside a folder of pictures."""

import numpy as np
import pytest
import torch
from _pictures import noise, save

from pydisent.data import ImageDataset, ObservedFactorDataset, load
from pydisent.data._factor_table import read_factors

COUNT = 24
SHAPES = ("disc", "ring", "star")


@pytest.fixture
def folder(tmp_path):
    for number in range(COUNT):
        save(tmp_path / "pictures" / f"{number % 2}" / f"{number:02}.png", noise(8, 8, seed=number))
    return tmp_path / "pictures"


def rows(names=None):
    """A picture, a shape, a count and a size of each."""
    names = names or [f"{n % 2}/{n:02}.png" for n in range(COUNT)]
    return [
        [name, SHAPES[n % 3], str(n % 4 - 1), f"{0.5 * (n // 2):.1f}"]
        for n, name in enumerate(names)
    ]


def write(path, rows, header="file,shape,count,size"):
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path


def test_columns_become_factors(folder, tmp_path):
    table = write(tmp_path / "table.csv", rows()[::-1])  # in any order
    dataset = load("images", folder, image_size=8, factors=table, bins=4)
    assert isinstance(dataset, ObservedFactorDataset)
    assert (dataset.name, len(dataset), dataset.image_shape) == ("images", COUNT, (3, 8, 8))
    assert dataset.factor_names == ("shape", "count", "size")
    assert dataset.factor_sizes == (3, 4, 4)
    assert dataset.factor_classes == ("shape",)
    assert dataset.factor_values[:2] == (SHAPES, ("-1", "0", "1", "2"))
    # Pictures are in the order of their paths: even numbers, then odd ones.
    order = [*range(0, COUNT, 2), *range(1, COUNT, 2)]
    factors = dataset.factors(range(COUNT))
    assert factors.dtype == torch.int64
    assert factors[:, 0].tolist() == [n % 3 for n in order]
    assert factors[:, 1].tolist() == [n % 4 for n in order]
    # Twelve sizes of two pictures each in four bins: three sizes a bin.
    assert factors[:, 2].tolist() == [n // 6 for n in order]
    assert dataset.factor_values[2] == ("0 to 1", "1.5 to 2.5", "3 to 4", "4.5 to 5.5")
    assert "size in 4 bins" in dataset.remark
    expected = np.stack([noise(8, 8, seed=n) for n in order]).transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(dataset.images(range(COUNT)).numpy(), expected, atol=1e-6)
    image, known = dataset[-1]
    assert known.tolist() == factors[-1].tolist()
    assert torch.equal(image, dataset.images([COUNT - 1])[0])


def test_without_a_table_there_are_no_factors(folder):
    dataset = load("images", folder)
    assert isinstance(dataset, ImageDataset)
    assert not isinstance(dataset, ObservedFactorDataset)
    with pytest.raises(
        ValueError, match="bins must be None for 'images'; it goes with factors, got 3"
    ):
        load("images", folder, bins=3)
    with pytest.raises(ValueError, match="partial must be False for 'images'"):
        load("images", folder, partial=True)


def test_pictures_may_stand_anywhere_and_have_names_alone(folder, tmp_path):
    header = "shape,Image,count"
    given = [[row[1], row[0].split("/")[1], row[2]] for row in rows()]
    dataset = load("images", folder, factors=write(tmp_path / "t.csv", given, header))
    assert dataset.factor_names == ("shape", "count")
    assert dataset.factors([0, 1])[:, 0].tolist() == [0, 2]
    # A name that two pictures have is none.
    save(folder / "2" / "00.png", noise(8, 8))
    with pytest.raises(ValueError, match=r"t\.csv' line 2: '00\.png' must be a picture in"):
        load("images", folder, factors=tmp_path / "t.csv", partial=False)


def test_paths_need_not_be_in_their_shortest_form(folder, tmp_path):
    given = [["./" + name.replace("/", "//"), *others] for name, *others in rows()]
    table = write(tmp_path / "t.csv", given)
    assert load("images", folder, factors=table).factor_sizes[:2] == (3, 4)


def test_a_quantity_of_few_values_keeps_them(folder, tmp_path):
    given = [[row[0], "0.25" if n % 3 else "1e1"] for n, row in enumerate(rows())]
    table = write(tmp_path / "t.csv", given, "file,size")
    dataset = load("images", folder, factors=table)
    assert dataset.factor_values == (("0.25", "10"),)
    assert "bins" not in dataset.remark


@pytest.mark.parametrize("bins", [2, 5, 10])
def test_bins_have_equal_counts_and_never_part_equal_values(tmp_path, bins):
    numbers = np.random.default_rng(0).normal(size=1000).round(4)
    given = [[f"{n}.png", f"{value:.4f}"] for n, value in enumerate(numbers)]
    (factor,) = read_factors(write(tmp_path / "t.csv", given, "file,size"), bins).factors
    assert abs(np.bincount(factor.values, minlength=bins) - 1000 / bins).max() <= 2
    order = np.argsort(numbers)
    assert (np.diff(factor.values[order]) >= 0).all()
    same = np.diff(numbers[order]) == 0
    assert same.any()
    assert (np.diff(factor.values[order])[same] == 0).all()


def test_rows_and_pictures_must_fit_unless_partial(folder, tmp_path):
    table = write(tmp_path / "t.csv", rows()[:20])
    with pytest.raises(ValueError, match=r"t\.csv' must have a row for .*20\.png'; partial=True"):
        load("images", folder, factors=table)
    other = write(tmp_path / "u.csv", [*rows(), ["3/99.png", "disc", "0", "1.0"]])
    with pytest.raises(
        ValueError, match=r"u\.csv' line 26: '3/99\.png' must be a picture in .*--p"
    ):
        load("images", folder, factors=other)
    both = write(tmp_path / "v.csv", [["3/99.png", "disc", "0", "1.0"], *rows()[:20]])
    dataset = load("images", folder, factors=both, partial=True)
    assert len(dataset) == 20
    assert dataset.factors(range(10))[:, 0].tolist() == [n % 3 for n in range(0, 20, 2)]
    nothing = write(
        tmp_path / "w.csv", [["x.png", "disc", "1"], ["y.png", "ring", "1"]] * 1, "f,s,c"
    )
    with pytest.raises(
        ValueError, match=r"w\.csv' column 'c' must have at least 2 values, got '1'"
    ):
        load("images", folder, factors=nothing, partial=True)
    nothing = write(tmp_path / "w.csv", [["x.png", "disc"], ["y.png", "ring"]], "f,s")
    with pytest.raises(ValueError, match="must have a row for"):
        load("images", folder, factors=nothing, partial=True)


@pytest.mark.parametrize(
    ("line", "cells", "words"),
    [
        (3, ["0/02.png", "ring", "", "0.0"], r"line 3, column 'count', must not be empty"),
        (3, ["0/02.png", "ring", "0"], r"line 3 must have 4 cells, one per column, got 3"),
        (4, ["0/02.png", "ring", "x", "0.0"], "line 4, column 'count', must be a number, as in l"),
        (
            4,
            ["0/02.png", "7", "0", "0.0"],
            "line 2, column 'shape', must be a number, as in line 4",
        ),
        (4, ["0/02.png", "ring", "0", "nan"], "line 4, column 'size', must be finite, got nan"),
        (4, ["0/02.png", "ring", "0", "1e999"], "line 4, column 'size', must be finite, got 1e999"),
        (4, ["0/02.png", "ring", "0", "N/A"], "line 4, column 'size', must be a number, as in l"),
        (4, ["0/00.png", "ring", "0", "0.0"], "line 4, column 'file', lists '0/00.png' again, aft"),
        (4, ["./0//00.png", "ring", "0", "0.0"], "line 4, column 'file', lists './0//00.png' aga"),
        (
            4,
            ['"0/02.png', "ring", "0", "0.0"],
            "must be CSV in UTF-8, as it is up to line 25, got: unexp",
        ),
    ],
)
def test_errors_name_file_line_and_column(folder, tmp_path, line, cells, words):
    given = rows()
    given[line - 2] = cells
    with pytest.raises(ValueError, match=r"table\.csv' " + words):
        load("images", folder, factors=write(tmp_path / "table.csv", given), partial=True)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("file", r"line 1 must name the columns, at least 2, separated by commas, got \['file'\];"),
        (
            "file;shape;count",
            r"at least 2, separated by commas, got \['file;shape;count'\]; expected a C",
        ),
        ("file,a,a,b", "line 1 must name the columns by different names, got"),
        (",file,a,b", "line 1 must name the columns, got no name for column 1 of"),
        ("00.png,disc,3,0.5", "line 1 must name the columns, got the number 3"),
        ("file,image,a,b", "line 1 must name the columns, one of them file or image"),
    ],
)
def test_the_first_line_names_columns(tmp_path, header, words):
    with pytest.raises(ValueError, match=words):
        read_factors(write(tmp_path / "t.csv", rows(), header))


def test_a_column_of_names_is_no_factor(folder, tmp_path):
    given = [[*row, str(n)] for n, row in enumerate(rows())]
    table = write(tmp_path / "t.csv", given, "file,shape,count,size,id")
    words = "column 'id' must have values that several pictures share, got 24 values in 24 rows"
    with pytest.raises(ValueError, match=words):
        load("images", folder, factors=table)
    given = [[*row[:4], f"{n}.0"] for n, row in enumerate(rows())]
    table = write(tmp_path / "t.csv", given, "file,shape,count,size,id")
    assert load("images", folder, factors=table).factor_sizes == (3, 4, 10, 10)


def test_other_arguments_are_refused(folder, tmp_path):
    table = write(tmp_path / "t.csv", rows())
    for bins, error in ((1, ValueError), (2.5, TypeError)):
        with pytest.raises(error, match="bins must be an integer >= 2"):
            load("images", folder, factors=table, bins=bins)
    with pytest.raises(FileNotFoundError, match=r"none\.csv' does not exist; expected a CSV file"):
        load("images", folder, factors=tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("file,shape\n")
    with pytest.raises(ValueError, match=r"empty\.csv' must have at least 1 picture"):
        load("images", folder, factors=tmp_path / "empty.csv")


def test_other_data_takes_no_table(tmp_path):
    for option in ({"factors": tmp_path / "t.csv"}, {"bins": 4}):
        (name,) = option
        words = f"{name} must be None for 'digits'; only images takes that, got"
        with pytest.raises(ValueError, match=words):
            load("digits", **option)


def test_quotes_marks_and_blank_lines(tmp_path):
    lines = (
        '\ufefffile,"shape, or so"',
        '"a,b.png",disc',
        "",
        "c.png,ring",
        "d.png,ring",
        "e.png,disc",
    )
    (tmp_path / "t.csv").write_bytes("\r\n".join(lines).encode())
    table = read_factors(tmp_path / "t.csv")
    assert table.lines == {"a,b.png": 2, "c.png": 4, "d.png": 5, "e.png": 6}
    assert table.factors[0].name == "shape, or so"
    assert table.factors[0].values.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("step", [10.0, 0.5, 1e-9])
@pytest.mark.parametrize("count", [4, 40])
def test_values_that_differ_have_meanings_that_differ(tmp_path, step, count):
    """Times in seconds all read 1.6e+09."""
    first = 1.6e9 if step > 1e-3 else 1.0
    values = [first + step * (n % count) for n in range(80)]
    table = write(
        tmp_path / "table.csv", [[f"{n}.png", repr(v)] for n, v in enumerate(values)], "file,a"
    )
    (factor,) = read_factors(table).factors
    assert len(set(factor.meanings)) == len(factor.meanings) == min(count, 10)
    for value, number in zip(values, factor.values):
        ends = [float(end) for end in factor.meanings[number].split(" to ")]
        assert ends[0] - step / 2 < value < ends[-1] + step / 2


def test_zero_has_no_sign_and_a_bin_of_one_value_is_that_value(tmp_path):
    values = [-0.0] * 20 + [0.0] * 20 + [n + 0.5 for n in range(20)]
    table = write(
        tmp_path / "table.csv", [[f"{n}.png", repr(v)] for n, v in enumerate(values)], "file,a"
    )
    assert read_factors(table, bins=2).factors[0].meanings == ("0", "0.5 to 19.5")


def test_quotes_after_a_space_are_quotes(tmp_path):
    """They were part of the word, which so became another one than without the space."""
    cells = ('"a, b"', ' "a, b"', ' "c"', "c")
    table = write(
        tmp_path / "table.csv", [[f"{n}.png", cell] for n, cell in enumerate(cells)], "file, k"
    )
    (factor,) = read_factors(table).factors
    assert factor.meanings == ("a, b", "c")
    assert factor.values.tolist() == [0, 0, 1, 1]
