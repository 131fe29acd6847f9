"""How the server starts: its port, and the browser that it opens."""

import re
import socket
import webbrowser

import pytest

from pydisent.explore import serve


def test_a_port_that_is_taken_is_named(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port must be free, got {port}: "):
            serve([run], port=port, browser=False, announce=lambda address: None)
    with pytest.raises(ValueError, match=r"port must be an integer in \[0, 65535\], got 70000"):
        serve([run], port=70000)


@pytest.mark.parametrize(
    ("kind", "opens"), [(webbrowser.BackgroundBrowser, True), (webbrowser.GenericBrowser, False)]
)
def test_a_browser_of_the_terminal_is_not_opened(run, monkeypatch, kind, opens):
    asked = []

    found = kind("true")
    monkeypatch.setattr(kind, "open", lambda self, address: asked.append(address))
    monkeypatch.setattr(webbrowser, "get", lambda: found)
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)
    said = []
    serve([run], announce=said.append)
    assert asked == (said if opens else [])
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{22}/", said[0])
