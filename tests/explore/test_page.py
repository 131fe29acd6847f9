"""The page in a real browser, headless: dragged, stepped, dropped on, and from elsewhere."""

import functools
import json
import os
import queue
import re
import shutil
import threading
import time

import numpy as np
import pytest
import torch
from _bad_uploads import BAD
from _fake_runs import fake_run, tpl_scores
from PIL import Image

from pydisent.evaluation.codes import base_codes
from pydisent.explore import serve
from pydisent.reports.masks import overlay

sync_api = pytest.importorskip("playwright.sync_api")
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = os.environ.get("PYDISENT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed; PYDISENT_CHROMIUM can name one"
)
SECONDS = 30  # until a test gives up; not a measure of anything


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    shape = (3, 16, 16)
    return [
        fake_run(
            folder / "masked",
            masks=True,
            image_shape=shape,
            scores=tpl_scores(0.1, 0.4, 0.2, 0.3),
        ),
        fake_run(folder / "plain", scales=(0.2, 0.4, 0.6, 0.8), image_shape=shape),
    ]


@pytest.fixture(scope="module")
def address(runs):
    """Serve the runs in a thread until the tests are over."""
    import uvicorn

    addresses, servers, start = queue.Queue(), queue.Queue(), uvicorn.Server.run
    patched = pytest.MonkeyPatch()
    patched.setattr(uvicorn.Server, "run", lambda s, **how: (servers.put(s), start(s, **how)))
    thread = threading.Thread(
        target=serve, args=(runs,), kwargs={"browser": False, "announce": addresses.put}
    )
    thread.start()
    yield addresses.get(timeout=SECONDS)
    servers.get(timeout=SECONDS).should_exit = True
    thread.join(SECONDS)
    patched.undo()
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        # Root has no sandbox; containers have little shared memory.
        args = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=args)
        yield found
        found.close()


@pytest.fixture
def page(browser, address):
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(1000 * SECONDS)
    found, said = context.new_page(), []
    found.on("pageerror", lambda error: said.append(str(error)))
    found.on("console", lambda message: said.append(message.text) if message.type == "error" else 0)
    found.goto(address)
    found.wait_for_selector("#figures canvas[data-frame]")
    found.wait_for_selector("#eigen[data-analysed]")
    found.said = said
    yield found
    context.close()
    assert not [text for text in said if "status of 4" not in text]  # what a test provokes


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


def test_a_dragged_slider_changes_both_pictures_as_decode_says(page, runs):
    shows(page, runs[0], start_of(runs))
    box = page.locator("#z1").bounding_box()
    y, left = box["y"] + box["height"] / 2, box["x"]
    at = float(page.input_value("#z1")) / 6 + 0.5  # of the range from -3 to 3
    page.mouse.move(left + at * box["width"], y)
    page.mouse.down()
    page.mouse.move(left + 0.9 * box["width"], y, steps=12)
    value = float(page.input_value("#z1"))
    code = [z if i != 1 else value for i, z in enumerate(start_of(runs))]
    assert value > 2
    for n, run in enumerate(runs):
        shows(page, run, code, f"#figures canvas >> nth={n}")
    page.mouse.up()
    assert page.text_content("output[for=z1]") == f"{value:.2f}"
    assert np.allclose(code_of(page), code)


def test_by_keyboard(page, runs):
    page.focus("#z0")
    before = float(page.input_value("#z0"))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    value = float(page.input_value("#z0"))
    assert value > before
    shows(page, runs[0], [value, *start_of(runs)[1:]])
    page.focus("#reset")
    page.keyboard.press("Enter")
    shows(page, runs[0], start_of(runs))


def test_steps_along_an_eigenvector(page, runs):
    page.fill("#length", "0.25")
    page.fill("#steps", "2")
    page.get_by_role("button", name="Step forwards along eigenvector 2").click()
    page.get_by_text("2 steps forwards along eigenvector 2").wait_for()
    code = [z + 0.5 * (i == 1) for i, z in enumerate(start_of(runs))]
    shows(page, runs[0], code)
    # Of the other model the leading vectors come in the other order.
    page.select_option("#lead", label="plain")
    page.get_by_role("button", name="Step backwards along eigenvector 1").click()
    page.get_by_text("2 steps backwards along eigenvector 1").wait_for()
    code[3] -= 0.5
    assert np.allclose(code_of(page), code, atol=1e-4)
    about = page.locator("#vectors .about").first
    until(about.text_content, lambda text: text == "σ 0.800 · 100 % along z4")
    assert "eigenvector 1: 100 % along z4" in page.get_attribute("#heatmap", "aria-label")


def test_sliders_say_how_much_they_matter_and_are_put_in_that_order(page):
    page.wait_for_selector("#order option[value=tpl]", state="attached")
    about = page.get_attribute("#z1", "aria-describedby")
    assert page.text_content(f"#{about}") == "TPL 0.400 · aligned by the penalty"
    names = page.locator("#sliders label")
    assert names.all_text_contents() == ["z1", "z2", "z3", "z4"]
    page.select_option("#order", "tpl")
    assert names.all_text_contents() == ["z2", "z4", "z3", "z1"]


def test_masks(page, runs):
    page.select_option("#mask", label="z3")
    code = torch.tensor([start_of(runs)])
    system = runs[0].system
    masked = overlay(system.decode(code).clamp(0, 1), system.code_masks(code)[:, 2])[0]
    expected = masked.detach().movedim(0, -1).numpy() * 255
    read = functools.partial(pixels, page, "#figures canvas >> nth=0")
    until(read, lambda got: np.abs(got - expected).max() <= 0.51)
    page.select_option("#mask", label="none")
    shows(page, runs[0], code[0].tolist())


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


def test_frames_come_while_one_drags(page, runs):
    """How many a second depends on the machine; the last one is of the last code."""
    frames = page.evaluate(
        """async () => {
          const input = document.querySelector('#z2');
          const canvas = document.querySelector('#figures canvas');
          const seen = new Set();
          for (let n = 0; n < 60; n += 1) {
            input.value = 2 * Math.sin(n / 9);
            input.dispatchEvent(new Event('input', { bubbles: true }));
            await new Promise(requestAnimationFrame);
            seen.add(canvas.dataset.frame);
          }
          return seen.size;
        }"""
    )
    assert frames > 3
    code = start_of(runs)
    code[2] = float(page.input_value("#z2"))
    shows(page, runs[0], code)


NAMELESS = """() => {
  const named = (e) => e.getAttribute('aria-label') || e.labels?.[0]?.textContent.trim() ||
    (e.tagName === 'BUTTON' && e.textContent.trim());
  const controls = [...document.querySelectorAll('button, input, select, canvas, meter')];
  return controls.filter((e) => e.offsetParent !== null && !named(e)).map((e) => e.outerHTML);
}"""
ON_SCREEN = """() => {
  const { left, right } = document.activeElement.getBoundingClientRect();
  return left >= 0 && right <= innerWidth;
}"""


def test_a_phones_width_and_names_for_screen_readers(page):
    page.click("#keep")
    page.wait_for_selector("#kept li")
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.locator("h1").count() == 1
    assert page.get_by_label("z1", exact=True).get_attribute("type") == "range"
    assert page.get_attribute("#status", "role") == "status"
    assert page.get_attribute("#alert", "role") == "alert"
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.scrollingElement.scrollWidth") == 390
    for _ in range(30):  # what the keyboard reaches lies on the screen
        page.keyboard.press("Tab")
        assert page.evaluate(ON_SCREEN)
    page.locator("#z3").scroll_into_view_if_needed()
    assert page.locator("#figures canvas").first.bounding_box()["y"] >= 0  # it stays in sight


TRIED = """async (address) => {
  const socket = await new Promise((done) => {
    const made = new WebSocket(address.replace('http', 'ws') + 'live');
    made.onopen = () => done('open');
    made.onerror = () => done('refused');
  });
  const ask = (path, how) => fetch(address + path, how).then((r) => r.text(), () => 'refused');
  const post = { method: 'POST', body: '{"model": 0}' };
  return [socket, await ask('about'), await ask('sample', post)];
}"""
FRAMED = """(address) => new Promise((done) => {
  const frame = document.createElement('iframe');
  frame.onload = done;
  frame.src = address;
  document.body.append(frame);
})"""


@pytest.mark.parametrize("origin", ["http://127.0.0.1:1/", "http://evil.example/"])
def test_a_page_of_another_origin_is_refused(browser, address, page, origin):
    """Also of this machine, where browsers are less strict; the page itself is let in."""
    served, *rest = page.evaluate(TRIED, address)
    assert served == "open"
    assert all(text.startswith("{") for text in rest)
    context = browser.new_context()
    elsewhere = context.new_page()
    html = "<!DOCTYPE html><title>elsewhere</title>"
    elsewhere.route(origin, lambda route: route.fulfill(body=html, content_type="text/html"))
    elsewhere.goto(origin)
    assert elsewhere.evaluate(TRIED, address) == ["refused"] * 3
    elsewhere.evaluate(FRAMED, address)
    (frame,) = elsewhere.main_frame.child_frames
    assert "pydisent" not in frame.title()
    context.close()
