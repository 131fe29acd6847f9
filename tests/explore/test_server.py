"""The server: who may ask, what can be asked, and what is said of bad requests."""

import base64
import io
import json
import re
import socket
import struct
import threading
import webbrowser

import numpy as np
import pytest
import torch
from _bad_uploads import BAD
from _fake_runs import fake_run
from PIL import Image
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from pydisent.explore import build_app, models_of, serve

HOST, TOKEN = "127.0.0.1:8123", "secret"
ORIGIN = {"origin": f"http://{HOST}"}
CODE = [0.3, -1.0, 2.0, 0.5]


def client_of(*runs, **headers):
    app = build_app(models_of(runs), TOKEN, [HOST, "localhost:8123"])
    return TestClient(app, base_url=f"http://{HOST}", headers=headers)


@pytest.fixture
def client(run):
    with client_of(run, **ORIGIN) as found:
        yield found


@pytest.fixture
def masked(tmp_path):
    """Two runs, the first with masks."""
    first = fake_run(tmp_path / "masked", masks=True)
    with client_of(first, fake_run(tmp_path / "plain"), **ORIGIN) as found:
        yield found


def ask(client, path, **body):
    return client.post(f"/{TOKEN}/{path}", json=body)


def pixels_of(packed):
    data = np.frombuffer(base64.b64decode(packed["pixels"]), np.uint8)
    return data.reshape(packed["height"], packed["width"], 4)


def test_the_page_and_its_files(client):
    page = client.get(f"/{TOKEN}/")
    assert page.status_code == 200
    assert "explore.js" in page.text
    assert "<script>" not in page.text
    assert "style=" not in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    for name, kind in (("explore.js", "text/javascript"), ("explore.css", "text/css")):
        found = client.get(f"/{TOKEN}/{name}")
        assert found.headers["content-type"].startswith(kind)
        assert len(found.content) > 1000


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


def test_about_and_strengths(masked):
    first, second = masked.get(f"/{TOKEN}/about").json()["models"]
    assert (first["label"], second["label"]) == ("masked", "plain")
    assert first["names"] == ["z1", "z2", "z3", "z4"]
    assert (first["masks"], second["masks"]) == (True, False)
    assert first["aligned"] == 2
    assert [len(s["missing"]) for s in masked.get(f"/{TOKEN}/strengths").json()] == [0, 0]


def test_a_drawn_code_is_another_each_time(client):
    drawn = [ask(client, "sample", model=0).json()["code"] for _ in range(2)]
    assert all(len(code) == 4 for code in drawn)
    assert drawn[0] != drawn[1]


def test_pictures_of_codes(masked):
    pictures = ask(masked, "pictures", codes=[CODE, [0, 0, 0, 0]]).json()["pictures"]
    assert [len(of) for of in pictures] == [2, 2]
    assert (pixels_of(pictures[1][1])[..., :3] == 128).all()


def test_steps_along_an_eigenvector(client):
    asked = {"model": 0, "code": CODE, "ordinal": 1, "steps": 2, "length": 0.5}
    found = ask(client, "walk", sense="forwards", **asked).json()
    assert found["codes"][1] == pytest.approx([1.3, -1.0, 2.0, 0.5], abs=1e-4)
    again = ask(client, "walk", sense="backwards", direction=found["direction"], **asked).json()
    assert again["codes"][1] == pytest.approx([-0.7, -1.0, 2.0, 0.5], abs=1e-4)


def test_codes_of_pictures(client, run, picture):
    found = ask(client, "image", model=0, index=3).json()
    expected = run.system.encode(run.dataset.images([3]))[0]
    assert found["code"] == pytest.approx(expected.tolist(), abs=1e-5)
    assert pixels_of(found["picture"]).shape == (8, 8, 4)
    found = client.post(f"/{TOKEN}/encode?model=0", content=picture[1]).json()
    assert len(found["code"]) == 4


@pytest.mark.parametrize("name", BAD)
def test_bad_uploads_are_named(client, name):
    stored, reason = BAD[name]
    found = client.post(f"/{TOKEN}/encode?model=0", content=stored)
    assert found.status_code == 400
    assert reason in found.json()["error"]


def test_uploads_have_a_limit(client, monkeypatch):
    monkeypatch.setattr("pydisent.explore._app.UPLOAD_BYTES", 1000)
    found = client.post(f"/{TOKEN}/encode?model=0", content=bytes(1001))
    assert found.status_code == 413
    assert "at most 1000 bytes" in found.json()["error"]
    monkeypatch.setattr("pydisent.explore._app.LONGEST_MESSAGE", 10)
    assert ask(client, "sample", model=0, more="x" * 10).status_code == 413


def test_exported_pictures(masked, run):
    drawn = ask(masked, "png", model=0, codes=[CODE, CODE], names=["one", "two\nlines"])
    with Image.open(io.BytesIO(drawn.content)) as image:
        assert image.format == "PNG"
    names = ["−1", "0", "1"]
    made = ask(masked, "gif", model=0, codes=[CODE] * 3, names=names, title="z1")
    with Image.open(io.BytesIO(made.content)) as image:
        assert image.format == "GIF"
        assert image.n_frames == 4  # there and back


GOOD = {"model": 0, "code": CODE, "ordinal": 1, "sense": "forwards", "length": 0.1, "steps": 1}


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("sample", b"", "the message must be JSON"),
        ("sample", b"[1]", "must be a JSON object, got list"),
        ("sample", b'{"model": NaN}', "numbers must be finite, got NaN"),
        ("sample", b"[" * 100_000, "must be JSON"),
        ("sample", b"\xff\xfe\xfa", "must be JSON"),
        ("sample", {"model": 1}, "model must be an integer in [0, 0], got 1"),
        ("sample", {"model": True}, "model must be an integer"),
        ("pictures", {"codes": []}, "codes must be from 1 to 240, got 0"),
        ("pictures", {"codes": [CODE] * 241}, "codes must be from 1 to 240, got 241"),
        ("pictures", {"codes": "all"}, "codes must be a list"),
        ("pictures", {"codes": [CODE, CODE[:3]]}, "codes[1] must be a list of 4 numbers, got 3"),
        ("pictures", {"codes": [[1, 2, 3, "4"]]}, "must be a list of numbers, got '4' among them"),
        ("pictures", {"codes": [[1, 2, 3, True]]}, "must be a list of numbers"),
        ("pictures", {"codes": [[1, 2, 3, 1e300]]}, "must be of numbers in [-10000.0, 10000.0]"),
        ("walk", GOOD | {"ordinal": 5}, "ordinal must be an integer in [1, 4], got 5"),
        ("walk", GOOD | {"sense": "up"}, "sense must be one of 'forwards', 'backwards', got 'up'"),
        ("walk", GOOD | {"length": 0}, "length must be a number in (0, 10.0], got 0"),
        ("walk", GOOD | {"steps": 51}, "steps must be an integer in [1, 50], got 51"),
        ("walk", GOOD | {"direction": [1]}, "direction must be a list of 4 numbers, got 1"),
        ("image", {"model": 0, "index": 40}, "index must be an integer in [0, 39], got 40"),
        ("image", {"model": 0, "index": "../x"}, "index must be an integer"),
        ("encode?model=7", b"", "model must be an integer in [0, 0], got 7"),
        ("encode", b"", "model must be an integer"),
        ("encode?model=../..", b"", "model must be an integer"),
        ("png", {"codes": [CODE], "names": []}, "names must be 1 texts, got 0"),
        ("gif", {"codes": [CODE], "names": ["a"], "title": 3}, "names must be a list of texts"),
    ],
)
def test_bad_requests_say_what_is_wrong(client, path, body, reason):
    content = body if isinstance(body, bytes) else json.dumps(body)
    found = client.post(f"/{TOKEN}/{path}", content=content)
    assert found.status_code == 400
    assert reason in found.json()["error"]


def test_what_fails_inside_is_an_error_of_the_page_too(client, run, caplog):
    def failing(code):
        raise MemoryError("no memory")

    run.system.decode = failing
    found = ask(client, "pictures", codes=[CODE])
    assert found.status_code == 500
    assert found.json()["error"] == "MemoryError: no memory"
    assert "failed" in caplog.text


def frame(data):
    number, model, kind, height, width, _ = struct.unpack_from("<IBBHHH", data)
    pixels = np.frombuffer(data, np.uint8, offset=12).reshape(height, width, 4)
    return number, model, kind, pixels


def live(client):
    return client.websocket_connect(f"ws://{HOST}/{TOKEN}/live")


def test_the_socket_sends_frames_and_eigenvectors(masked, tmp_path):
    with live(masked) as opened:
        opened.send_json({"type": "show", "id": 5, "code": CODE, "mask": 1})
        frames = [frame(opened.receive_bytes()) for _ in range(3)]
        assert [f[:3] for f in frames] == [(5, 0, 0), (5, 0, 1), (5, 1, 0)]
        system = fake_run(tmp_path).system
        expected = 255 * system.decode(torch.tensor([CODE]))[0, 0].detach().clamp(0, 1).numpy()
        assert np.abs(frames[2][3][..., 1] - expected).max() <= 0.5 + 1e-3
        opened.send_json({"type": "analyse", "id": 6, "code": CODE, "model": 1})
        found = opened.receive_json()
        assert (found["type"], found["id"], found["model"]) == ("analysis", 6, 1)
        assert found["eigenvalues"] == pytest.approx([0.81, 0.36, 0.09, 0.01], rel=1e-3)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("{", "must be JSON"),
        ("7", "must be a JSON object"),
        ({"type": "run", "id": 1}, "type must be one of 'show', 'analyse', got 'run'"),
        ({"type": "show", "id": -1, "code": CODE}, "id must be an integer"),
        ({"type": "show", "id": 2**32, "code": CODE}, "id must be an integer"),
        ({"type": "show", "id": 1, "code": None}, "code must be a list"),
        ({"type": "show", "id": 1, "code": CODE, "mask": 4}, "mask must be an integer in [0, 3]"),
        ({"type": "analyse", "id": 1, "code": CODE}, "model must be an integer"),
        (b"bytes", "must be text, got bytes"),
    ],
)
def test_bad_messages_are_answered_and_the_socket_goes_on(client, message, reason):
    with live(client) as opened:
        if isinstance(message, bytes):
            opened.send_bytes(message)
        else:
            opened.send_text(message if isinstance(message, str) else json.dumps(message))
        found = opened.receive_json()
        assert found["type"] == "error"
        assert reason in found["message"]
        opened.send_json({"type": "show", "id": 1, "code": CODE})
        assert frame(opened.receive_bytes())[0] == 1


def test_what_cannot_be_computed_is_said_and_the_socket_goes_on(client, run):
    run.system.decode = lambda code: code * float("nan")
    with live(client) as opened:
        opened.send_json({"type": "analyse", "id": 1, "code": CODE, "model": 0})
        found = opened.receive_json()
        assert (found["type"], found["of"]) == ("error", "analyse")
        opened.send_json({"type": "show", "id": 1, "code": CODE})
        assert frame(opened.receive_bytes())[0] == 1


def test_the_newest_code_wins(run):
    models = models_of([run])
    begun, release, decoded = threading.Event(), threading.Event(), []
    whole = models[0].frames

    def slow(code, mask=None):
        decoded.append(code[0].item())
        begun.set()
        release.wait(20)
        return whole(code, mask)

    models[0].frames = slow
    app = build_app(models, TOKEN, [HOST])
    with (
        TestClient(app, base_url=f"http://{HOST}", headers=ORIGIN) as client,
        live(client) as opened,
    ):
        for number in range(1, 101):
            opened.send_json({"type": "show", "id": number, "code": [number, 0, 0, 0]})
            if number == 1:
                assert begun.wait(20)
        opened.send_text("{")  # which is answered when all before it have been read
        assert opened.receive_json()["type"] == "error"
        release.set()
        assert [frame(opened.receive_bytes())[0] for _ in range(2)] == [1, 100]
        assert decoded == [1.0, 100.0]


def test_pages_have_sockets_of_their_own(client):
    with live(client) as one, live(client) as other:
        for number, opened in enumerate((one, other)):
            opened.send_json({"type": "show", "id": number, "code": CODE})
        assert [frame(s.receive_bytes())[0] for s in (one, other)] == [0, 1]


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
