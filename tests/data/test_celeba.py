import numpy as np
import pytest
import torch
from _pictures import ATTRIBUTES, celeba, noise, save
from _readers import to_csv

from pydisent.data import load, names


def change(path, line, text):
    lines = path.read_text().splitlines()
    lines[line - 1] = text(lines[line - 1]) if callable(text) else text
    path.write_text("\n".join(lines) + "\n")


def test_the_crop_is_a_square_around_the_face(tmp_path):
    celeba(tmp_path, 2)
    dataset = load("celeba", tmp_path, image_size=148, split="all")
    assert dataset.image_shape == (3, 148, 148)
    for number, image in enumerate(dataset.images([0, 1])):
        whole = noise(218, 178, seed=number + 1)
        by_hand = whole[40:188, 15:163].transpose(2, 0, 1) / 255
        np.testing.assert_allclose(image.double(), by_hand, atol=1e-6)


@pytest.mark.parametrize(
    ("crop", "rows", "columns"),
    # Zhu et al.: rows 57 to 184, columns 25 to 152; Lezama: rows 20 to 197, all columns.
    [(128, slice(57, 185), slice(25, 153)), (178, slice(20, 198), slice(0, 178))],
)
def test_the_crops_of_the_papers(tmp_path, crop, rows, columns):
    celeba(tmp_path, 1)
    image = load("celeba", tmp_path, image_size=crop, split="all", crop=crop).images([0])[0]
    by_hand = noise(218, 178, seed=1)[rows, columns].transpose(2, 0, 1) / 255
    np.testing.assert_allclose(image.double(), by_hand, atol=1e-6)


def test_other_crops_are_refused(tmp_path):
    celeba(tmp_path, 1)
    with pytest.raises(ValueError, match="crop must be one of 148, 128, 178 or None, got 64"):
        load("celeba", tmp_path, crop=64)
    with pytest.raises(ValueError, match="crop must be None for 'sprites'; only celeba is cropped"):
        load("sprites", crop=128)


def test_attributes_go_with_their_pictures(tmp_path):
    values = celeba(tmp_path, suffix=".jpg")
    for split, rows in (("train", range(18)), ("test", range(18, 20)), ("all", range(20))):
        dataset = load("celeba", tmp_path, image_size=4, split=split)
        assert dataset.attribute_names == tuple(ATTRIBUTES)
        assert dataset.attributes.dtype == torch.bool
        np.testing.assert_array_equal(dataset.attributes, values[rows])
        assert [int(file.stem) - 1 for file in dataset.files] == list(rows)
        assert dataset.images([0]).shape == (1, 3, 4, 4)
    assert len(load("celeba", tmp_path)) == 18
    assert load("celeba", tmp_path).image_shape == (3, 64, 64)


def test_the_official_partition_is_followed(tmp_path):
    values = celeba(tmp_path, 20, partition=True)
    sizes = {}
    for split, first in (("train", 0), ("validation", 7), ("test", 14)):
        dataset = load("celeba", tmp_path, image_size=4, split=split)
        np.testing.assert_array_equal(dataset.attributes, values[first : first + len(dataset)])
        sizes[split] = len(dataset)
    assert sizes == {"train": 7, "validation": 7, "test": 6}
    assert len(load("celeba", tmp_path, split="all")) == 20
    assert len(load("celeba", tmp_path)) == 7


def test_the_archives_own_folders(tmp_path):
    celeba(tmp_path, partition=True)
    for name, folder in (
        ("img_align_celeba", "Img"),
        ("list_attr_celeba.txt", "Anno"),
        ("list_eval_partition.txt", "Eval"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / name).rename(tmp_path / folder / name)
    assert len(load("celeba", tmp_path)) == 7


@pytest.mark.parametrize(
    ("line", "text", "words"),
    [
        (1, "many", r"line 1 must be the number of pictures, got 'many'"),
        (1, "21", r"must have 21 pictures by its line 1; it ends after 20"),
        (1, "", r"line 1 must be the number of pictures, got ''"),
        (2, "", r"line 2 must be the attributes' names"),
        (7, lambda row: row[:-3], r"line 7 must have a picture and 40 values, got 39"),
        (8, "", r"line 8 must have a picture and 40 values, got 0"),
        (
            9,
            lambda row: row[:-2] + " 0",
            r"line 9: values must be 1 or -1, got '0' for Attribute_39",
        ),
        (
            9,
            lambda row: row.replace("000007.jpg", "000003.png"),
            r"line 9 lists '000003.png' again, after line 5; expected each picture once",
        ),
        (9, lambda row: "9" + row, r"lacks picture '9000007' of .*list_attr_celeba.txt' line 9"),
    ],
)
def test_damaged_attribute_files_say_where(tmp_path, line, text, words):
    celeba(tmp_path)
    change(tmp_path / "list_attr_celeba.txt", line, text)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        load("celeba", tmp_path)


@pytest.mark.parametrize("text", ["000003.jpg", "000003.jpg 3", "000003.jpg 1 2"])
def test_damaged_partition_files_say_where(tmp_path, text):
    celeba(tmp_path, partition=True)
    partition = tmp_path / "list_eval_partition.txt"
    change(partition, 3, text)
    with pytest.raises(ValueError, match=r"partition.txt' line 3 must be a picture and 0, 1 or 2"):
        load("celeba", tmp_path)
    change(partition, 3, "000001.jpg 2")
    with pytest.raises(ValueError, match=r"txt' line 3 lists '000001\.jpg' again, after line 1"):
        load("celeba", tmp_path)
    partition.write_text("\n".join(partition.read_text().splitlines()[3:]))
    with pytest.raises(ValueError, match=r"must have a line for picture '000001'"):
        load("celeba", tmp_path)


def test_a_split_without_pictures_is_refused(tmp_path):
    celeba(tmp_path, partition=True)
    partition = tmp_path / "list_eval_partition.txt"
    partition.write_text(partition.read_text().replace(" 1\n", " 2\n"))
    words = r"partition\.txt' has no picture of split 'validation'; expected lines that end in 1"
    with pytest.raises(ValueError, match=words):
        load("celeba", tmp_path, split="validation")
    assert len(load("celeba", tmp_path, split="test")) == 13


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("img_align_celeba", "file"),
        ("list_attr_celeba.txt", "folder"),
        ("list_eval_partition.txt", "folder"),
    ],
)
def test_a_folder_is_no_file_nor_the_reverse(tmp_path, name, kind):
    celeba(tmp_path, partition=True)
    (tmp_path / name).rename(tmp_path / "away")
    (tmp_path / name).mkdir() if kind == "folder" else (tmp_path / name).touch()
    with pytest.raises(ValueError, match=rf"{name}' is a {kind}; expected a folder with CelebA"):
        load("celeba", tmp_path)


def test_what_is_missing_is_named(tmp_path):
    celeba(tmp_path)
    with pytest.raises(ValueError, match="split must be one of 'train', 'validation', 'test'"):
        load("celeba", tmp_path, split="dev")
    with pytest.raises(FileNotFoundError, match=r"'validation' needs list_eval_partition\.txt"):
        load("celeba", tmp_path, split="validation")
    save(tmp_path / "img_align_celeba" / "000002.png", noise(100, 100))
    with pytest.raises(ValueError, match=r"000002\.png' must be 178x218 pixels, got 100x100"):
        load("celeba", tmp_path).images([0])
    (tmp_path / "img_align_celeba" / "000004.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks picture '000004' of .* line 6"):
        load("celeba", tmp_path)
    (tmp_path / "list_attr_celeba.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks list_attr_celeba\.txt; expected a folder"):
        load("celeba", tmp_path)


def reference(folder, **options):
    dataset = load("celeba", folder, image_size=4, **options)
    return dataset, [file.stem for file in dataset.files]


@pytest.mark.parametrize("split", ["train", "validation", "test", "all"])
def test_lists_as_people_have_them(tmp_path, split):
    """A byte-order mark, Windows's line ends, blank lines at the end, Kaggle's .csv."""
    values = celeba(tmp_path, 20, partition=True)
    official, stems = reference(tmp_path, split=split)
    files = [tmp_path / name for name in ("list_attr_celeba.txt", "list_eval_partition.txt")]
    for change in (
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data + b"\n  \n\n",
        lambda data: data.rstrip(b"\n"),
        None,
    ):
        kept = [file.read_bytes() for file in files]
        if change is None:
            to_csv(tmp_path)
        else:
            for file, data in zip(files, kept):
                file.write_bytes(change(data))
        dataset, found = reference(tmp_path, split=split)
        assert found == stems
        assert dataset.attribute_names == tuple(ATTRIBUTES)
        np.testing.assert_array_equal(dataset.attributes, official.attributes)
        if change is not None:
            for file, data in zip(files, kept):
                file.write_bytes(data)
    np.testing.assert_array_equal(dataset.attributes, values[[int(s) - 1 for s in stems]])


def test_pictures_in_a_folder_of_the_same_name(tmp_path):
    celeba(tmp_path, 4)
    expected = reference(tmp_path, split="all")[0].images(range(4))
    (tmp_path / "img_align_celeba").rename(tmp_path / "pictures")
    (tmp_path / "img_align_celeba").mkdir()
    (tmp_path / "pictures").rename(tmp_path / "img_align_celeba" / "img_align_celeba")
    assert torch.equal(reference(tmp_path, split="all")[0].images(range(4)), expected)


def without_lines(folder):
    change(folder / "list_attr_celeba.txt", 1, "202599")


def without_pictures(folder):
    for number in (2, 5, 9):
        (folder / "img_align_celeba" / f"{number:06}.png").unlink()


@pytest.mark.parametrize(
    ("lacking", "error", "words", "numbers"),
    [
        (without_lines, ValueError, "must have 202599 pictures by its line 1", range(1, 11)),
        (without_pictures, FileNotFoundError, "lacks picture '000002'", [1, 3, 4, 6, 7, 8, 10]),
    ],
)
def test_a_part_is_refused_and_taken_if_asked_for(tmp_path, caplog, lacking, error, words, numbers):
    values = celeba(tmp_path, 10)
    lacking(tmp_path)
    with pytest.raises(error, match=rf"{words}.*partial=True \(--partial\) takes what is there"):
        load("celeba", tmp_path)
    dataset, stems = reference(tmp_path, split="all", partial=True)
    assert stems == [f"{number:06}" for number in numbers]
    np.testing.assert_array_equal(dataset.attributes, values[np.array(numbers) - 1])
    assert f"{len(numbers)} pictures of 10 lines" in caplog.text
    train, test = (load("celeba", tmp_path, split=s, partial=True) for s in ("train", "test"))
    assert (len(train), len(test)) == (int(0.9 * len(numbers)), len(numbers) - len(train))


def test_a_part_with_more_lines_than_its_header_or_no_pictures_is_refused(tmp_path):
    celeba(tmp_path, 10)
    change(tmp_path / "list_attr_celeba.txt", 1, "9")
    with pytest.raises(ValueError, match="must have 9 pictures by its line 1; it ends after 10"):
        load("celeba", tmp_path, partial=True)
    change(tmp_path / "list_attr_celeba.txt", 1, "10")
    for file in (tmp_path / "img_align_celeba").iterdir():
        file.unlink()
    with pytest.raises(FileNotFoundError, match="lacks picture '000001'"):
        load("celeba", tmp_path, partial=True)


@pytest.mark.parametrize("name", [name for name in names() if name not in ("celeba", "ffhq")])
def test_partial_is_refused_where_it_would_be_ignored(name):
    with pytest.raises(ValueError, match=rf"partial must be False for '{name}'; .*, got True"):
        load(name, partial=True)
