"""The socket of the page: its frames, its errors, and that the newest code wins."""

import json
import threading

import numpy as np
import pytest
import torch
from _explore_client import CODE, HOST, ORIGIN, TOKEN, frame, live
from _fake_runs import fake_run
from starlette.testclient import TestClient

from pydisent.explore import build_app, models_of


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
