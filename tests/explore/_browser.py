"""Which browser opens the page, and what is read of the page in it."""

import functools
import json
import os
import shutil
import time

import numpy as np
import pytest
import torch

from pydisent.evaluation.codes import base_codes

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = os.environ.get("PYDISENT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)

needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed; PYDISENT_CHROMIUM can name one"
)
SECONDS = 30  # until a test gives up; not a measure of anything


def until(read, is_right):
    """Read until it is right, and return what was read."""
    end = time.monotonic() + SECONDS
    while not is_right(found := read()) and time.monotonic() < end:
        time.sleep(0.02)
    assert is_right(found), found
    return found


PIXELS = """(canvas) => Array.from(
  canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)"""


def pixels(page, selector):
    return np.array(page.eval_on_selector(selector, PIXELS)).reshape(16, 16, 4)[..., :3]


def decoded(run, code):
    images = run.system.decode(torch.tensor([code], dtype=torch.float32)).detach().clamp(0, 1)
    return images[0].movedim(0, -1).numpy() * 255


def shows(page, run, code, canvas="#figures canvas >> nth=0"):
    """Wait until a canvas shows what the run decodes."""
    expected = decoded(run, code)
    until(functools.partial(pixels, page, canvas), lambda got: np.abs(got - expected).max() <= 0.51)


def code_of(page):
    """The code of the moment, by the page's own export."""
    page.click("#keep")
    page.wait_for_selector("#kept li >> nth=-1")
    with page.expect_download() as found:
        page.click("#export")
    with open(found.value.path()) as file:
        return json.load(file)["codes"][-1]["code"]


def start_of(runs):
    return base_codes(runs[0].system, 1, 0)[0].tolist()
