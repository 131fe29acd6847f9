import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from _fake_runs import FakeDataset, fake_run, tpl_scores
from _pixel_runs import Grid
from PIL import Image

from pydisent.evaluation.scoring import why_missing
from pydisent.reports import write_report
from pydisent.reports._labels import subjects_of
from pydisent.reports._tables import summary
from pydisent.reports.figures import losses
from pydisent.systems import NotTrainedError

pytestmark = pytest.mark.usefixtures("short_eigenpaths")
VOID = {"meta", "img", "link", "br", "hr", "input"}
SINGLE = {
    "real.png", "samples.png", "alignment.png", "traversals.png", "traversals-bases.png",
    "traversals.gif", "eigenpaths.png", "eigenpaths-bases.png", "eigenpaths.gif",
    "trajectories.png", "spectra.png", "steps.png", "reconstructions.png", "losses.png",
}  # fmt: skip


class Page(HTMLParser):
    """What is on a page; fails on a tag that is closed but not open, or left open."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open, self.images, self.links, self.ids, self.tags = [], [], [], set(), []
        self.words = ""
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.links += [attrs[name] for name in ("src", "href", "srcset") if name in attrs]
        self.ids.add(attrs.get("id"))
        if tag == "img":
            self.images.append(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words += data


def written(runs, out=None, **kwargs):
    path = write_report(runs, out, ["pydisent", "report", "a b"], **kwargs)
    return path, Page(path)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The page of a run and its twin without the penalty."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs")
    scores = {"z-diff": {"score": 0.875, "details": {"factors": [0.5, 1.0], "deep": {"n": 3}}}}
    run = fake_run(folder / "a", scores=scores)
    twin = fake_run(folder / "b", scales=(0.1, 0.3, 0.6, 0.9), name="gan", penalty_weight=0.0)
    return written([run, twin], folder / "page")


def test_page_is_self_contained_and_sound(compared):
    _, page = compared
    assert page.links
    assert all(link.startswith(("data:image/", "#")) for link in page.links)
    assert not re.search(r"https?://|@import|url\(", page.source)
    assert "script" not in page.tags
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.ids
    assert page.tags.count("h1") == 1
    # Every table scrolls within the page.
    assert page.tags.count("table") == page.source.count('<div class="table"') > 3
    assert ".table {\n  overflow-x: auto;" in page.source


def test_pictures_are_files_too(compared):
    path, page = compared
    files = {p.name: p.read_bytes() for p in path.parent.iterdir() if p.name != "index.html"}
    shared = {"real.png", "alignment.png", "spectra.png", "losses.png"}
    named = {f"{r}-{f}" for r in ("spectral-gan", "gan") for f in SINGLE - shared} | shared
    assert files.keys() == named
    embedded = {base64.b64decode(image["src"].split(",")[1]) for image in page.images}
    assert embedded == set(files.values())


def test_pictures_are_described_and_not_blank(compared):
    _, page = compared
    for image in page.images:
        assert len(image["alt"]) > 20
        data = base64.b64decode(image["src"].split(",")[1])
        with Image.open(io.BytesIO(data)) as picture:
            assert (picture.width // 2, picture.height // 2) == (
                int(image["width"]),
                int(image["height"]),
            )
            assert np.asarray(picture.convert("RGB")).std() > 1
    alts = [image["alt"] for image in page.images]
    assert len(set(alts)) == len(alts)


def test_what_the_page_says(compared):
    path, page = compared
    assert path.name == "index.html"
    for words in (
        "spectral-gan and gan on squares",
        "pydisent report 'a b'",
        "pydisent train gan --out 'a folder'",
        "gan has no scores yet",
        "1.000",  # the mean of F's first diagonal entries with the axes in order ...
        "0.000",  # ... and in reverse
        "0.875",
        "deep · n",
        "default 64",
        "1 min 15 s",
        "20 train + 10 encoder",
    ):
        assert words in page.words, words


def test_one_run(tmp_path):
    path, page = written([fake_run(tmp_path / "run", image_shape=(3, 16, 16))])
    assert path == tmp_path / "run" / "report" / "index.html"
    assert {p.name for p in path.parent.iterdir()} == SINGLE | {"index.html"}
    assert len(page.images) == len(SINGLE)
    assert "Missing here" not in page.words


def test_lengths_and_masks_have_their_parts(tmp_path):
    scores = tpl_scores(0.2, 0.9, 0.1, 0.4, distance="a fixed net")
    run = fake_run(tmp_path / "a", masks=True, penalty_weight=0.0, scores=scores, name="ps-sc")
    twin = fake_run(tmp_path / "b", penalty_weight=0.0, name="infogan")
    path, page = written([run, twin], tmp_path / "page")
    files = {p.name for p in path.parent.iterdir()}
    assert {f"ps-sc-transfer-z{i}.png" for i in (2, 4, 1)} | {"ps-sc-masks.png"} <= files
    for words in (
        "Mask overlap",
        "infogan has no masks",
        "its traversals are not measured yet (tpl)",
        "TPL (by a fixed net)",
        "1.600",  # the score
        "ps-sc: z2 copied",
        "ps-sc: overlap 0.000",
    ):
        assert words in page.words, words
    (alt,) = [i["alt"] for i in page.images if i["alt"].startswith("Masks")]
    assert "z1 50% × 38% about (19%, 25%)" in alt  # the left third of 8 pixels are 3 of them


def test_less_is_better_of_lengths(tmp_path):
    runs = [
        fake_run(tmp_path / name, name=name, scores=tpl_scores(*lengths))
        for name, lengths in (("ps-sc", (0.1, 0.1)), ("infogan", (0.9, 0.9)))
    ]
    (row,) = [r for r in summary(subjects_of(runs, 0)) if r.label.startswith("TPL")]
    assert row.cells == ["0.200", "1.800"]
    assert row.best == {0}


def test_same_seed_same_page(tmp_path):
    first, _ = written([fake_run(tmp_path)], tmp_path / "1")
    second, _ = written([fake_run(tmp_path)], tmp_path / "2")
    assert first.read_bytes() == second.read_bytes()


def test_gaps_are_explained(tmp_path):
    run = fake_run(tmp_path, log=[], environment={})

    def encode(x):
        raise RuntimeError("cannot encode yet: <its> encoder is trained later")

    run.system.encode = encode
    run.dataset = None
    run.step = 3
    path, page = written([run])
    assert "cannot encode" not in page.words  # there are no images to encode either
    assert page.words.count("Missing here") == 3  # data, reconstructions, losses
    for words in ("no loss has been logged yet", "has no scores yet", "3 of 30 (unfinished)"):
        assert words in page.words, words
    gone = {"real.png", "reconstructions.png", "losses.png"}
    assert {p.name for p in path.parent.iterdir()} == SINGLE - gone | {"index.html"}


def test_no_encoder_is_said_in_its_words_and_escaped(tmp_path):
    run = fake_run(tmp_path)

    def encode(x):
        raise RuntimeError("cannot encode yet: <its> encoder is trained later")

    run.system.encode = encode
    _, page = written([run])
    assert "cannot encode yet: <its> encoder is trained later" in page.words
    assert "<its>" not in page.source


def test_a_generator_that_is_not_finite(tmp_path):
    run = fake_run(tmp_path)
    torch.nn.init.constant_(run.system.matrix, float("nan"))
    _, page = written([run])
    assert "finite" in page.words


def test_no_runs():
    with pytest.raises(ValueError, match=r"^runs must be at least one run"):
        write_report([])


def test_losses_of_nothing():
    with pytest.raises(ValueError, match="no loss"):
        losses({"a": [], "b": []})


def rows_of(runs):
    return {row.label: row for row in summary(subjects_of(runs, 0))}


def scored(**values):
    return {name: {"score": value, "details": {}} for name, value in values.items()}


def test_of_equal_figures_none_is_the_best(tmp_path):
    """Equal as they are printed, with three digits."""
    for values, best in (
        ((0.5, 0.5, 0.5), set()),
        ((0.7001, 0.7002, 0.1), set()),
        ((0.7, 0.5, 0.5), {0}),
    ):
        runs = [
            fake_run(tmp_path / str(i), name=f"gan{i}", scores=scored(irs=value))
            for i, value in enumerate(values)
        ]
        assert rows_of(runs)["IRS"].best == best


def test_what_cannot_be_measured_is_not_waited_for(tmp_path):
    run = fake_run(tmp_path / "a", scores=scored(**{"z-diff": 0.8, "irs": 0.2, "mine": 1.0}))
    other = fake_run(tmp_path / "b", name="gan", scores=scored(fid=2.0))
    rows = rows_of([run, other])
    needs = "not measurable: it needs a data set with at least 2 factors or attributes"
    assert rows["z-diff"].cells == ["0.800", needs]
    assert rows["FID (training images)"].cells == ["not measured yet", "2.000"]
    assert rows["mine"].cells == ["1.000", "not measured"]
    # Without scores, and without factors, there are no rows of z-diff and FactorVAE at all.
    assert not {"z-diff", "FactorVAE score"} & rows_of([other]).keys()


def test_an_encoder_that_is_not_trained_is_said(tmp_path):
    def encode(x):
        raise NotTrainedError("no encoder was trained")

    run = fake_run(tmp_path, dataset=Grid())
    assert why_missing(run, "mig") == "not measured yet"
    run.system.encode = encode
    assert why_missing(run, "mig") == "not measurable: no encoder was trained"
    assert not {"z-diff", "FactorVAE score"} & rows_of([run]).keys()


def test_scores_by_other_variants_stand_in_rows_of_their_own(tmp_path):
    runs = []
    for name, variant, split in (("gan", "thresholds", "train"), ("vae", "kumar", "test")):
        scores = {"sap": {"score": 0.5, "details": {"variant": variant, "split": split}}}
        runs.append(fake_run(tmp_path / name, name=name, scores=scores))
    rows = rows_of(runs)
    assert rows["SAP (thresholds, training images)"].cells == ["0.500", "measured differently"]
    assert rows["SAP (kumar, test images)"].cells == ["measured differently", "0.500"]


def test_reconstructions_are_of_unseen_images_where_there_are_any(tmp_path):
    class Unseen(FakeDataset):
        def images(self, indices):
            return super().images(indices) * 0 + 0.25

    run = fake_run(tmp_path, held_out=Unseen((1, 8, 8)))
    run.system.encode = lambda x: torch.zeros(len(x), 4)  # which is decoded to 1/2 everywhere
    assert rows_of([run])["Reconstruction error (test images)"].cells == ["0.0625"]
    (subject,) = subjects_of([run], 0, "train")
    assert subject.images_of("test") == (run.dataset, "train")
    assert "Reconstruction error (training images)" in rows_of([fake_run(tmp_path / "b")])
