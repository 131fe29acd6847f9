"""The page in a browser: codes of pictures and of the data, kept, compared, and exported."""

import functools
import json
import re

import numpy as np
import torch
from _bad_uploads import BAD
from _browser import code_of, decoded, needs_browser, pixels, shows, until
from PIL import Image

pytestmark = needs_browser


def upload(page, name, data):
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": data})


def test_pictures_are_encoded_and_bad_ones_named(page, runs, picture):
    stored, reason = BAD["a smaller bomb"]
    for name, data, why in (("a.png", stored, reason), ("notes.png", b"text", "of none of the")):
        upload(page, name, data)
        alert = until(lambda: page.text_content("#alert"), lambda text: "must be" in text)
        assert alert.startswith(f"{name}: the picture must be")
        assert why in alert
        upload(page, "good.png", picture[1])
        page.get_by_text("The code is that of good.png").wait_for()
        assert page.text_content("#alert") == ""
    found = code_of(page)
    with Image.fromarray(picture[0]) as image:
        square = image.crop((2, 0, 18, 16))
        x = torch.from_numpy(np.asarray(square) / 255).float().movedim(-1, 0)[None]
    assert np.allclose(found, runs[0].system.encode(x)[0].detach(), atol=1e-4)
    page.click("#reset")
    drop = page.evaluate_handle(
        """(bytes) => { const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], 'dropped.png')); return data; }""",
        list(picture[1]),
    )
    page.dispatch_event("#stage", "drop", {"dataTransfer": drop})
    page.get_by_text("The code is that of dropped.png").wait_for()
    shows(page, runs[0], found)


def test_images_of_the_data_are_encoded(page, runs):
    page.fill("#index", "7")
    page.click("#take")
    page.get_by_text("The code is that of image 7").wait_for()
    shows(page, runs[0], runs[0].system.encode(runs[0].dataset.images([7]))[0].tolist())
    page.fill("#index", "40")
    page.click("#take")
    alert = until(lambda: page.text_content("#alert"), bool)
    assert "39" in alert  # whether the page or the server says so
    page.click("#any")
    page.get_by_text(re.compile(r"The code is that of image \d+")).wait_for()


def test_codes_are_kept_compared_exported_and_imported(page, runs):
    first = code_of(page)
    page.click("#random")
    until(lambda: page.input_value("#z0"), lambda value: abs(float(value) - first[0]) > 1e-9)
    second = code_of(page)
    assert page.locator("#kept li").count() == 2
    page.select_option("#first", label="code 1")
    page.select_option("#second", label="code 2")
    difference = np.abs(np.round(decoded(runs[0], first)) - np.round(decoded(runs[0], second)))
    until(
        functools.partial(pixels, page, "#picture-d"),
        lambda got: np.abs(got - difference).max() <= 1,
    )
    moved = max(range(4), key=lambda i: abs(second[i] - first[i]))
    assert f"From A to B: z{moved + 1} " in page.text_content("#difference")
    page.focus("#between")
    page.keyboard.press("End")
    shows(page, runs[0], second)
    page.keyboard.press("Home")
    shows(page, runs[0], first)
    for button, kind, frames in (("#png", "PNG", 1), ("#way", "GIF", 32), ("#traverse", "GIF", 60)):
        with page.expect_download() as found:
            page.click(button)
        with Image.open(found.value.path()) as image:
            assert (image.format, getattr(image, "n_frames", 1)) == (kind, frames)
    exported = {"format": "pydisent codes", "codes": [{"name": "mine", "code": second}]}
    for data, said in (
        (exported | {"codes": [{"code": [1]}]}, "code 1 must have 4 numbers"),
        ({"codes": []}, "must be codes that this page exported"),
        (exported, "Kept as mine"),
    ):
        data = json.dumps(data).encode()
        page.set_input_files("#import", {"name": "x.json", "mimeType": "text/json", "buffer": data})
        page.get_by_text(said).wait_for()
    page.get_by_role("button", name="Use").nth(2).click()
    shows(page, runs[0], second)
    page.get_by_role("button", name="Remove").first.click()
    assert page.locator("#kept li").count() == 2
    assert page.evaluate("document.activeElement.textContent") == "Use"
