"""The page in a browser is let in, and a page of another origin is not."""

import pytest
from _browser import needs_browser

pytestmark = needs_browser

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
