"""Who may ask the server, and that nothing but the page can be read."""

import pytest
from _explore_client import CODE, HOST, TOKEN, ask, client_of
from starlette.websockets import WebSocketDisconnect


@pytest.mark.parametrize(
    "path",
    [
        "config.json", "..", "../", "../config.json", "..%2fconfig.json", "%2e%2e/config.json",
        "%2fetc%2fpasswd", "/etc/passwd", "static/explore.js", "explore.py", "_app.py", "data/0",
        "..\\config.json", "explore.js/../../config.json", "docs", "openapi.json",
    ],
)  # fmt: skip
def test_nothing_else_can_be_read(client, run, path):
    run.path.mkdir(parents=True)
    (run.path / "config.json").write_text("{}")
    found = client.get(f"/{TOKEN}/{path}")
    assert found.status_code in (403, 404)
    assert "{}" not in found.text


OTHERS = [
    {"host": "evil.example:8123"},
    {"host": "127.0.0.1"},
    {"host": "127.0.0.1:9999"},
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:9999"},
    {"origin": f"https://{HOST}"},
    {"origin": "http://localhost:8123"},  # of the other name, which is another origin
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
]


@pytest.mark.parametrize("headers", OTHERS, ids=str)
def test_other_origins_and_hosts_are_refused(client, headers):
    assert client.get(f"/{TOKEN}/", headers=headers).status_code == 403
    asked = client.post(f"/{TOKEN}/pictures", json={"codes": [CODE]}, headers=headers)
    assert asked.status_code == 403
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect(f"ws://{HOST}/{TOKEN}/live", headers=headers),
    ):
        pass


def test_who_names_no_origin_may_read_alone(run):
    with client_of(run) as client:
        assert client.get(f"/{TOKEN}/").status_code == 200
        assert ask(client, "sample", model=0).status_code == 403
        with (
            pytest.raises(WebSocketDisconnect),
            client.websocket_connect(f"ws://{HOST}/{TOKEN}/live"),
        ):
            pass


def test_a_link_to_the_page_may_be_followed_and_nothing_else(run):
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    with client_of(run) as client:
        found = client.get(f"/{TOKEN}/", headers=link | {"sec-fetch-dest": "document"})
        assert found.status_code == 200
        found = client.get(f"/{TOKEN}/", headers=link | {"sec-fetch-dest": "iframe"})
        assert found.status_code == 403


@pytest.mark.parametrize("path", ["", "guess/", "guess/about", "secre/", "secrets/", "Secret/"])
def test_without_the_token_nothing_is_there(client, path):
    assert client.get(f"/{path}").status_code == 404
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect(f"ws://{HOST}/{path}live"),
    ):
        pass
