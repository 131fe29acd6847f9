"""The page in a browser: sliders, eigenvectors and masks change the pictures as ``decode`` says."""

import functools

import numpy as np
import torch
from _browser import code_of, needs_browser, pixels, shows, start_of, until

from pydisent.reports.masks import overlay

pytestmark = needs_browser


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
