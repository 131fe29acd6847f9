"""The page in a browser: by keyboard, for screen readers, and of a phone's width."""

from _browser import needs_browser, shows, start_of

pytestmark = needs_browser


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
